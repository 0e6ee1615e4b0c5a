//! What instructions make of the image's state, and what the wrong ones are told.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::build::Healthcheck;

fn state(text: &str) -> ImageState {
    plan(&format!("FROM scratch\n{text}\n"))
        .plan
        .stages
        .pop()
        .unwrap()
        .state
}

fn own_env(text: &str) -> Vec<(String, String)> {
    let mut env = state(text).env;
    env.retain(|(name, _)| name != "PATH");
    env
}

fn sentence(text: &str) -> String {
    let request = Request::new("linux/amd64");
    match plan_with(text, &request, &[]) {
        Ok(planned) => panic!("{text:?} is no error: {planned:#?}"),
        Err(error) => error.sentence(),
    }
}

#[test]
fn variables_are_set_in_both_forms() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("ENV a=1", &[("a", "1")]),
        ("ENV a=1 b=2", &[("a", "1"), ("b", "2")]),
        ("ENV a 1 b=2", &[("a", "1 b=2")]),
        ("ENV a    1", &[("a", "1")]),
        (
            "ENV a=\"x y\" b='$a' c=x\\ y",
            &[("a", "x y"), ("b", "$a"), ("c", "x y")],
        ),
        ("ENV a= b=\"\"", &[("a", ""), ("b", "")]),
        ("ENV a=b=c", &[("a", "b=c")]),
        (
            "ENV a=1\nENV b=$a a=2\nENV c=$a",
            &[("a", "2"), ("b", "1"), ("c", "2")],
        ),
        ("ENV a=1 b=$a", &[("a", "1"), ("b", "")]),
        ("ENV n=x\nENV $n=1", &[("n", "x"), ("x", "1")]),
        ("ENV a=x \\\n  b=y", &[("a", "x"), ("b", "y")]),
        ("ARG a=1\nENV b=$a", &[("b", "1")]),
        ("ENV a=1\nARG a=2\nENV b=$a", &[("a", "1"), ("b", "2")]),
        ("ARG a=2\nENV a=1\nENV b=$a", &[("a", "1"), ("b", "1")]),
        (
            "ENV p=a:b\nENV q=${p%%:*}/${p#*:}",
            &[("p", "a:b"), ("q", "a/b")],
        ),
    ];
    for (text, expected) in table {
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(own_env(text), expected, "{text:?}");
    }
}

#[test]
fn working_directories_are_relative_to_the_last() {
    for (text, expected) in [
        ("WORKDIR /a", "/a"),
        ("WORKDIR a", "/a"),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR c/", "/a/b/c"),
        ("WORKDIR /a\nWORKDIR ../b/./c//d", "/b/c/d"),
        ("WORKDIR /a\nWORKDIR /", "/"),
        ("WORKDIR /../..", "/"),
        ("ENV D=/x\nWORKDIR $D/y", "/x/y"),
        ("WORKDIR /with space", "/with space"),
    ] {
        assert_eq!(state(text).working_dir, expected, "{text:?}");
    }
}

#[test]
fn programs_are_in_shell_or_exec_form() {
    let sh = |script: &str| Some(vec!["/bin/sh".into(), "-c".into(), script.to_owned()]);
    let exec = |argv: &[&str]| Some(argv.iter().map(|word| (*word).to_owned()).collect());
    type Argv = Option<Vec<String>>;
    let table: [(&str, Argv, Argv); 14] = [
        ("CMD a  b", sh("a  b"), None),
        ("CMD [\"a\", \"b c\"]", exec(&["a", "b c"]), None),
        ("CMD []", exec(&[]), None),
        ("CMD ['a']", sh("['a']"), None),
        ("CMD [ \"a\" ] x", sh("[ \"a\" ] x"), None),
        ("CMD $A \"$B\"", sh("$A \"$B\""), None),
        ("ENTRYPOINT [\"e\"]", None, exec(&["e"])),
        ("ENTRYPOINT e f", None, sh("e f")),
        ("CMD a\nENTRYPOINT [\"e\"]", sh("a"), exec(&["e"])),
        (
            "ENTRYPOINT [\"e\"]\nCMD [\"a\"]",
            exec(&["a"]),
            exec(&["e"]),
        ),
        ("ENTRYPOINT []", None, None),
        ("CMD a\nCMD b", sh("b"), None),
        (
            "SHELL [\"/bin/bash\", \"-lc\"]\nCMD a",
            exec(&["/bin/bash", "-lc", "a"]),
            None,
        ),
        ("SHELL [\"x\"]\nENTRYPOINT a b", None, exec(&["x", "a b"])),
    ];
    for (text, cmd, entrypoint) in table {
        let state = state(text);
        assert_eq!((state.cmd, state.entrypoint), (cmd, entrypoint), "{text:?}");
    }
}

#[test]
fn a_base_gives_its_state_and_entrypoint_drops_its_cmd() {
    let base = ImageState {
        env: vec![("A".into(), "base".into()), ("PATH".into(), "/p".into())],
        user: "dev".into(),
        working_dir: "/w".into(),
        shell: vec!["/bin/ash".into(), "-c".into()],
        cmd: Some(vec!["old".into()]),
        labels: BTreeMap::from([("l".into(), "1".into())]),
        exposed_ports: vec!["80/tcp".into()],
        volumes: vec!["/v".into()],
        ..ImageState::default()
    };
    let text = "FROM base AS one\nENV B=$A\nWORKDIR x\nEXPOSE 81\nVOLUME /v /u\nLABEL m=$A\nRUN r\nCMD c\n\
                FROM one as two\nENTRYPOINT [\"e\"]\nFROM two\nCMD new\n";
    let planned = plan_with(
        text,
        &Request::new("linux/amd64"),
        &[("base", base.clone())],
    )
    .unwrap();
    let [one, two, three] = planned.plan.stages.as_slice() else {
        panic!("{planned:#?}")
    };
    assert_eq!(one.state.working_dir, "/w/x");
    assert_eq!(one.state.user, "dev");
    assert_eq!(one.state.env[2], ("B".into(), "base".into()));
    assert_eq!(one.state.exposed_ports, ["80/tcp", "81/tcp"]);
    assert_eq!(one.state.volumes, ["/v", "/u"]);
    assert_eq!(one.state.labels["m"], "base");
    assert_eq!(one.state.cmd.as_ref().unwrap(), &["/bin/ash", "-c", "c"]);
    let Op::Run(run) = &one.steps[1].op else {
        panic!("{one:#?}")
    };
    assert_eq!(run.argv, ["/bin/ash", "-c", "r"]);
    assert_eq!(run.env[1], ("PATH".into(), "/p".into()));
    assert_eq!(two.base, Base::Stage(0));
    assert_eq!(two.state.entrypoint.as_ref().unwrap(), &["e"]);
    assert_eq!(three.base, Base::Stage(1));
    assert_eq!(three.state.entrypoint, two.state.entrypoint);
    let text = "FROM base\nENTRYPOINT [\"e\"]\n";
    let planned = plan_with(text, &Request::new("linux/amd64"), &[("base", base)]).unwrap();
    assert_eq!(planned.plan.stages[0].state.cmd, None);
}

#[test]
fn the_rest_of_the_state_is_as_docker_keeps_it() {
    let found = state(
        "LABEL a=1 b=\"x y\" a=2\nLABEL c d e\nLABEL com.example/x=\\$y\nMAINTAINER Me <me@x>\n\
         EXPOSE 80 53/udp 8000-8002/TCP 127.0.0.1:90:91\nENV P=\"1 2\"\nEXPOSE $P\n\
         VOLUME /a /b\nVOLUME [\"/c d\"]\nSTOPSIGNAL SIGQUIT\nUSER 1000:1000\n\
         ONBUILD RUN x  y\nONBUILD COPY . /a\n",
    );
    let labels: Vec<(&str, &str)> = found
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("a", "2"),
        ("b", "x y"),
        ("c", "d e"),
        ("com.example/x", "$y"),
    ];
    assert_eq!(labels, expected);
    assert_eq!(found.author.as_deref(), Some("Me <me@x>"));
    let mut ports = found.exposed_ports;
    ports.sort();
    let expected = [
        "1/tcp", "2/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp", "91/tcp",
    ];
    assert_eq!(ports, expected);
    assert_eq!(found.volumes, ["/a", "/b", "/c d"]);
    assert_eq!(found.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(found.user, "1000:1000");
    assert_eq!(found.onbuild, ["RUN x  y", "COPY . /a"]);
}

#[test]
fn health_checks_have_durations() {
    let check = |test: &[&str]| Healthcheck {
        test: test.iter().map(|word| (*word).to_owned()).collect(),
        ..Healthcheck::default()
    };
    let second = 1_000_000_000;
    for (text, expected) in [
        ("HEALTHCHECK NONE", check(&["NONE"])),
        ("HEALTHCHECK CMD a b", check(&["CMD-SHELL", "a b"])),
        ("HEALTHCHECK cmd [\"a\", \"b\"]", check(&["CMD", "a", "b"])),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5h \
             --start-interval=0 --retries=3 CMD a",
            Healthcheck {
                interval: 90 * second,
                timeout: second / 2,
                start_period: 5400 * second,
                retries: 3,
                ..check(&["CMD-SHELL", "a"])
            },
        ),
    ] {
        assert_eq!(state(text).healthcheck, Some(expected), "{text}");
    }
}

#[test]
fn what_is_wrong_names_its_place() {
    let table: &[(&str, &str)] = &[
        ("", "1:1: there is no FROM"),
        ("# only\n", "2:1: there is no FROM"),
        ("RUN a", "1:1: only ARG may stand before the first FROM"),
        ("ARG A\nENV A=b\nFROM a", "2:1: only ARG may"),
        (
            "FROM a\nRUNN b",
            "2:1: there is no instruction \"RUNN\"; did you mean RUN?",
        ),
        (
            "FROM a\n  COPPY a b",
            "2:3: there is no instruction \"COPPY\"; did you mean COPY?",
        ),
        ("FROM a\n{}", "2:1: there is no instruction \"{}\""),
        ("FROM", "1:1: FROM needs an image"),
        ("FROM a b", "1:1: FROM takes"),
        ("FROM a AS", "1:1: FROM takes"),
        ("FROM a AS b c", "1:1: FROM takes"),
        ("FROM a AS 1b", "1:11: a stage's name"),
        ("FROM a AS b$c", "1:11: a stage's name"),
        ("FROM Debian", "1:6: \"Debian\" has capital letters"),
        ("FROM a:b:c", "1:6: \"a:b:c\" is no image's name"),
        ("FROM a@x", "1:6: \"a@x\" has no proper digest"),
        ("FROM $NOPE", "1:6: $NOPE is empty here"),
        ("FROM ${A:?which}", "1:6: A: which"),
        (
            "FROM --platfrom=x a",
            "1:6: FROM has no flag --platfrom; did you mean --platform?",
        ),
        (
            "FROM --platform=linux/arm64 a",
            "1:6: FROM --platform=linux/arm64 is not supported",
        ),
        ("FROM --platform=$NOPE a", "1:6: $NOPE is empty here"),
        (
            "FROM --platform=a/b/c/d a",
            "1:6: \"a/b/c/d\" is no platform",
        ),
        ("FROM a\nFROM --platform a", "2:6: --platform needs a value"),
        ("FROM a\nENV", "2:1: ENV needs name=value"),
        ("FROM a\nENV a", "2:5: ENV needs name=value"),
        ("FROM a\nENV a=b c", "2:9: \"c\" is no name=value"),
        ("FROM a\nENV =b", "2:5: ENV needs a name"),
        ("FROM a\nENV a=b \\\n  =c", "3:3: ENV needs a name"),
        ("FROM a\nENV a=${b", "2:5: a \"${\" has no \"}\""),
        ("FROM a\nENV a=\"b", "2:5: a \" is never closed"),
        ("FROM a\nLABEL a", "2:7: LABEL needs name=value"),
        ("FROM a\nARG", "2:1: ARG needs a name"),
        ("FROM a\nARG =x", "2:5: ARG needs a name"),
        ("FROM a\nWORKDIR", "2:1: WORKDIR needs a value"),
        ("FROM a\nUSER", "2:1: USER needs a value"),
        ("FROM a\nUSER --x=y z", "2:6: USER has no flag --x"),
        ("FROM a\nEXPOSE", "2:1: EXPOSE needs a port"),
        ("FROM a\nEXPOSE 80 x", "2:11: \"x\" is no port"),
        (
            "FROM a\nEXPOSE 90-80",
            "2:8: \"90-80\" ends before it begins",
        ),
        ("FROM a\nEXPOSE 70000", "2:8: \"70000\" is no port"),
        (
            "FROM a\nEXPOSE 80/icmp",
            "2:8: \"80/icmp\" has another protocol",
        ),
        ("FROM a\nVOLUME", "2:1: VOLUME needs a path"),
        ("FROM a\nVOLUME [\"\"]", "2:1: VOLUME needs a path"),
        (
            "FROM a\nVOLUME [1]",
            "2:8: a list of paths has strings only",
        ),
        (
            "FROM a\nCMD [1]",
            "2:1: a list of arguments has strings only",
        ),
        ("FROM a\nRUN []", "2:1: RUN needs a program"),
        ("FROM a\nSHELL bash", "2:1: SHELL needs a JSON list"),
        ("FROM a\nSHELL []", "2:1: SHELL needs a JSON list"),
        ("FROM a\nSTOPSIGNAL SIGNOPE", "2:12: there is no signal"),
        ("FROM a\nSTOPSIGNAL 0", "2:12: there is no signal"),
        ("FROM a\nHEALTHCHECK", "2:1: HEALTHCHECK takes CMD"),
        (
            "FROM a\nHEALTHCHECK CMD",
            "2:1: HEALTHCHECK CMD needs a command",
        ),
        (
            "FROM a\nHEALTHCHECK NONE x",
            "2:1: HEALTHCHECK NONE takes nothing",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=x CMD a",
            "2:13: --interval=x is no duration",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1ns CMD a",
            "2:13: --interval=1ns is less than",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=-1s CMD a",
            "2:13: --interval=-1s is no duration",
        ),
        (
            "FROM a\nHEALTHCHECK --retries=-1 CMD a",
            "2:13: --retries is a number",
        ),
        ("FROM a\nONBUILD", "2:1: ONBUILD needs"),
        (
            "FROM a\nONBUILD ONBUILD RUN a",
            "2:9: ONBUILD does not take ONBUILD",
        ),
        ("FROM a\nONBUILD FROM b", "2:9: ONBUILD does not take FROM"),
        ("FROM a\nONBUILD WRONG b", "2:9: there is no instruction"),
        (
            "FROM a\nRUN --network=host b",
            "2:5: RUN --network=host is not supported",
        ),
        (
            "FROM a\nRUN --network=x b",
            "2:5: --network is default or none",
        ),
        (
            "FROM a\nRUN --security=insecure b",
            "2:5: RUN --security=insecure is not",
        ),
        (
            "FROM a\nRUN --device=x b",
            "2:5: RUN --device is not supported",
        ),
        (
            "FROM a\nRUN --mnt=x b",
            "2:5: RUN has no flag --mnt; did you mean --mount?",
        ),
        (
            "FROM a\nCOPY a",
            "2:1: COPY needs a source and a destination",
        ),
        (
            "FROM a\nCOPY a <<b\nb",
            "2:8: COPY needs a destination; a heredoc is none",
        ),
        ("FROM a\nCOPY <<a/b /x\na/b", "2:6: the name of a heredoc"),
        ("FROM a\nCOPY --chmod=9 a b", "2:6: \"9\" is no mode"),
        (
            "FROM a\nCOPY --link=maybe a b",
            "2:6: --link is true or false",
        ),
        (
            "FROM a\nCOPY --chown=a --chown=b a b",
            "2:16: --chown is given twice",
        ),
        (
            "FROM a\nCOPY --checksum=a a b",
            "2:6: COPY has no flag --checksum",
        ),
        ("FROM a\nADD --from=a a b", "2:5: ADD has no flag --from"),
        (
            "FROM a\nCOPY --from=$X a b",
            "2:6: --from takes no variable",
        ),
        (
            "FROM a\nCOPY --from=3 a b",
            "2:6: there is no stage 3; there are 1",
        ),
        (
            "FROM a AS x\nCOPY --from=x a b",
            "2:6: this is stage x, which cannot read itself",
        ),
        ("FROM a AS x\nCOPY --from=0 a b", "2:6: this is stage 0"),
        (
            "FROM a AS x\nCOPY --from=y a b\nFROM c AS y\nFROM x",
            "2:6: stage y begins in line 3; what reads it has to stand behind it",
        ),
        (
            "FROM a\nCOPY --from=scratch a b",
            "2:6: scratch has no files",
        ),
        ("FROM a\nCOPY https://x/y /z", "2:6: COPY takes files"),
        ("FROM a\nCOPY git@x:y /z", "2:6: COPY takes files"),
        (
            "FROM a\nADD --checksum=sha256:00 https://x/y /z",
            "2:26: --checksum of a URL",
        ),
        (
            "FROM a\nADD --checksum=x a b",
            "2:18: --checksum is for a URL",
        ),
        (
            "FROM a\nADD --checksum=x a b c",
            "2:5: --checksum is for one source",
        ),
        (
            "FROM a\nADD https://x/y.git?foo=bar /z",
            "2:5: \"https://x/y.git?foo=bar\" has foo=bar",
        ),
        ("FROM a\nADD http:/// /z", "2:5: \"http:///\" names no host"),
        ("FROM a\nRUN \0", "2:5: a Dockerfile has no NUL"),
    ];
    for (text, expected) in table {
        let why = sentence(text);
        let found = why.strip_prefix("Dockerfile:").unwrap();
        assert!(found.starts_with(expected), "{text:?}: {why}");
    }
}

#[test]
fn an_error_quotes_the_line() {
    let request = Request::new("linux/amd64");
    let error = plan_with(
        "FROM a\nRUN x && \\\n  y\nEXPOSE \u{1b}[1m nope\n",
        &request,
        &[],
    );
    let expected = "Dockerfile:4:8: \"\\u{1b}[1m\" is no port; write it as 80, 80/tcp or \
                    8000-8010\n  4 | EXPOSE \u{fffd}[1m nope\n    |        ^^^^";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn what_was_probably_not_meant_is_a_warning() {
    let mut request = Request::new("linux/amd64");
    for name in ["USED", "UNUSED", "http_proxy", "GLOBAL", "TARGETARCH"] {
        request.build_args.insert(name.into(), "v".into());
    }
    let text = "ARG GLOBAL\nFROM a\nARG USED\nRUN a \\\n\n b\nWORKDIR /$TYPO\nENV A=${B:-x}\n";
    let planned = plan_with(text, &request, &[]).unwrap();
    let warnings: Vec<String> = planned.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "Dockerfile:5:1: an empty line inside of a continued instruction; put # there, or nothing",
        "Dockerfile:7:9: $TYPO is not set here and counts as empty",
        "Dockerfile:2:1: the build argument UNUSED is given, but no ARG takes it",
    ];
    assert_eq!(warnings, expected);
}

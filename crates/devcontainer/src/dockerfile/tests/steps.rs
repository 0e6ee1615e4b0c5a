//! `RUN`, its mounts and heredocs, `COPY` and `ADD`.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::build::{Copy, InlineFile, Run, RunMount, RunMountKind, RunNetwork, Sharing};

fn op(text: &str) -> Op {
    let text = format!("FROM a AS s\nFROM b\nENV D=/d N=7\nWORKDIR /w\n{text}\n");
    let mut planned = plan(&text);
    planned.plan.stages.pop().unwrap().steps.pop().unwrap().op
}

fn run(text: &str) -> Run {
    match op(text) {
        Op::Run(run) => run,
        op => panic!("{op:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match op(text) {
        Op::Copy(copy) => copy,
        op => panic!("{op:?}"),
    }
}

fn sentence(text: &str) -> String {
    let text = format!("FROM a\n{text}\n");
    match plan_with(&text, &Request::new("linux/amd64"), &[]) {
        Ok(planned) => panic!("{text:?} is no error: {planned:#?}"),
        Err(error) => error.sentence(),
    }
}

#[test]
fn commands_are_left_to_the_shell() {
    for (text, expected) in [
        ("RUN a $D \"$E\" && b", "a $D \"$E\" && b"),
        ("RUN a \\\n  b", "a   b"),
        ("RUN --network=none a", "a"),
        ("RUN -- a", "a"),
        ("run a", "a"),
        ("RUN <<EOF\na\n$D\nEOF", "a\n$D\n"),
        ("RUN <<-EOF\n\ta\n\tEOF", "a\n"),
        ("RUN <<EOF cat\na\nEOF", "<<EOF cat\na\nEOF"),
        (
            "RUN cat <<A <<-B > f\n1\nA\n\t2\nB",
            "cat <<A <<-B > f\n1\nA\n\t2\nB",
        ),
    ] {
        assert_eq!(run(text).argv, ["/bin/sh", "-c", expected], "{text:?}");
    }
    assert_eq!(run("RUN [\"a\", \"$D\"]").argv, ["a", "$D"]);
    assert_eq!(run("RUN --network=none a").network, RunNetwork::None);
    assert_eq!(run("RUN --security=sandbox a").network, RunNetwork::Default);
}

#[test]
fn a_heredoc_with_an_interpreter_is_a_script() {
    let run = run("RUN <<-'PY'\n\t#!/usr/bin/env python3\n\tprint('$D')\nPY");
    assert_eq!(run.argv, ["/bin/sh", "-c", "/dev/pipes/PY"]);
    let file = InlineFile {
        path: "/dev/pipes/PY".into(),
        contents: "#!/usr/bin/env python3\nprint('$D')\n".into(),
        mode: 0o755,
    };
    assert_eq!(run.files, [file]);
}

#[test]
fn mounts_have_their_defaults() {
    let bind = |from, source: &str, writable| RunMountKind::Bind {
        from,
        source: source.into(),
        writable,
    };
    let context = || Origin::Context(String::new());
    let cache = |id: &str, from, sharing, mode| RunMountKind::Cache {
        id: id.into(),
        from,
        read_only: false,
        sharing,
        mode,
        uid: 0,
        gid: 0,
    };
    let secret = |id: &str, env: Option<&str>, as_file, required, mode| RunMountKind::Secret {
        id: id.into(),
        env: env.map(str::to_owned),
        as_file,
        required,
        mode,
        uid: 0,
        gid: 0,
    };
    let table = [
        ("target=/t", "/t", bind(context(), "/", false)),
        ("type=bind,target=t", "/w/t", bind(context(), "/", false)),
        ("source=../a/,dst=/t,rw", "/t", bind(context(), "/a", true)),
        (
            "src=a,destination=$D,ro=false",
            "/d",
            bind(context(), "/a", true),
        ),
        (
            "from=s,source=/x,target=/t",
            "/t",
            bind(Origin::Stage(0), "/x", false),
        ),
        ("from=0,target=/t", "/t", bind(Origin::Stage(0), "/", false)),
        (
            "from=i:1,target=/t",
            "/t",
            bind(Origin::Image("i:1".into()), "/", false),
        ),
        (
            "from=scratch,target=/t",
            "/t",
            RunMountKind::Tmpfs { size: None },
        ),
        (
            "type=cache,target=/c/",
            "/c",
            cache("/c", None, Sharing::Shared, 0o755),
        ),
        (
            "type=cache,target=c",
            "/w/c",
            cache("c", None, Sharing::Shared, 0o755),
        ),
        (
            "type=CACHE,id=x$N,target=/c,sharing=LOCKED,mode=0700",
            "/c",
            cache("x7", None, Sharing::Locked, 0o700),
        ),
        (
            "type=cache,target=/c,from=s,source=seed",
            "/c",
            cache(
                "/c",
                Some((Origin::Stage(0), "/seed".into())),
                Sharing::Shared,
                0o755,
            ),
        ),
        (
            "type=tmpfs,target=/t",
            "/t",
            RunMountKind::Tmpfs { size: None },
        ),
        (
            "type=tmpfs,target=/t,size=1.5m",
            "/t",
            RunMountKind::Tmpfs {
                size: Some(3 << 19),
            },
        ),
        (
            "type=secret,id=a/b",
            "/run/secrets/b",
            secret("a/b", None, true, false, 0o400),
        ),
        (
            "type=secret,target=/x/k",
            "/x/k",
            secret("k", None, true, false, 0o400),
        ),
        (
            "type=secret,id=k,env=KEY,required",
            "/run/secrets/k",
            secret("k", Some("KEY"), false, true, 0o400),
        ),
        (
            "type=secret,id=k,env=KEY,target=/k,required=true,mode=0440",
            "/k",
            secret("k", Some("KEY"), true, true, 0o440),
        ),
        (
            "\"type=bind\",\"target=/a,b\"",
            "/a,b",
            bind(context(), "/", false),
        ),
    ];
    for (fields, target, kind) in table {
        // Quotes of the flag itself are the flag's.
        let text = format!("RUN --mount='{fields}' x");
        let mount = RunMount {
            target: target.into(),
            kind,
        };
        assert_eq!(run(&text).mounts, [mount], "{fields}");
    }
}

#[test]
fn an_agent_is_named_by_a_variable() {
    let found = run("RUN --mount=type=ssh --mount=type=ssh,id=x,uid=5,required x");
    let targets: Vec<&str> = found
        .mounts
        .iter()
        .map(|mount| mount.target.as_str())
        .collect();
    assert_eq!(
        targets,
        ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"]
    );
    let sock = |run: &Run| {
        let mut env = run.env.iter().filter(|(name, _)| name == "SSH_AUTH_SOCK");
        env.next().map(|(_, value)| value.clone())
    };
    assert_eq!(sock(&found).as_deref(), Some("/run/buildkit/ssh_agent.0"));
    let RunMountKind::Ssh {
        id,
        required,
        mode,
        uid,
        gid,
    } = &found.mounts[1].kind
    else {
        panic!("{found:?}")
    };
    assert_eq!(
        (id.as_str(), *required, *mode, *uid, *gid),
        ("x", true, 0o600, 5, 0)
    );
    let own = run("ENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh x");
    assert_eq!(sock(&own).as_deref(), Some("/mine"));
    let env = plan("FROM a\nRUN --mount=type=ssh x")
        .plan
        .stages
        .remove(0)
        .state
        .env;
    assert!(
        env.iter().all(|(name, _)| name != "SSH_AUTH_SOCK"),
        "for this step only"
    );
}

#[test]
fn wrong_mounts_are_told() {
    for (fields, expected) in [
        ("", "a mount has no \"\""),
        ("type=volume,target=/x", "type=volume is none of bind"),
        ("target", "target needs a value"),
        ("targt=/x", "a mount has no \"targt\"; did you mean target?"),
        ("target=/", "a mount needs a target other than /"),
        ("target=/x,ro=maybe", "ro=maybe is neither true nor false"),
        ("target=/x,uid=1", "a mount of type bind takes no uid"),
        (
            "target=/x,required",
            "a mount of type bind takes no required",
        ),
        ("target=/x,size=1", "a mount of type bind takes no size"),
        (
            "type=tmpfs,target=/x,mode=0700",
            "a mount of type tmpfs takes no mode",
        ),
        ("type=tmpfs,target=/x,size=x", "size=x is no size"),
        ("type=cache,target=/x,sharing=y", "sharing=y is none of"),
        ("type=cache,target=/x,mode=9", "mode=9 is no octal mode"),
        ("type=cache,target=/x,uid=-1", "uid=-1 is no id"),
        (
            "type=cache,target=/x,env=y",
            "a mount of type cache takes no env",
        ),
        ("type=secret", "a secret needs an id"),
        (
            "type=secret,id=a,source=b",
            "a secret has an id or a source",
        ),
        (
            "type=secret,id=a,from=b",
            "a mount of type secret takes no from",
        ),
        (
            "type=secret,id=a,sharing=shared",
            "a mount of type secret takes no sharing",
        ),
        ("type=ssh,source=/a", "a mount of type ssh takes no source"),
        ("from=$X,target=/x", "from takes no variable"),
        ("\"target=/x", "the quotes of this mount do not match"),
        ("from=7,target=/x", "there is no stage 7"),
    ] {
        let why = sentence(&format!("RUN --mount='{fields}' x"));
        let expected = format!("Dockerfile:2:5: {expected}");
        assert!(why.starts_with(&expected), "{fields}: {why}");
    }
}

#[test]
fn destinations_and_sources_are_absolute() {
    for (text, source, destination) in [
        ("COPY a b", "a", "/w/b"),
        ("COPY a b/", "a", "/w/b/"),
        ("COPY a .", "a", "/w/"),
        ("COPY a ./", "a", "/w/"),
        ("COPY a /", "a", "/"),
        ("COPY a /x/../y/", "a", "/y/"),
        ("COPY a $D/x", "a", "/d/x"),
        ("COPY /a/b /x", "a/b", "/x"),
        ("COPY ../../a /x", "a", "/x"),
        ("COPY . /x", ".", "/x"),
        ("COPY ./ /x", ".", "/x"),
        ("COPY a/ /x", "a", "/x"),
        ("COPY *.go[1] /x", "*.go[1]", "/x"),
        ("COPY [\"a b\", \"/x y/\"]", "a b", "/x y/"),
        ("COPY --parents a/./b/*.c /x/", "a/./b/*.c", "/x/"),
        ("COPY --parents ./a/b /x/", "a/b", "/x/"),
        ("COPY --parents /./a/b /x/", "./a/b", "/x/"),
    ] {
        let copy = copy(text);
        let Some(CopySource::Files { pattern, .. }) = copy.sources.first() else {
            panic!("{copy:?}")
        };
        let found = (pattern.as_str(), copy.destination.as_str());
        // `.` in front of the pivot is the root.
        let source = if source.starts_with("./") {
            "././a/b"
        } else {
            source
        };
        assert_eq!(found, (source, destination), "{text}");
    }
}

#[test]
fn flags_of_copies() {
    let found = copy(
        "COPY --from=s --chown=$N:g --chmod=u=rwX,go=rX --link --parents --exclude=*.o \
         --exclude=**/x a b /x/",
    );
    assert_eq!(found.chown.as_deref(), Some("7:g"));
    assert_eq!(found.chmod.as_deref(), Some("u=rwX,go=rX"));
    assert!(found.link && found.parents && !found.unpack);
    assert_eq!(found.exclude, ["*.o", "**/x"]);
    let files = |pattern: &str| CopySource::Files {
        from: Origin::Stage(0),
        pattern: pattern.into(),
    };
    assert_eq!(found.sources, [files("a"), files("b")]);
    let plain = copy("COPY --link=false --chmod=0755 a b");
    assert!(!plain.link && !plain.parents);
    assert_eq!((plain.chown, plain.chmod.as_deref()), (None, Some("0755")));
    assert!(copy("ADD a.tar /x").unpack);
    assert!(!copy("ADD --unpack=false a.tar /x").unpack);
}

#[test]
fn heredocs_are_files() {
    let found = copy(
        "COPY --chmod=644 <<one.txt <<-'two' plain /x/\n$D \"q\" \\$D\none.txt\n\t$D\n\ttwo\n",
    );
    let inline = |name: &str, contents: &str| {
        CopySource::Inline(InlineFile {
            path: name.into(),
            contents: contents.into(),
            mode: 0o644,
        })
    };
    let plain = CopySource::Files {
        from: Origin::Context(String::new()),
        pattern: "plain".into(),
    };
    let expected = [
        plain,
        inline("one.txt", "/d \"q\" $D\n"),
        inline("two", "$D\n"),
    ];
    assert_eq!(found.sources, expected);
    let remote = plan("FROM a\nADD https://x/$N git@h:r.git#b /x/");
    assert!(remote.needs.contexts.is_empty(), "nor does this");
    assert!(
        !plan("FROM a\nCOPY <<x /\nx").needs.contexts.contains(""),
        "reads no context"
    );
}

#[test]
fn remote_sources_are_urls_or_repositories() {
    let sum = format!("sha256:{}", "0a".repeat(32));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let url = |url: &str, name: &str, checksum: Option<&str>, unpack| CopySource::Url {
        url: url.into(),
        name: name.into(),
        checksum: checksum.map(str::to_owned),
        unpack,
    };
    let git = |url: &str, reference: Option<&str>, subdirectory: Option<&str>| CopySource::Git {
        url: url.into(),
        reference: reference.map(str::to_owned),
        subdirectory: subdirectory.map(str::to_owned),
        keep_git_dir: false,
        submodules: true,
        checksum: None,
    };
    let file = |pattern: &str| CopySource::Files {
        from: Origin::Context(String::new()),
        pattern: pattern.into(),
    };
    let table = [
        (
            "https://x/a/b.tgz".to_owned(),
            url("https://x/a/b.tgz", "b.tgz", None, false),
        ),
        (
            "https://x/a%20b?q=1".to_owned(),
            url("https://x/a%20b?q=1", "a b", None, false),
        ),
        (
            "https://x".to_owned(),
            url("https://x", "__unnamed__", None, false),
        ),
        (
            "https://x/%2e%2e".to_owned(),
            url("https://x/%2e%2e", "__unnamed__", None, false),
        ),
        (
            "--unpack https://x/a".to_owned(),
            url("https://x/a", "a", None, true),
        ),
        (
            format!("--checksum={sum} https://x/a"),
            url("https://x/a", "a", Some(&sum), false),
        ),
        (
            "https://x/$N.git".to_owned(),
            git("https://x/7.git", None, None),
        ),
        (
            "https://x/r.git#main".to_owned(),
            git("https://x/r.git", Some("main"), None),
        ),
        (
            "https://x/r.git#v1:sub/../dir".to_owned(),
            git("https://x/r.git", Some("v1"), Some("dir")),
        ),
        (
            "https://x/r.git#:dir".to_owned(),
            git("https://x/r.git", None, Some("dir")),
        ),
        (
            "https://x/r.git?tag=v1&subdir=a".to_owned(),
            git("https://x/r.git", Some("refs/tags/v1"), Some("a")),
        ),
        (
            "https://x/r.git?branch=b".to_owned(),
            git("https://x/r.git", Some("refs/heads/b"), None),
        ),
        (
            "git@host:o/r.git#b".to_owned(),
            git("git@host:o/r.git", Some("b"), None),
        ),
        ("ssh://git@h/r".to_owned(), git("ssh://git@h/r", None, None)),
        ("git://h/r".to_owned(), git("git://h/r", None, None)),
        (
            format!("--keep-git-dir --checksum={commit} https://x/r.git?submodules=false"),
            CopySource::Git {
                url: "https://x/r.git".into(),
                reference: None,
                subdirectory: None,
                keep_git_dir: true,
                submodules: false,
                checksum: Some(commit.into()),
            },
        ),
        ("github.com/o/r".to_owned(), file("github.com/o/r")),
        ("ftp://x/y".to_owned(), file("ftp:/x/y")),
        ("./https://x".to_owned(), file("https:/x")),
        ("a@b".to_owned(), file("a@b")),
    ];
    for (arguments, expected) in table {
        let copy = copy(&format!("ADD {arguments} /x"));
        assert_eq!(copy.sources, [expected], "{arguments}");
    }
    for (arguments, expected) in [
        ("https://x/r.git?ref=a#b", "names several references"),
        ("https://x/r.git?ref=a&tag=b", "names several references"),
        ("https://x/r.git?ref=", "has no value"),
        ("https://x/r.git?submodules=x", "is neither true nor false"),
        ("https://x/r.git?mtime=commit", "is not supported"),
        ("--checksum=zz https://x/r.git", "is a commit"),
        (
            "--keep-git-dir=false https://x/r.git?keep-git-dir",
            "different things",
        ),
        (
            "--checksum=aaaaaaa https://x/r.git?commit=bbbbbbb",
            "different commits",
        ),
    ] {
        let why = sentence(&format!("ADD {arguments} /x"));
        assert!(why.contains(expected), "{arguments}: {why}");
    }
}

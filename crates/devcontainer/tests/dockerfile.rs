//! No Dockerfile, however written, brings a panic, a hang or unbounded memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_devcontainer::ErrorKind;
use boatyard_devcontainer::build::{BuildPlan, ImageState};
use boatyard_devcontainer::dockerfile::{
    Answer, Dockerfile, Ignore, NamedContext, Pattern, Request,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Everything there is to ask of a file; what must hold of any.
fn run(text: &str) -> Result<BuildPlan, String> {
    let shown = |error: boatyard_devcontainer::Error| {
        let text = error.to_string();
        let controls = text.matches(|letter: char| letter.is_control() && letter != '\n');
        assert_eq!(controls.count(), 0, "{text:?}");
        text
    };
    let file = Dockerfile::parse("Dockerfile", text).map_err(shown)?;
    let mut request = Request::new("linux/amd64");
    request.build_args.insert("A".into(), "${A}\u{1b}".into());
    request.contexts.insert("c".into(), NamedContext::Files);
    let needs = file.needs(&request).map_err(shown)?;
    file.base_of(&request).map_err(shown)?;
    let base = ImageState {
        onbuild: vec!["COPY --from=more $A /".into(), "ENV O=$O$A".into()],
        ..ImageState::default()
    };
    let mut images: BTreeMap<String, ImageState> = BTreeMap::new();
    images.extend(
        needs
            .images
            .iter()
            .map(|image| (image.clone(), base.clone())),
    );
    // Each question brings all that is missing, so two are enough.
    for _ in 0..3 {
        match file.plan(&request, &images).map_err(shown)? {
            Answer::NeedsMore(more) => {
                assert!(more.iter().all(|image| !images.contains_key(image)));
                images.extend(more.into_iter().map(|image| (image, ImageState::default())));
            }
            Answer::Plan(planned) => {
                assert!(needs.images.is_subset(&planned.needs.images));
                let stored = serde_json::to_string(&planned.plan).unwrap();
                assert!(stored.len() < 256 << 20);
                let again: BuildPlan = serde_json::from_str(&stored).unwrap();
                assert_eq!(again.stages.len(), planned.plan.stages.len());
                for (index, stage) in planned.plan.stages.iter().enumerate() {
                    let base = boatyard_devcontainer::build::Base::Stage(index);
                    assert!(
                        stage.base < base
                            || !matches!(stage.base, boatyard_devcontainer::build::Base::Stage(_))
                    );
                }
                return Ok(planned.plan);
            }
        }
    }
    panic!("images are missing for ever: {text:?}");
}

#[test]
fn oversized_text_is_an_error() {
    let text = "#".repeat(boatyard_devcontainer::TEXT_LIMIT + 1);
    let error = Dockerfile::parse("Dockerfile", &text).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Bounds(_)), "{error}");
}

#[test]
fn growth_is_bounded() {
    let doubling = format!(
        "FROM scratch\nENV A=xxxxxxxx\n{}",
        "ENV A=$A$A\n".repeat(64)
    );
    let labels: String = (0..4000)
        .map(|at| format!("LABEL l{at}={}\n", "x".repeat(100)))
        .collect();
    let table = [
        doubling,
        format!(
            "FROM scratch\nENV A={}\n{}",
            "x".repeat(100_000),
            "RUN $A\n".repeat(4000)
        ),
        format!("FROM scratch AS a\n{labels}{}", "FROM a AS a\n".repeat(90)),
        format!("FROM scratch\n{}", "EXPOSE 0-65535\n".repeat(4000)),
        format!(
            "FROM scratch\nENV A={}\nENV B=${{A//*a*b*c*d/}}",
            "abc".repeat(30_000)
        ),
        format!(
            "FROM scratch AS a\n{}{}",
            "ONBUILD RUN x\n".repeat(2000),
            "FROM a AS a\n".repeat(90)
        ),
    ];
    for text in table {
        // An error or a plan of bounded size, and soon.
        drop(run(&text));
    }
    let doubled = run(
        "FROM scratch\nENV A=xxxxxxxxxxxxxxxx\nENV A=$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A",
    );
    assert!(doubled.unwrap_err().contains("expands to more than"));
}

#[test]
fn depth_costs_nothing() {
    for text in [
        format!("FROM scratch\nENV A={}", "${A:-".repeat(100_000)),
        format!("FROM scratch\nRUN {}", "[".repeat(500_000)),
        format!("FROM scratch\nCMD {}", "[\"".repeat(200_000)),
        format!("FROM scratch\n{} RUN x", "ONBUILD ".repeat(100_000)),
        "\\\n".repeat(300_000),
        format!("FROM scratch\nRUN a \\\n{}", "# c\n".repeat(200_000)),
        format!("FROM scratch\nRUN {}\n", "<<A ".repeat(100_000)),
        format!("FROM scratch\nRUN x {}", "'\"\\".repeat(100_000)),
        format!("FROM scratch\nRUN --mount={} x", ",".repeat(500_000)),
        format!("FROM scratch\nCOPY {} /x/", "a ".repeat(300_000)),
    ] {
        drop(run(&text));
    }
}

fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "FROM ",
        "scratch",
        " AS ",
        "a",
        "b",
        "c",
        "RUN ",
        "COPY ",
        "ADD ",
        "--from=",
        "--mount=",
        "type=cache,",
        "type=secret,",
        "target=/x",
        "ENV ",
        "ARG ",
        "A",
        "=",
        "$A",
        "${A",
        ":-",
        "}",
        "#",
        "##",
        "%",
        "/",
        "//",
        "<<EOF",
        "<<-'E'",
        "\nEOF\n",
        "\nE\n",
        "\\\n",
        "\n",
        "\n",
        " ",
        "\"",
        "'",
        "\\",
        "[",
        "]",
        ",",
        "0",
        "1",
        "ONBUILD ",
        "LABEL ",
        "WORKDIR ",
        "USER ",
        "CMD ",
        "ENTRYPOINT ",
        "EXPOSE ",
        "80-90/udp",
        "VOLUME ",
        "STOPSIGNAL ",
        "9",
        "SHELL ",
        "[\"sh\"]",
        "HEALTHCHECK ",
        "--interval=",
        "1s",
        "CMD ",
        "https://x/y.git#",
        "git@x:",
        "*",
        "?",
        "ä",
        "\t",
        "\r\n",
        "# escape=`\n",
        "# syntax=",
        "`",
        "--chmod=",
        "--chown=",
        "--",
        "\u{1b}[2J",
        "\u{202e}",
    ]);
    words.prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_has_an_answer(text in "(?s).{0,300}") {
        drop(run(&text));
    }

    #[test]
    fn any_pieces_have_an_answer(pieces in prop::collection::vec(piece(), 0..60), head in any::<bool>()) {
        let text = pieces.concat();
        drop(run(&if head { format!("FROM scratch AS c\n{text}") } else { text }));
    }

    #[test]
    fn what_is_hidden_holds_nothing_that_is_not(
        lines in prop::collection::vec("!?(/|\\*\\*/|[ab*?]|a/|b/|\\*\\*){1,6}", 0..8),
        path in "[ab](/[ab]){0,5}",
    ) {
        let ignore = Ignore::parse(".dockerignore", &lines.join("\n"));
        prop_assume!(ignore.is_ok());
        let ignore = ignore.unwrap();
        let mut folder = path.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if ignore.hides(parent, true) {
                prop_assert!(ignore.excludes(&path), "{lines:?} {parent} {path}");
            }
            folder = parent;
        }
    }

    #[test]
    fn patterns_agree_on_plain_stars(pattern in "[ab/*?]{0,8}", path in "[ab/]{0,8}") {
        // By backtracking, as the definition says it.
        fn slow(pattern: &[u8], path: &[u8]) -> bool {
            match (pattern.first(), path.first()) {
                (None, None) => true,
                (Some(b'*'), _) => {
                    slow(&pattern[1..], path)
                        || path.first().is_some_and(|byte| *byte != b'/')
                            && slow(pattern, &path[1..])
                }
                (Some(b'?'), Some(byte)) => *byte != b'/' && slow(&pattern[1..], &path[1..]),
                (Some(wanted), Some(byte)) => wanted == byte && slow(&pattern[1..], &path[1..]),
                _ => false,
            }
        }
        let found = Pattern::new(&pattern).unwrap().matches(&path);
        prop_assert_eq!(found, slow(pattern.as_bytes(), path.as_bytes()));
    }
}

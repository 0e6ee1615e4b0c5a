//! Targets, bases, arguments, contexts and triggers.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn request(target: &str) -> Request {
    Request {
        target: Some(target.to_owned()),
        ..Request::new("linux/amd64")
    }
}

fn names(planned: &Planned) -> Vec<&str> {
    planned
        .plan
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect()
}

fn sources(planned: &Planned) -> Vec<Origin> {
    let steps = planned.plan.stages.iter().flat_map(|stage| &stage.steps);
    let copies = steps.filter_map(|step| match &step.op {
        Op::Copy(copy) => Some(&copy.sources),
        _ => None,
    });
    copies
        .flatten()
        .filter_map(|source| match source {
            CopySource::Files { from, .. } => Some(from.clone()),
            _ => None,
        })
        .collect()
}

const MANY: &str = "FROM debian:12 AS base\nFROM base AS Build\nRUN make\nFROM golang AS unused\n\
                    COPY missing /\nFROM scratch AS out\nCOPY --from=build /o /\nFROM base\n\
                    RUN --mount=from=build,target=/m --mount=type=cache,target=/c x\n";

#[test]
fn only_needed_stages_and_images_are_read() {
    let all = Dockerfile::parse("Dockerfile", MANY).unwrap();
    for (target, stages, images, contexts) in [
        ("base", vec!["base"], vec!["debian:12"], vec![]),
        ("BUILD", vec!["base", "build"], vec!["debian:12"], vec![]),
        ("1", vec!["base", "build"], vec!["debian:12"], vec![]),
        ("unused", vec!["unused"], vec!["golang"], vec![""]),
        (
            "out",
            vec!["base", "build", "out"],
            vec!["debian:12"],
            vec![],
        ),
        (
            "",
            vec!["base", "build", "stage-4"],
            vec!["debian:12"],
            vec![],
        ),
        (
            "4",
            vec!["base", "build", "stage-4"],
            vec!["debian:12"],
            vec![],
        ),
    ] {
        let request = request(target);
        let needs = all.needs(&request).unwrap();
        assert!(needs.images.iter().eq(&images), "{target}: {needs:?}");
        assert!(needs.contexts.iter().eq(&contexts), "{target}: {needs:?}");
        let planned = plan_with(MANY, &request, &[]).unwrap();
        assert_eq!(names(&planned), stages, "{target}");
        assert_eq!(planned.needs, needs, "{target}");
    }
    let names: Vec<Option<&str>> = all.stage_names().collect();
    assert_eq!(
        names,
        [
            Some("base"),
            Some("build"),
            Some("unused"),
            Some("out"),
            None
        ]
    );
}

#[test]
fn a_target_that_is_not_there_names_those_that_are() {
    for (text, target, expected) in [
        (
            "FROM a AS x\nFROM b AS y",
            "z",
            "Dockerfile:2:1: there is no stage \"z\"; there are x, y",
        ),
        (
            "FROM a",
            "1",
            "Dockerfile:1:1: there is no stage \"1\"; no stage of this file has a name",
        ),
    ] {
        let error = plan_with(text, &request(target), &[]).unwrap_err();
        assert_eq!(error.sentence(), expected);
    }
}

#[test]
fn stages_read_what_is_meant_by_their_names() {
    let text = "FROM a AS x\nFROM b AS x\nFROM c\nCOPY --from=x . /1\nCOPY --from=0 . /2\n\
                COPY --from=X . /3\nCOPY --from=img:1 . /4\nCOPY . /5\n";
    let planned = plan(text);
    // Of two stages with one name, the later one.
    let expected = [
        Origin::Stage(1),
        Origin::Stage(0),
        Origin::Stage(1),
        Origin::Image("img:1".into()),
        Origin::Context(String::new()),
    ];
    assert_eq!(sources(&planned), expected);
    let images: Vec<&str> = planned.needs.images.iter().map(String::as_str).collect();
    assert_eq!(images, ["a", "b", "c", "img:1"]);
    // But FROM means the one before it.
    let planned = plan("FROM a AS x\nRUN 1\nFROM x AS x\nRUN 2\nFROM x\nRUN 3\n");
    let bases: Vec<&Base> = planned
        .plan
        .stages
        .iter()
        .map(|stage| &stage.base)
        .collect();
    assert_eq!(
        bases,
        [&Base::Image("a".into()), &Base::Stage(0), &Base::Stage(1)]
    );
    // A number is no stage there.
    assert_eq!(
        plan("FROM a AS x\nFROM 0").plan.stages[0].base,
        Base::Image("0".into())
    );
}

#[test]
fn arguments_have_their_scopes() {
    let run_env = |text: &str, request: &Request| -> BTreeMap<String, String> {
        let planned = plan_with(text, request, &[]).unwrap_or_else(|error| panic!("{error}"));
        let step = planned.plan.stages.last().unwrap().steps.last().unwrap();
        match &step.op {
            Op::Run(run) => run.env.iter().cloned().collect(),
            op => panic!("{op:?}"),
        }
    };
    let mut given = Request::new("linux/arm64");
    for (name, value) in [("G", "given"), ("S", "stage"), ("HTTP_PROXY", "http://p")] {
        given.build_args.insert(name.into(), value.into());
    }
    let plain = Request::new("linux/amd64");
    type Values = &'static [(&'static str, Option<&'static str>)];
    let table: &[(&str, &Request, Values)] = &[
        ("ARG G=d\nFROM a\nRUN x", &plain, &[("G", None)]),
        ("ARG G=d\nFROM a\nARG G\nRUN x", &plain, &[("G", Some("d"))]),
        (
            "ARG G=d\nFROM a\nARG G=e\nRUN x",
            &plain,
            &[("G", Some("e"))],
        ),
        (
            "ARG G=d\nFROM a\nARG G=e\nRUN x",
            &given,
            &[("G", Some("given"))],
        ),
        ("FROM a\nARG S\nRUN x", &plain, &[("S", None)]),
        ("FROM a\nARG S\nRUN x", &given, &[("S", Some("stage"))]),
        ("FROM a\nRUN x", &given, &[("S", None)]),
        (
            "FROM a\nARG S T=$S-t U\nRUN x",
            &given,
            &[("T", Some("stage-t")), ("U", None)],
        ),
        (
            "ARG A=1\nARG B=$A-2\nFROM a\nARG B\nRUN x",
            &plain,
            &[("B", Some("1-2"))],
        ),
        // Stages end arguments, unless one begins with the other.
        (
            "FROM a AS x\nARG Q=1\nFROM b\nCOPY --from=x . .\nRUN x",
            &plain,
            &[("Q", None)],
        ),
        (
            "FROM a AS x\nARG Q=1\nFROM x\nRUN x",
            &plain,
            &[("Q", Some("1"))],
        ),
        // Of the platform, when asked for.
        ("FROM a\nRUN x", &plain, &[("TARGETARCH", None)]),
        (
            "FROM a AS s\nARG TARGETARCH TARGETOS TARGETPLATFORM BUILDARCH TARGETSTAGE TARGETVARIANT\nRUN x",
            &given,
            &[
                ("TARGETARCH", Some("arm64")),
                ("TARGETOS", Some("linux")),
                ("TARGETPLATFORM", Some("linux/arm64")),
                ("BUILDARCH", Some("arm64")),
                ("TARGETSTAGE", Some("s")),
                ("TARGETVARIANT", Some("")),
            ],
        ),
        // Proxies are there, but in no key.
        ("FROM a\nRUN x", &given, &[("HTTP_PROXY", None)]),
    ];
    for (text, request, expected) in table {
        let env = run_env(text, request);
        for (name, value) in *expected {
            assert_eq!(
                env.get(*name).map(String::as_str),
                *value,
                "{text:?} {name}"
            );
        }
    }
    let planned = plan_with("FROM a\nENV http_proxy=mine\nRUN x", &given, &[]).unwrap();
    let Op::Run(run) = &planned.plan.stages[0].steps[0].op else {
        panic!("{planned:#?}")
    };
    let proxies = [("HTTP_PROXY".to_owned(), "http://p".to_owned())];
    assert_eq!(
        run.unkeyed_env, proxies,
        "what the file sets is not overridden"
    );
    assert!(!serde_json::to_string(run).unwrap().contains("http://p"));
}

#[test]
fn bases_are_named_by_arguments() {
    let text =
        "ARG TAG=12\nARG IMAGE=debian:${TAG}\nFROM --platform=$TARGETPLATFORM $IMAGE AS x\nFROM x";
    let file = Dockerfile::parse("Dockerfile", text).unwrap();
    let mut request = Request::new("linux/x86_64");
    assert_eq!(
        file.base_of(&request).unwrap().as_deref(),
        Some("debian:12")
    );
    request.build_args.insert("TAG".into(), "13-slim".into());
    assert_eq!(
        file.base_of(&request).unwrap().as_deref(),
        Some("debian:13-slim")
    );
    assert!(
        file.needs(&request)
            .unwrap()
            .images
            .contains("debian:13-slim")
    );
    let file = Dockerfile::parse("Dockerfile", "FROM scratch").unwrap();
    assert_eq!(file.base_of(&request).unwrap(), None);
}

#[test]
fn contexts_stand_in_place_of_stages_and_images() {
    let mut request = Request::new("linux/amd64");
    for (name, context) in [
        ("docker.io/library/debian:latest", NamedContext::Files),
        ("golang", NamedContext::Image("mirror/golang:1".into())),
        ("stage", NamedContext::Files),
        ("other", NamedContext::Image("prebuilt".into())),
        ("extra", NamedContext::Files),
    ] {
        request.contexts.insert(name.into(), context);
    }
    let text = "FROM nowhere AS stage\nRUN never\nFROM nowhere AS other\nRUN never\n\
                FROM debian\nCOPY --from=stage . /\nCOPY --from=other . /\nCOPY --from=extra . /\n\
                RUN --mount=from=golang,target=/m x\nFROM other\nCOPY --from=2 . /";
    let planned = plan_with(text, &request, &[]).unwrap();
    assert_eq!(names(&planned), ["stage-2", "stage-3"]);
    let debian = "docker.io/library/debian:latest".to_owned();
    assert_eq!(planned.plan.stages[0].base, Base::Context(debian.clone()));
    assert_eq!(planned.plan.stages[1].base, Base::Image("prebuilt".into()));
    let expected = [
        Origin::Context("stage".into()),
        Origin::Image("prebuilt".into()),
        Origin::Context("extra".into()),
        Origin::Stage(0),
    ];
    assert_eq!(sources(&planned), expected);
    let contexts: Vec<&str> = planned.needs.contexts.iter().map(String::as_str).collect();
    assert_eq!(contexts, [debian.as_str(), "extra", "stage"]);
    let images: Vec<&str> = planned.needs.images.iter().map(String::as_str).collect();
    assert_eq!(images, ["mirror/golang:1", "prebuilt"]);
    request.target = Some("stage".into());
    let planned = plan_with(text, &request, &[]).unwrap();
    assert_eq!(planned.plan.stages[0].base, Base::Context("stage".into()));
    assert!(planned.plan.stages[0].steps.is_empty());
}

fn with_triggers(triggers: &[&str]) -> ImageState {
    ImageState {
        onbuild: triggers.iter().map(|text| (*text).to_owned()).collect(),
        ..ImageState::default()
    }
}

#[test]
fn triggers_of_a_base_run_first_and_may_need_more() {
    let base = with_triggers(&[
        "ARG V=1",
        "COPY --from=tools:$ /t /t",
        "RUN --mount=from=0,target=/m cat <<EOF\n$V\nEOF",
    ]);
    let text = "FROM x AS first\nFROM base\nRUN own\n";
    let file = Dockerfile::parse("Dockerfile", text).unwrap();
    let request = Request::new("linux/amd64");
    let images = BTreeMap::from([("base".to_owned(), base)]);
    assert!(file.plan(&request, &images).is_err(), "no such image");
    let base = with_triggers(&[
        "ARG V=1",
        "COPY --from=tools /t /t",
        "RUN --mount=from=0,target=/m cat <<EOF\n$V\nEOF",
    ]);
    let mut images = BTreeMap::from([("base".to_owned(), base)]);
    let missing = BTreeSet::from(["tools".to_owned(), "x".to_owned()]);
    assert_eq!(
        file.plan(&request, &images).unwrap(),
        Answer::NeedsMore(missing)
    );
    for image in ["tools", "x"] {
        images.insert(image.into(), ImageState::default());
    }
    let Answer::Plan(planned) = file.plan(&request, &images).unwrap() else {
        panic!("needs more")
    };
    assert_eq!(names(&planned), ["first", "stage-1"]);
    let texts: Vec<&str> = planned.plan.stages[1]
        .steps
        .iter()
        .map(|step| step.text.as_str())
        .collect();
    let expected = [
        "ONBUILD COPY --from=tools /t /t",
        "ONBUILD RUN --mount=from=0,target=/m cat <<EOF ($V)",
        "RUN own",
    ];
    assert_eq!(texts, expected);
    assert!(planned.plan.stages[1].state.onbuild.is_empty());
}

#[test]
fn triggers_of_a_stage_run_once() {
    let text = "FROM a AS x\nONBUILD RUN t\nFROM x AS y\nRUN 1\nFROM y\nRUN 2\n";
    let planned = plan(text);
    let texts: Vec<Vec<&str>> = planned
        .plan
        .stages
        .iter()
        .map(|stage| stage.steps.iter().map(|step| step.text.as_str()).collect())
        .collect();
    assert_eq!(
        texts,
        [vec![], vec!["ONBUILD RUN t", "RUN 1"], vec!["RUN 2"]]
    );
    assert_eq!(planned.plan.stages[0].state.onbuild, ["RUN t"]);
    assert!(planned.plan.stages[1].state.onbuild.is_empty());
}

#[test]
fn a_trigger_that_means_nothing_is_said_at_the_base() {
    for trigger in [
        "NOPE x",
        "RUN a\nRUN b",
        "FROM x",
        "ONBUILD RUN x",
        "RUN <<EOF",
        "",
    ] {
        let base = with_triggers(&[trigger]);
        let images = [("base", base)];
        let error = plan_with("FROM a\nFROM base", &Request::new("linux/amd64"), &images);
        let sentence = error.unwrap_err().sentence();
        let expected = "Dockerfile:2:6: the base's ONBUILD \"";
        assert!(sentence.starts_with(expected), "{trigger:?}: {sentence}");
    }
}

//! The language by tables: what a file becomes, and what it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ignore;
mod lexer;
mod lines;
mod stages;
mod state;
mod steps;

use super::*;
use crate::build::{CopySource, Op, Origin};

fn plan_with(
    text: &str,
    request: &Request,
    images: &[(&str, ImageState)],
) -> Result<Planned, Error> {
    let images = images
        .iter()
        .map(|(name, state)| ((*name).to_owned(), state.clone()));
    let mut images: BTreeMap<String, ImageState> = images.collect();
    let file = Dockerfile::parse("Dockerfile", text)?;
    for image in file.needs(request)?.images {
        images.entry(image).or_default();
    }
    loop {
        match file.plan(request, &images)? {
            Answer::Plan(planned) => return Ok(planned),
            Answer::NeedsMore(more) => {
                images.extend(more.into_iter().map(|image| (image, ImageState::default())));
            }
        }
    }
}

fn plan(text: &str) -> Planned {
    plan_with(text, &Request::new("linux/amd64"), &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_simple_file_becomes_a_plan() {
    let text = "FROM debian:12 AS base\nARG X=1\nENV A=b$X PATH=/x:$PATH\nWORKDIR /src\n\
                USER me\nCOPY . .\nRUN make $X\n";
    let planned = plan(text);
    let [stage] = planned.plan.stages.as_slice() else {
        panic!("{planned:#?}")
    };
    assert_eq!(stage.name, "base");
    assert_eq!(stage.base, Base::Image("debian:12".into()));
    let steps: Vec<&str> = stage.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(steps, ["WORKDIR /src", "COPY . .", "RUN make $X"]);
    assert_eq!(stage.steps[1].location.as_ref().unwrap().line, 6);
    let Op::Run(run) = &stage.steps[2].op else {
        panic!("{stage:#?}")
    };
    assert_eq!(run.argv, ["/bin/sh", "-c", "make $X"]);
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/src", "me"));
    let path = "/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env: Vec<(&str, &str)> = run
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(env, [("PATH", path), ("X", "1"), ("A", "b1")]);
    let kept: Vec<&str> = stage
        .state
        .env
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(kept, ["PATH", "A"], "arguments are no part of the image");
    assert_eq!(planned.needs.contexts, BTreeSet::from([String::new()]));
    assert!(planned.warnings.is_empty());
}

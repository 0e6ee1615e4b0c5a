//! Rules by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::environment::{EnvironmentSpec, FolderSource, GitSource, Source};

fn folder(path: &str) -> Environment {
    let source = Source {
        folder: Some(FolderSource { path: path.into() }),
        git: None,
    };
    Environment::new(
        "e",
        EnvironmentSpec {
            source,
            ..EnvironmentSpec::default()
        },
    )
}

fn git(url: &str) -> Environment {
    let source = Source {
        folder: None,
        git: Some(GitSource {
            url: url.into(),
            reference: None,
        }),
    };
    Environment::new(
        "e",
        EnvironmentSpec {
            source,
            ..EnvironmentSpec::default()
        },
    )
}

#[test]
fn sources_in_the_grammar_pass_and_others_name_the_field() {
    for good in [
        folder("/home/a/code"),
        git("https://example.org/x.git"),
        git("git@example.org:x/y"),
        Environment::new("e", EnvironmentSpec::default()),
    ] {
        assert_eq!(good.validate(None), [], "{good:?}");
    }
    for (bad, path) in [
        (folder("relative"), "spec.source.folder.path"),
        (folder("/a/../etc"), "spec.source.folder.path"),
        (git("--upload-pack=evil"), "spec.source.git.url"),
        (git("ext::sh -c evil"), "spec.source.git.url"),
    ] {
        assert_eq!(bad.validate(None)[0].path, path, "{bad:?}");
    }
}

#[test]
fn source_and_runner_are_immutable() {
    let mut old = folder("/a");
    old.spec.runner_name = Some("one".into());
    let mut new = folder("/b");
    new.spec.runner_name = Some("two".into());
    let paths: Vec<String> = new
        .validate(Some(&old))
        .into_iter()
        .map(|error| error.path)
        .collect();
    assert_eq!(paths, ["spec.source", "spec.runnerName"]);
}

#[test]
fn names_are_dns_labels() {
    assert!(is_label("a-1") && is_name("a.b-c"));
    for bad in ["", "-a", "a-", "A", "a_b", "a/b", ".."] {
        assert!(!is_label(bad) && !is_name(bad), "{bad}");
    }
}

#[test]
fn labels_are_as_in_kubernetes() {
    for good in ["a", "A_b.c-1", "example.com/a", "boatyard.dev/opened-from"] {
        assert!(is_label_key(good), "{good}");
    }
    let long = "a".repeat(64);
    for bad in ["", "a b", "-a", "a/", "/a", "a/b/c", "A.com/b", &long] {
        assert!(!is_label_key(bad), "{bad}");
    }
    assert!(is_label_value("") && is_label_value("v1.2_x"));
    assert!(!is_label_value("a/b") && !is_label_value("ü") && !is_label_value(&long));
}

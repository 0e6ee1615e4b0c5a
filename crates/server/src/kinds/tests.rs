//! What holds for every registered kind.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Every field of a schema with its path.
fn fields<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push((path.clone(), field));
        fields(field, &path, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            fields(&schema[below], &format!("{path}[]"), found);
        }
    }
}

#[test]
fn every_schema_is_whole_in_itself_and_describes_every_field() {
    for kind in Kinds::default().iter() {
        assert!(!kind.schema.to_string().contains("$ref"), "{}", kind.kind);
        let mut found = Vec::new();
        fields(&kind.schema, &kind.kind, &mut found);
        assert!(found.len() > 20, "{}: {found:?}", kind.kind);
        for (path, field) in found {
            let described = field["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(described, "{path} has no description");
        }
    }
}

#[test]
fn a_kind_that_says_nothing_is_for_administrators_alone() {
    assert!(Kind::own::<Environment>().access().is_empty());
}

#[test]
fn every_text_list_and_map_that_users_write_is_bounded() {
    for kind in Kinds::default().iter().filter(|kind| !kind.strategic) {
        let mut found = Vec::new();
        fields(&kind.schema["properties"]["spec"], "spec", &mut found);
        for (path, field) in found {
            let says = |keyword: &str| !field[keyword].is_null();
            let bounded = match field["type"].as_str() {
                Some("string") => says("maxLength") || says("enum") || says("format"),
                Some("array") => says("maxItems"),
                Some("object") => says("properties") || says("maxProperties"),
                _ => true,
            };
            assert!(bounded, "{} {path} is not bounded: {field}", kind.kind);
        }
    }
}

/// What is wrong with a spec of a kind of our own, or with its change.
fn told(plural: &str, old: Option<Value>, new: Value) -> Vec<String> {
    let kinds = Kinds::default();
    let kind = kinds.find(boatyard_api::GROUP, "v1", plural).unwrap();
    let whole = |spec| {
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}, "spec": spec});
        (kind.structure.check(&mut object, None), object)
    };
    let old = old.map(|spec| {
        let (findings, object) = whole(spec);
        assert!(findings.errors.is_empty(), "{findings:?}");
        kind.prepare("x", object, None).unwrap()
    });
    let (findings, object) = whole(new);
    let shown = |error: FieldError| format!("{}: {}", error.path, error.message);
    if !findings.errors.is_empty() {
        return findings.errors.into_iter().map(shown).collect();
    }
    match kind.prepare("x", object, old.as_ref()) {
        Ok(_) => Vec::new(),
        Err(failure) => {
            let causes = failure.details["causes"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            causes
                .map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"])))
                .collect()
        }
    }
}

#[test]
fn every_rule_of_our_kinds_lets_good_through_and_tells_what_is_wrong() {
    let folder = |path: &str| json!({"source": {"folder": {"path": path}}});
    let git = |url: &str| json!({"source": {"git": {"url": url}}});
    let reference = |name: &str| json!({"source": {"git": {"url": "https://a/b", "ref": name}}});
    let devcontainer = |path: &str| json!({"devcontainer": {"path": path}});
    for good in [
        json!({}),
        folder("/home/a/..b/c"),
        git("https://example.org/x.git"),
        git("git@example.org:x/y"),
        git("ssh://git@example.org/x"),
        reference("main"),
        devcontainer(".devcontainer/devcontainer.json"),
        devcontainer("/elsewhere/devcontainer.json"),
        json!({"source": {"folder": {"path": "/a", "subfolder": "b/..c"}}}),
        json!({"devcontainer": {"lifecycle": "OnRequest", "content": "{}", "idLabels": {"a": "b"},
            "additional": {"mounts": ["type=volume,target=/x"], "remoteEnv": {"A": "b"},
                "features": {"./a": {"version": "1"}, "./b": "lts", "./c": true}},
            "defaults": {"userEnvProbe": "none", "updateRemoteUserUid": "Off"},
            "dotfiles": {"repository": "a/b"}}}),
    ] {
        assert_eq!(told("environments", None, good.clone()), [""; 0], "{good}");
    }
    let no_url = "write https://, http://, ssh://, git://, file:// or user@host:path";
    let no_path = "must be an absolute path without `.` and `..`";
    for (bad, path, wanted) in [
        (folder("relative"), "spec.source.folder.path", no_path),
        (folder("/a/../etc"), "spec.source.folder.path", no_path),
        (folder("/a/./etc"), "spec.source.folder.path", no_path),
        (folder("/a\0b"), "spec.source.folder.path", no_path),
        (git("--upload-pack=evil"), "spec.source.git.url", no_url),
        (git("-u@h:x"), "spec.source.git.url", no_url),
        (git("ext::sh -c evil"), "spec.source.git.url", no_url),
        (git("u@h:"), "spec.source.git.url", no_url),
        (git("https://a\nb"), "spec.source.git.url", no_url),
        (
            reference("-x"),
            "spec.source.git.ref",
            "must be a branch, tag or commit",
        ),
        (
            reference(""),
            "spec.source.git.ref",
            "must have at least 1 characters",
        ),
        (
            json!({"source": {"git": {"url": "https://a/b"}, "folder": {"path": "/a"}}}),
            "spec.source",
            "give folder or git, not both",
        ),
        (
            devcontainer("/a/../x.json"),
            "spec.devcontainer.path",
            "must be a path without `..`",
        ),
        (
            json!({"source": {"folder": {"path": "/a", "subfolder": "b/../../c"}}}),
            "spec.source.folder.subfolder",
            "must be a path below the folder, without `.` and `..`",
        ),
        (
            json!({"source": {"folder": {"path": "/a", "subfolder": "/b"}}}),
            "spec.source.folder.subfolder",
            "must be a path below the folder, without `.` and `..`",
        ),
        (
            json!({"devcontainer": {"lifecycle": "Never"}}),
            "spec.devcontainer.lifecycle",
            "supported values: \"Automatic\", \"OnRequest\"",
        ),
        (
            folder(&format!("/{}", "a".repeat(4096))),
            "spec.source.folder.path",
            "Too long: may not be more than 4096 characters",
        ),
    ] {
        let errors = told("environments", None, bad.clone());
        assert_eq!(errors.len(), 1, "{bad}: {errors:?}");
        let (field, message) = errors[0].split_once(": ").unwrap();
        assert_eq!(field, path, "{bad}");
        assert!(message.ends_with(wanted), "{bad}: {message}");
    }
    let bound = json!({"source": {"folder": {"path": "/a"}}, "runnerName": "one"});
    let moved = json!({"source": {"folder": {"path": "/b"}}, "runnerName": "two"});
    let fixed = [
        "spec.runnerName: Forbidden: an environment cannot be moved to another runner",
        "spec.source: Forbidden: the source cannot be changed; make another environment",
    ];
    assert_eq!(
        told("environments", Some(bound.clone()), bound.clone()),
        [""; 0]
    );
    assert_eq!(told("environments", Some(bound.clone()), moved), fixed);
    assert_eq!(told("environments", Some(bound), folder("/a")), fixed[..1]);
    let class = |resources: Value| json!({"resources": resources});
    assert_eq!(
        told(
            "environmentclasses",
            None,
            class(json!({"pids": 8, "cpu": "1"}))
        ),
        [""; 0]
    );
    assert_eq!(
        told("environmentclasses", None, class(json!({"pids": 7}))),
        ["spec.resources.pids: Invalid value: 7: must be greater than or equal to 8"]
    );
    assert_eq!(
        told("environmentclasses", None, class(json!({"disk": "20Gi"}))),
        [""; 0]
    );
    assert_eq!(
        told("environmentclasses", None, class(json!({"disk": "31Mi"}))),
        ["spec.resources.disk: Invalid value: \"31Mi\": must be at least 32Mi"]
    );
}

#[test]
fn every_column_has_a_path_and_every_kind_tells_age() {
    for kind in Kinds::default().iter() {
        for column in &kind.columns {
            assert!(!column.paths.is_empty(), "{} {}", kind.kind, column.name);
        }
        let names: Vec<&str> = kind.columns.iter().map(|one| one.name.as_str()).collect();
        assert!(
            names.contains(&"Age") || names.contains(&"Last Seen"),
            "{names:?}"
        );
    }
}

/// Strict readers of OpenAPI refuse a document with one null in it.
#[test]
fn schemas_hold_no_null() {
    fn check(value: &Value, path: &str) {
        match value {
            Value::Null => panic!("{path} is null"),
            Value::Array(list) => list.iter().for_each(|value| check(value, path)),
            Value::Object(members) => {
                for (name, value) in members {
                    check(value, &format!("{path}.{name}"));
                }
            }
            _ => {}
        }
    }
    for kind in Kinds::default().iter() {
        check(&kind.schema, &kind.kind);
    }
}

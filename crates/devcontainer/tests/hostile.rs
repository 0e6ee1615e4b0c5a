//! No text, however made, brings a panic, a hang or unbounded memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_devcontainer::{Document, ErrorKind, ImageMetadata, LocalContext};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn run(text: &str, label: &str) {
    let labels = BTreeMap::from([("devcontainer.metadata".to_owned(), label.to_owned())]);
    let image = ImageMetadata {
        labels,
        ..ImageMetadata::default()
    };
    let mut context = LocalContext::new("/home/me/project");
    context.local_env = BTreeMap::from([("A".to_owned(), "${localEnv:A}".to_owned())]);
    match Document::parse(".devcontainer/devcontainer.json", text) {
        Ok(document) => {
            let _ = document.image(&context).map_err(|error| error.to_string());
            if let Ok(mut plan) = document.run_plan(&context, &image) {
                plan.bind_container_env(&context.local_env);
                let stored = serde_json::to_string(&plan).unwrap();
                assert_eq!(
                    serde_json::from_str::<boatyard_devcontainer::RunPlan>(&stored).unwrap(),
                    plan
                );
            }
        }
        Err(error) => assert!(!error.to_string().contains('\u{1b}')),
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let error = Document::parse("d.json", &open.repeat(200_000)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Bounds(_)), "{error}");
    }
}

#[test]
fn oversized_text_is_an_error() {
    let error =
        Document::parse("d.json", &" ".repeat(boatyard_devcontainer::TEXT_LIMIT + 1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Bounds(_)), "{error}");
}

#[test]
fn growth_by_substitution_is_bounded() {
    let mut context = LocalContext::new("/w");
    context.local_env = BTreeMap::from([("A".to_owned(), "x".repeat(100_000))]);
    let text = format!(
        r#"{{"image": "x", "name": "{}"}}"#,
        "${localEnv:A}".repeat(50_000)
    );
    let error = Document::parse("d.json", &text)
        .unwrap()
        .image(&context)
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Bounds(_)));
}

#[test]
fn many_repeated_names_take_no_quadratic_time() {
    let names: String = (0..60_000)
        .map(|at| format!("\"{:x}\":0,", at % 30_000))
        .collect();
    let document = Document::parse("d.json", &format!("{{{names}\"image\":\"x\"}}")).unwrap();
    assert!(document.warnings().len() <= 200);
}

/// Pieces that configurations are made of.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "//",
            "/*",
            "*/",
            "\n",
            "\\",
            "null",
            "true",
            "-1",
            "1e999",
            "\u{feff}",
            "\u{1b}[2J",
            "é",
            "${",
            "${localEnv",
            "${localEnv:A",
            "${containerWorkspaceFolder}",
            "\"image\":\"x\",",
            "\"mounts\":[\"type=bind,",
            "source=/a,target=",
            "\"runArgs\":[\"",
            "--env",
            "-e",
            "-v",
            "=",
            "\"workspaceFolder\":\"/",
            "\"forwardPorts\":[",
            "\"postCreateCommand\":",
            "\"hostRequirements\":{\"memory\":\"",
            "8gb",
            "'",
            "\"features\":{",
            "\"\\ud800\"",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ]
}

fn value(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Quarters: serde_json reads longer fractions back exactly only with a feature of its own.
        any::<i32>().prop_map(|number| serde_json::json!(f64::from(number) / 4.0)),
        ".{0,20}".prop_map(Into::into),
        prop::sample::select(vec![
            "${localEnv:A}",
            "${localEnv}",
            "${containerEnv:A:b}",
            "type=bind,source=/a,target=/b",
            "a:b:c",
            "--env",
            "8gb",
            "/x/../..",
            "none",
            ""
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(
                "[a-zA-Z${}:]{0,8}|type|source|target|memory|gpu|label|onAutoForward",
                inner,
                0..5
            )
            .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

const NAMES: [&str; 36] = [
    "name",
    "image",
    "containerUser",
    "remoteUser",
    "containerEnv",
    "remoteEnv",
    "mounts",
    "workspaceMount",
    "workspaceFolder",
    "initializeCommand",
    "onCreateCommand",
    "postAttachCommand",
    "waitFor",
    "userEnvProbe",
    "overrideCommand",
    "init",
    "privileged",
    "capAdd",
    "securityOpt",
    "customizations",
    "forwardPorts",
    "portsAttributes",
    "otherPortsAttributes",
    "updateRemoteUserUID",
    "shutdownAction",
    "hostRequirements",
    "secrets",
    "runArgs",
    "appPort",
    "build",
    "dockerComposeFile",
    "features",
    "overrideFeatureInstallOrder",
    "entrypoint",
    "imagee",
    "$schema",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_an_answer(text in prop::collection::vec(piece(), 0..40)) {
        let text = text.concat();
        run(&text, &text);
        run(&format!("{{\"image\":\"x\",{text}}}"), "");
    }

    #[test]
    fn any_value_of_any_property_is_an_answer(entries in prop::collection::vec((prop::sample::select(NAMES.to_vec()), value(3)), 0..6)) {
        let mut object: serde_json::Map<String, serde_json::Value> = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let label = serde_json::Value::Object(object.clone()).to_string();
        object.entry("image").or_insert("x".into());
        run(&serde_json::Value::Object(object).to_string(), &label);
    }

    #[test]
    fn one_property_alone_is_an_answer(name in prop::sample::select(NAMES.to_vec()), value in value(2)) {
        run(&serde_json::json!({ "image": "x", name: value.clone() }).to_string(), &serde_json::json!([{ name: value }]).to_string());
    }

    #[test]
    fn any_mount_text_is_an_answer(text in "((type|source|src|target|dst|readonly|ro|tmpfs-size|tmpfs-mode)(=(bind|volume|tmpfs|/[a-z./]{0,6}|[a-z0-9]{0,4}|\"))?,?){0,5}") {
        run(&serde_json::json!({"image": "x", "mounts": [text.clone()], "workspaceMount": text}).to_string(), "");
    }
}

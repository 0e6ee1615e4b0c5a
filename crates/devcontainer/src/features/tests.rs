//! Tables over identifiers, options, orders, lockfiles and install steps.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::build::{Base, BuildPlan, ImageState, Op};
use crate::{Document, LocalContext};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FILE: &str = ".devcontainer/devcontainer.json";

fn request(text: &str) -> Request {
    let document = Document::parse(FILE, text).unwrap();
    document.features(&LocalContext::new("/w/project")).unwrap()
}

/// Resolves over a world of metadata texts by reference.
fn resolve(
    request: Request,
    lockfile: Option<Lockfile>,
    world: &BTreeMap<&str, &str>,
) -> Result<Resolution, Error> {
    let mut resolver = Resolver::new(request, lockfile)?;
    loop {
        let needs = resolver.needs()?;
        if needs.is_empty() {
            return resolver.finish();
        }
        for (need, requested) in needs {
            let name = need.reference.to_string();
            let text = world
                .get(name.as_str())
                .unwrap_or_else(|| panic!("{requested:?} is not in the world"));
            let digest = match need.reference {
                Reference::Local { .. } => None,
                _ => Some(need.pinned.clone().unwrap_or_else(|| digest_of(text))),
            };
            let metadata = Arc::new(Metadata::parse(&name, text)?);
            resolver.give(need, Found { digest, metadata });
        }
    }
}

fn digest_of(text: &str) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn ids(resolution: &Resolution) -> Vec<String> {
    resolution
        .order
        .iter()
        .map(|resolved| resolved.id.clone())
        .collect()
}

/// Local Features `.devcontainer/NAME` with the metadata's inside.
fn local(features: &[(&str, &str)]) -> BTreeMap<String, String> {
    features
        .iter()
        .map(|(name, inside)| {
            let separator = if inside.is_empty() { "" } else { "," };
            (
                format!("./.devcontainer/{name}"),
                format!(
                    r#"{{"id":"{name}","version":"1.0.0","name":"{name}"{separator}{inside}}}"#
                ),
            )
        })
        .collect()
}

fn borrowed(world: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    world
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect()
}

#[test]
fn orders_as_dependencies_and_priorities_say() {
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static [&'static str],
    );
    let rows: &[Row] = &[
        (
            "a chain of soft dependencies",
            &[
                ("a", r#""installsAfter":["./b"]"#),
                ("b", r#""installsAfter":["./c"]"#),
                ("c", ""),
            ],
            r#""features":{"./a":{},"./c":{},"./b":{}}"#,
            &["./c", "./b", "./a"],
        ),
        (
            "hard dependencies are added, with options and once",
            &[
                ("a", r#""dependsOn":{"./c":{"x":"1"},"./b":{}}"#),
                ("b", r#""dependsOn":{"./d":{"flag":true}}"#),
                ("c", r#""dependsOn":{"./d":{"flag":true}}"#),
                ("d", ""),
            ],
            r#""features":{"./a":{}}"#,
            &["./d", "./b", "./c", "./a"],
        ),
        (
            "the same Feature with other options is another",
            &[("a", r#""dependsOn":{"./d":{"v":"1"}}"#), ("d", "")],
            r#""features":{"./a":{},"./d":{"v":"2"}}"#,
            &["./d", "./d", "./a"],
        ),
        (
            "soft dependencies that are not installed do not count",
            &[("a", r#""installsAfter":["./z","ghcr.io/x/y/z","nonsense"]"#)],
            r#""features":{"./a":{}}"#,
            &["./a"],
        ),
        (
            "an override pulls forward",
            &[("a", ""), ("b", ""), ("c", ""), ("d", "")],
            r#""features":{"./a":{},"./b":{},"./c":{},"./d":{}},"overrideFeatureInstallOrder":["./d","./c"]"#,
            &["./d", "./c", "./a", "./b"],
        ),
        (
            "an override does not pull past a dependency",
            &[("a", ""), ("b", r#""dependsOn":{"./a":{}}"#), ("c", "")],
            r#""features":{"./c":{},"./b":{}},"overrideFeatureInstallOrder":["./b"]"#,
            &["./a", "./c", "./b"],
        ),
        (
            "the order of the file decides nothing",
            &[("b", ""), ("a", ""), ("a-b", ""), ("a_b", ""), ("B2", "")],
            r#""features":{"./b":{},"./B2":{},"./a-b":{},"./a_b":{},"./a":{}}"#,
            &["./a", "./a_b", "./a-b", "./b", "./B2"],
        ),
    ];
    for (name, features, file, expected) in rows {
        let world = local(features);
        let file = format!(r#"{{"image":"x",{file}}}"#);
        let resolution = resolve(request(&file), None, &borrowed(&world)).unwrap();
        assert_eq!(ids(&resolution), *expected, "{name}");
        assert!(resolution.diagram.starts_with("flowchart\n"));
    }
}

#[test]
fn a_circle_is_an_error_that_names_its_members_and_its_place() {
    let world = local(&[
        ("a", r#""dependsOn":{"./b":{}}"#),
        ("b", r#""installsAfter":["./c"],"dependsOn":{"./c":{}}"#),
        ("c", r#""dependsOn":{"./b":{}}"#),
    ]);
    let error = resolve(
        request(r#"{"image":"x","features":{"./a":{}}}"#),
        None,
        &borrowed(&world),
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("circular dependency"), "{text}");
    assert!(text.contains("./b after ./c after ./b"), "{text}");
    assert!(!text.contains("./a after"), "{text}");
}

#[test]
fn endless_dependencies_end() {
    let mut resolver =
        Resolver::new(request(r#"{"image":"x","features":{"./f0":{}}}"#), None).unwrap();
    let mut given = 0;
    let error = loop {
        match resolver.needs() {
            Err(error) => break error,
            Ok(needs) => {
                for (need, _) in needs {
                    given += 1;
                    let text = format!(r#"{{"id":"f","dependsOn":{{"./f{given}":{{}}}}}}"#);
                    let metadata = Arc::new(Metadata::parse("f", &text).unwrap());
                    resolver.give(
                        need,
                        Found {
                            digest: None,
                            metadata,
                        },
                    );
                }
            }
        }
        assert!(given <= LIMIT + 1);
    };
    assert!(
        error.to_string().contains("more than 200 Features"),
        "{error}"
    );
}

#[test]
fn references_read_and_refuse() {
    let good = [
        (
            "ghcr.io/devcontainers/features/Go:1.2",
            "ghcr.io/devcontainers/features/go:1.2",
        ),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest"),
        (
            "ghcr.io/devcontainers-contrib/features/x:1",
            "ghcr.io/devcontainers-extra/features/x:1",
        ),
        ("git", "ghcr.io/devcontainers/features/git:1"),
        ("common", "ghcr.io/devcontainers/features/common-utils:1"),
        ("./local", "./.devcontainer/local"),
        ("./sub/../local", "./.devcontainer/local"),
        (
            "https://x.example/devcontainer-feature-a.tgz",
            "https://x.example/devcontainer-feature-a.tgz",
        ),
    ];
    for (id, expected) in good {
        assert_eq!(
            Reference::read(id, FILE).unwrap().to_string(),
            expected,
            "{id}"
        );
    }
    let digest = format!("ghcr.io/a/b@{}", digest_of("x"));
    assert_eq!(Reference::read(&digest, FILE).unwrap().to_string(), digest);
    let bad = [
        ("unheard-of", "legacy Feature"),
        ("owner/repo/feature", "GitHub release"),
        ("owner/repo/feature@v1", "digest"),
        ("/etc/feature", "absolute path"),
        ("../outside", "outside"),
        ("./", "outside"),
        ("./../../x", "outside"),
        ("ghcr.io/a", "no reference"),
        ("ghcr.io/A_/b", "no reference"),
        ("ghcr.io/a//b", "no reference"),
        ("ghcr.io/a/b:-x", "no tag"),
        ("ghcr.io/a/b@sha256:short", "digest"),
        (
            "https://x.example/feature.tgz",
            "devcontainer-feature-NAME.tgz",
        ),
        ("http://x.example/devcontainer-feature-a.tgz", "without TLS"),
    ];
    for (id, expected) in bad {
        let reason = Reference::read(id, FILE).unwrap_err();
        assert!(reason.contains(expected), "{id}: {reason}");
    }
}

#[test]
fn old_names_answer_for_new_ones_and_versions_do_not_count() {
    let world = BTreeMap::from([
        (
            "ghcr.io/o/f/old-zeta:1",
            r#"{"id":"zeta","currentId":"zeta","legacyIds":["old-zeta"]}"#,
        ),
        (
            "ghcr.io/o/f/alpha:latest",
            r#"{"id":"alpha","installsAfter":["ghcr.io/o/f/zeta"]}"#,
        ),
        (
            "ghcr.io/o/f/beta:latest",
            r#"{"id":"beta","installsAfter":["ghcr.io/o/f/Old-Zeta"]}"#,
        ),
    ]);
    let file = r#"{"image":"x","features":{"ghcr.io/o/f/alpha":{},"ghcr.io/o/f/Beta":{},"ghcr.io/o/f/old-zeta:1":{}}}"#;
    let resolution = resolve(request(file), None, &world).unwrap();
    let expected = [
        "ghcr.io/o/f/old-zeta:1",
        "ghcr.io/o/f/alpha",
        "ghcr.io/o/f/Beta",
    ];
    assert_eq!(ids(&resolution), expected);
    assert!(
        resolution.order[2]
            .canonical()
            .starts_with("ghcr.io/o/f/beta@sha256:")
    );
    let renamed = "Feature ghcr.io/o/f/old-zeta:1 was renamed; name it ghcr.io/o/f/zeta";
    assert_eq!(resolution.notes, [renamed]);
}

#[test]
fn outdated_names_become_options_of_others() {
    let world = BTreeMap::from([
        ("ghcr.io/devcontainers/features/java:1", r#"{"id":"java"}"#),
        (
            "ghcr.io/devcontainers/features/python:1",
            r#"{"id":"python"}"#,
        ),
    ]);
    let file = r#"{"image":"x","features":{"gradle":"latest","java":"11","jupyterlab":{}}}"#;
    let resolution = resolve(request(file), None, &world).unwrap();
    let options: Vec<String> = resolution
        .order
        .iter()
        .map(|resolved| serde_json::to_string(&resolved.options).unwrap())
        .collect();
    assert_eq!(
        options,
        [
            r#"{"installGradle":true,"version":"11"}"#,
            r#"{"installJupyterlab":true}"#
        ]
    );
}

#[test]
fn options_become_variables() {
    let metadata = Metadata::parse(
        "f",
        r#"{"id":"f","options":{"version":{"type":"string","default":"latest"},"flag":{"type":"boolean","default":true},"none":{"type":"string"},"a-b.c":{"default":"x"},"1st":{"default":""},"__x":{"default":"u"}}}"#,
    )
    .unwrap();
    let env = |text: &str| {
        let requested = parse_requested("test", &format!(r#"{{"./f":{text}}}"#)).unwrap();
        let env = requested[0].options.env(&metadata);
        let env: BTreeMap<String, String> = env.into_iter().collect();
        env
    };
    let defaults = env("{}");
    assert_eq!(defaults["VERSION"], "latest");
    assert_eq!(defaults["FLAG"], "true");
    assert_eq!(defaults["A_B_C"], "x");
    assert_eq!(defaults["_ST"], "");
    assert_eq!(defaults["_X"], "u");
    assert!(!defaults.contains_key("NONE"));
    assert_eq!(env(r#""1.2""#)["VERSION"], "1.2");
    assert_eq!(env("true"), defaults);
    let written = env(r#"{"flag":false,"more":"a b","n":3}"#);
    assert_eq!(
        (
            written["FLAG"].as_str(),
            written["MORE"].as_str(),
            written["N"].as_str()
        ),
        ("false", "a b", "3")
    );
    let error = parse_requested("--additional-features", r#"{"./f":{"a":[1]}}"#).unwrap_err();
    assert!(
        error.to_string().contains("--additional-features:1:13"),
        "{error}"
    );
}

#[test]
fn a_lockfile_pins_and_is_written_as_the_reference_writes_it() {
    let color =
        r#"{"id":"color","version":"1.2.3","dependsOn":{"localhost:5055/org/feats/dep":{}}}"#;
    let dep = r#"{"id":"dep","version":"1.0.0"}"#;
    let world = BTreeMap::from([
        ("localhost:5055/org/feats/color:1", color),
        ("localhost:5055/org/feats/dep:latest", dep),
        ("./.devcontainer/l", r#"{"id":"l"}"#),
    ]);
    let file =
        r#"{"image":"x","features":{"./l":{},"localhost:5055/org/feats/color:1":{"c":"red"}}}"#;
    let resolution = resolve(request(file), None, &world).unwrap();
    let lockfile = Lockfile::of(&resolution, &BTreeSet::new());
    let (color, dep) = (digest_of(color), digest_of(dep));
    let expected = format!(
        r#"{{
  "features": {{
    "localhost:5055/org/feats/color:1": {{
      "version": "1.2.3",
      "resolved": "localhost:5055/org/feats/color@{color}",
      "integrity": "{color}",
      "dependsOn": [
        "localhost:5055/org/feats/dep"
      ]
    }},
    "localhost:5055/org/feats/dep": {{
      "version": "1.0.0",
      "resolved": "localhost:5055/org/feats/dep@{dep}",
      "integrity": "{dep}"
    }}
  }}
}}
"#
    );
    assert_eq!(lockfile.emit(), expected);
    assert!(lockfile.says(&expected.replace("  ", "\t")));
    assert!(!lockfile.says(&expected.replace("1.2.3", "1.2.4")));
    assert_eq!(
        Lockfile::parse("lock", &expected).unwrap(),
        Some(lockfile.clone())
    );
    assert_eq!(Lockfile::parse("lock", " \n").unwrap(), None);

    let pinned = digest_of("older");
    let older = Lockfile::parse("lock", &expected.replace(&dep, &pinned)).unwrap();
    let resolution = resolve(request(file), older, &world).unwrap();
    let dependency = &resolution
        .order
        .iter()
        .find(|it| it.id.ends_with("dep"))
        .unwrap();
    assert_eq!(dependency.digest, Some(pinned));
    let without = Lockfile::of(
        &resolution,
        &BTreeSet::from(["localhost:5055/org/feats/color:1".to_owned()]),
    );
    assert_eq!(without.iter().count(), 1);
    let error = Lockfile::parse(
        "devcontainer-lock.json",
        r#"{"features":{"a":{"integrity":"md5:1"}}}"#,
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("devcontainer-lock.json:1:"),
        "{error}"
    );
}

#[test]
fn each_feature_is_a_step_with_its_variables_and_a_mounted_folder() {
    let world = local(&[
        (
            "a",
            r#""containerEnv":{"AVAR":"one two","PATH":"/opt/a/bin:${PATH}"},"options":{"v":{"default":"1"}},"entrypoint":"/ea","mounts":["type=volume,source=v-${devcontainerId},target=/a"]"#,
        ),
        ("b", r#""installsAfter":["./a"],"postCreateCommand":"x""#),
    ]);
    let resolution = resolve(
        request(r#"{"image":"x","features":{"./b":{},"./a":{}}}"#),
        None,
        &borrowed(&world),
    )
    .unwrap();
    let state = ImageState {
        env: vec![("PATH".into(), "/bin".into())],
        ..ImageState::default()
    };
    let users = Users {
        container: "root".into(),
        remote: "dev".into(),
    };
    let label = metadata_label(Some(r#"{"remoteUser":"dev"}"#), &resolution.order, None);
    let stage = install(
        Base::Image("x".into()),
        state,
        &resolution.order,
        &users,
        label,
    );
    let Op::Run(first) = &stage.steps[0].op else {
        panic!()
    };
    let variables: BTreeMap<_, _> = first.env.iter().cloned().collect();
    for (name, value) in [
        ("AVAR", "one two"),
        ("PATH", "/opt/a/bin:/bin"),
        ("V", "1"),
        ("_REMOTE_USER", "dev"),
        ("_CONTAINER_USER", "root"),
    ] {
        assert_eq!(
            variables.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    let target = &first.mounts[0].target;
    assert!(
        first.argv[2].contains(&format!("cd {target} ||")),
        "{:?}",
        first.argv
    );
    let mut plan = BuildPlan {
        stages: vec![stage.clone()],
    };
    extend(&mut plan, &resolution.order, &users, None);
    assert_eq!(plan.stages[1].base, Base::Stage(0));
    let Op::Run(second) = &stage.steps[1].op else {
        panic!()
    };
    assert!(second.env.contains(&("AVAR".into(), "one two".into())));
    assert!(
        !second.env.iter().any(|(name, _)| name == "V"),
        "options are a Feature's own"
    );
    assert_eq!(stage.state.env.len(), 2);
    let label: serde_json::Value =
        serde_json::from_str(&stage.state.labels["devcontainer.metadata"]).unwrap();
    let expected = serde_json::json!([
        {"remoteUser": "dev"},
        {"id": "./a", "entrypoint": "/ea", "mounts": ["type=volume,source=v-${devcontainerId},target=/a"]},
        {"id": "./b", "postCreateCommand": "x"},
    ]);
    assert_eq!(label, expected);
}

#[test]
fn an_images_label_carries_the_files_own_wishes_when_others_use_it() {
    let text = r#"{"image":"x","name":"n","remoteUser":"dev","containerEnv":{"A":"${localEnv:HOME}"},"initializeCommand":"no","forwardPorts":[80]}"#;
    let document = Document::parse(FILE, text).unwrap();
    let label = metadata_label(None, &[], Some(&document)).unwrap();
    let label: serde_json::Value = serde_json::from_str(&label).unwrap();
    assert_eq!(
        label,
        serde_json::json!([{"remoteUser":"dev","containerEnv":{"A":"${localEnv:HOME}"},"forwardPorts":[80]}])
    );
    let empty = Document::parse(FILE, r#"{"image":"x"}"#).unwrap();
    assert_eq!(metadata_label(Some("broken"), &[], Some(&empty)), None);
}

#[test]
fn old_editor_settings_move_to_customizations() {
    let metadata = Metadata::parse("f", r#"{"id":"f","extensions":["b"],"settings":{"x":1,"y":2},"customizations":{"vscode":{"extensions":["a"],"settings":{"y":3}}}}"#).unwrap();
    let expected = serde_json::json!({"vscode":{"extensions":["a","b"],"settings":{"x":1,"y":3}}});
    assert_eq!(metadata.label, [("customizations".to_owned(), expected)]);
}

#[test]
fn metadata_of_the_wrong_form_is_refused_by_place() {
    for (text, expected) in [
        ("[]", "an object"),
        (r#"{"id":1}"#, "id must be a string"),
        (r#"{"dependsOn":["a"]}"#, "dependsOn must be an object"),
        (r#"{"installsAfter":{}}"#, "installsAfter must be an array"),
        (r#"{"options":{"a":"b"}}"#, "options.a must be an object"),
        (r#"{"containerEnv":{"A":[]}}"#, "containerEnv.A must be"),
    ] {
        let error = Metadata::parse("a/devcontainer-feature.json", text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.starts_with("a/devcontainer-feature.json:1:"),
            "{error}"
        );
    }
}

#[test]
fn versions_sort_and_tags_move_only_forward() {
    let sorted: Vec<String> = Version::sorted([
        "1.10.0",
        "latest",
        "1",
        "1.9.1",
        "1.9.1-rc.2",
        "1.9.1-rc.10",
        "01.0.0",
        "2.0",
    ])
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(sorted, ["1.9.1-rc.2", "1.9.1-rc.10", "1.9.1", "1.10.0"]);
    for (version, tag, expected) in [
        ("1.2.3", "1", true),
        ("1.2.3", "1.2", true),
        ("1.2.3", "1.2.3", true),
        ("1.2.3", "1.3", false),
        ("1.2.3", "latest", false),
        ("1.2.3-rc.1", "1", false),
    ] {
        assert_eq!(
            Version::parse(version).unwrap().satisfies(tag),
            expected,
            "{version} {tag}"
        );
    }
    let publish = |version: &str, published: &[&str]| {
        let published: Vec<String> = published.iter().map(ToString::to_string).collect();
        Version::parse(version).unwrap().tags_to_publish(&published)
    };
    assert_eq!(
        publish("1.2.3", &[]).unwrap(),
        ["1", "1.2", "1.2.3", "latest"]
    );
    assert_eq!(publish("1.2.3", &["1.2.3", "1"]), None);
    assert_eq!(
        publish("1.2.4", &["1.3.0", "1.2.3", "2.0.0"]).unwrap(),
        ["1.2", "1.2.4"]
    );
    assert_eq!(
        publish("1.4.0", &["1.3.0", "2.0.0"]).unwrap(),
        ["1", "1.4", "1.4.0"]
    );
}

#[test]
fn edits_keep_what_is_written_around_them() {
    let text = "{\n  // kept\n  \"image\": \"x\",\n  \"features\": {\n    \"ghcr.io/a/b/C:1\": {} // too\n  }\n}\n";
    let edited = set_version("f", text, "ghcr.io/a/b/c", "2.1")
        .unwrap()
        .unwrap();
    assert_eq!(edited, text.replace("C:1", "C:2.1"));
    assert_eq!(set_version("f", text, "ghcr.io/a/b/d", "2").unwrap(), None);
    let more = [("ghcr.io/x/y/z:1".to_owned(), serde_json::json!({"v": "1"}))];
    let added = add_features("f", text, &more).unwrap();
    assert!(
        added.contains("// kept") && added.contains("// too"),
        "{added}"
    );
    let document = Document::parse("f", &added).unwrap();
    let request = document.features(&LocalContext::new("/w")).unwrap();
    assert_eq!(request.features.len(), 2);
    let added = add_features("f", "{\"image\":\"x\"}", &more).unwrap();
    assert!(Document::parse("f", &added).is_ok(), "{added}");
}

#[test]
fn a_readme_shows_usage_options_and_what_is_old() {
    use crate::readme::{About, readme};
    let about = About {
        file_name: "devcontainer-feature.json",
        metadata: r#"{"id":"c","version":"1.2.3","name":"Color","description":"D","deprecated":true,"legacyIds":["hue"],"options":{"v":{"type":"string","default":"","description":"which"},"f":{"type":"boolean","default":false}},"customizations":{"vscode":{"extensions":["a.b"]}}}"#,
        notes: "More.",
        url: "devcontainer-feature.json",
        published: Some(("ghcr.io", "o/r")),
    };
    let text = readme(&about).unwrap().unwrap();
    for part in [
        "### **IMPORTANT NOTE**\n- **This Feature is deprecated",
        "'hue'",
        "\n# Color (c)\n\nD\n\n## Example Usage\n",
        "\"ghcr.io/o/r/c:1\": {}",
        "| v | which | string | - |\n| f | - | boolean | false |\n",
        "- `a.b`\n\nMore.\n\n---\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let nameless = About {
        metadata: "{}",
        ..about
    };
    assert_eq!(readme(&nameless).unwrap(), None);
}

fn graphs() -> impl Strategy<Value = Vec<(Vec<usize>, Vec<usize>)>> {
    let edges = || proptest::collection::vec(0_usize..8, 0..3);
    proptest::collection::vec((edges(), edges()), 8)
}

proptest! {
    /// Any graph: either an order that respects every dependency, or a circle; never both, and the
    /// same whatever the order of the file.
    #[test]
    fn an_order_respects_dependencies_whatever_the_file_begins_with(
        graph in graphs(),
        wanted in proptest::collection::btree_set(0_usize..8, 1..6),
        priorities in proptest::collection::vec(0_usize..8, 0..3),
    ) {
        let name = |index: &usize| format!("./f{index}");
        let world: BTreeMap<String, String> = graph.iter().enumerate().map(|(index, (hard, soft))| {
            let hard: serde_json::Map<String, serde_json::Value> =
                hard.iter().map(|other| (name(other), serde_json::json!({}))).collect();
            let soft: Vec<String> = soft.iter().map(name).collect();
            let json = serde_json::json!({"id": format!("f{index}"), "dependsOn": hard, "installsAfter": soft});
            (format!("./.devcontainer/f{index}"), json.to_string())
        }).collect();
        let file = |order: Vec<&usize>| {
            let features: Vec<String> = order.iter().map(|index| format!("{:?}:{{}}", name(index))).collect();
            let priorities: Vec<String> = priorities.iter().map(name).collect();
            format!(r#"{{"image":"x","features":{{{}}},"overrideFeatureInstallOrder":{priorities:?}}}"#, features.join(","))
        };
        let forward = resolve(request(&file(wanted.iter().collect())), None, &borrowed(&world));
        let backward = resolve(request(&file(wanted.iter().rev().collect())), None, &borrowed(&world));
        match (forward, backward) {
            (Ok(forward), Ok(backward)) => {
                let order = ids(&forward);
                prop_assert_eq!(&order, &ids(&backward));
                let place = |index: &usize| order.iter().position(|id| *id == name(index));
                for (index, (hard, soft)) in graph.iter().enumerate() {
                    let Some(mine) = place(&index) else { continue };
                    for other in hard {
                        prop_assert!(place(other).is_some_and(|theirs| theirs < mine));
                    }
                    for other in soft.iter().filter(|other| **other != index) {
                        prop_assert!(place(other).is_none_or(|theirs| theirs < mine));
                    }
                }
                for index in &wanted {
                    prop_assert!(place(index).is_some());
                }
            }
            (Err(forward), Err(_)) => prop_assert!(forward.to_string().contains("circular dependency")),
            (forward, backward) => prop_assert!(false, "{forward:?} but {backward:?}"),
        }
    }
}

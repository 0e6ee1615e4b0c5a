//! Tables over options, files left out, and published metadata.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn options_are_filled_in_by_value_default_or_nothing() {
    let template = Template::parse(
        METADATA_FILE,
        r#"{"id":"t","options":{"variant":{"type":"string","default":"bookworm"},"zsh":{"type":"boolean","default":true},"none":{"type":"string"}}}"#,
    )
    .unwrap();
    let given = BTreeMap::from([
        ("variant".to_owned(), "trixie".to_owned()),
        ("more".to_owned(), "m".to_owned()),
    ]);
    let values = template.values(&given);
    for (text, expected) in [
        ("a ${templateOption:variant} b", "a trixie b"),
        ("${templateOption: variant }", "trixie"),
        ("${templateOption:zsh}${templateOption:more}", "truem"),
        ("[${templateOption:none}]", "[]"),
        ("[${templateOption:unknown}]", "[]"),
        (
            "${templateOption:a-b}${templateOption:",
            "${templateOption:a-b}${templateOption:",
        ),
        ("${localEnv:X} $5", "${localEnv:X} $5"),
        ("ä${templateOption:variant}ö", "ätrixieö"),
    ] {
        assert_eq!(substitute(text, &values), expected, "{text}");
    }
}

#[test]
fn files_are_left_out_by_name_or_folder() {
    let omit = [".github/*".to_owned(), "a/b.txt".to_owned()];
    for (path, expected) in [
        ("README.md", true),
        ("devcontainer-template.json", true),
        ("sub/README.md", false),
        (".github/a/b", true),
        (".githubx/a", false),
        ("a/b.txt", true),
        ("a/b.txt2", false),
    ] {
        assert_eq!(is_left_out(path, &omit), expected, "{path}");
    }
}

#[test]
fn published_metadata_says_what_is_in_the_template() {
    let text = r#"{"id":"t","version":"1.0.0","optionalPaths":[".github/*","docs/*"]}"#;
    let template = Template::parse(METADATA_FILE, text).unwrap();
    let files = [
        ".devcontainer/devcontainer.json",
        ".github/a.yml",
        "docs/a",
        "docs/b",
    ];
    let configuration = r#"{"build":{},"features":{"ghcr.io/a/b/C:1":{},"./local":{}}}"#;
    let json = published(&template, &files, "devcontainer.json", configuration).unwrap();
    assert_eq!(json["type"], "dockerfile");
    assert_eq!(json["fileCount"], 4);
    assert_eq!(json["featureIds"], serde_json::json!(["ghcr.io/a/b/c"]));
    assert_eq!(
        json["optionalPaths"],
        serde_json::json!([".github/a.yml", "docs/*"])
    );
    assert!(published(&template, &files, "devcontainer.json", "{}").is_err());
}

#![allow(clippy::unwrap_used, reason = "tests")]
use crate::{Mirror, Options};

#[test]
fn the_administrators_file_adds_mirrors_and_is_refused_when_it_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registries.json");
    let options = Options::default().read(&path).unwrap();
    assert!(options.mirrors.is_empty());
    std::fs::write(
        &path,
        r#"{"mirrors": {"docker.io": ["https://m.example/x"]}, "insecure": ["r.lan:5000"],
            "distributionMirrors": {"debian": "http://m.example/debian"}}"#,
    )
    .unwrap();
    let options = Options::default().read(&path).unwrap();
    assert_eq!(
        options.mirrors["docker.io"],
        [Mirror {
            endpoint: "https://m.example/x".to_owned()
        }]
    );
    assert_eq!(options.insecure, ["r.lan:5000"]);
    assert_eq!(
        options.distribution_mirrors["debian"],
        "http://m.example/debian"
    );
    for wrong in [
        "{",
        r#"{"mirror": {}}"#,
        r#"{"mirrors": {"docker.io": ["m.example"]}}"#,
    ] {
        std::fs::write(&path, wrong).unwrap();
        let error = Options::default().read(&path).unwrap_err().to_string();
        assert!(error.contains("registries.json"), "{error}");
    }
}

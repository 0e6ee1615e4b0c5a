//! Shapes of read and merged configurations, as the reference has them.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn read(text: &str) -> (Document, Reading) {
    let document = Document::parse(".devcontainer/devcontainer.json", text).unwrap();
    let reading = document.read(&LocalContext::new("/w/a,b")).unwrap();
    (document, reading)
}

#[test]
fn what_runs_nothing_is_kept_as_it_is_written() {
    let (_, reading) = read(
        r#"{"build": {"dockerfile": "D"}, "b": null, "name": "${localWorkspaceFolderBasename}"}"#,
    );
    assert_eq!(
        reading.configuration,
        json!({"build": {"dockerfile": "D"}, "b": null, "name": "a,b"})
    );
    assert_eq!(
        reading.workspace_mount.unwrap(),
        r#"type=bind,"source=/w/a,b","target=/workspaces/a,b""#
    );
}

#[test]
fn older_settings_move_to_customizations() {
    let (_, reading) = read(
        r#"{"extensions": ["b"], "settings": {"s": 1, "t": 1}, "customizations": {"vscode": {"extensions": ["a"], "settings": {"t": 2}}}}"#,
    );
    assert_eq!(
        reading.configuration,
        json!({"customizations": {"vscode": {"extensions": ["a", "b"], "settings": {"s": 1, "t": 2}}}})
    );
}

#[test]
fn merging_follows_the_table_property_by_property() {
    let (document, reading) = read(
        r#"{"image": "i", "forwardPorts": ["localhost:3000", "db:1"], "waitFor": "onCreateCommand",
            "hostRequirements": {"cpus": 2, "memory": "1gb", "gpu": "optional"}, "overrideCommand": false,
            "mounts": ["type=volume,src=n,dst=/d"], "remoteEnv": {"N": null}, "postCreateCommand": "f"}"#,
    );
    let label = json!([
        {"forwardPorts": [3000], "init": true, "hostRequirements": {"memory": "2gb"}, "overrideCommand": true,
         "mounts": [{"type": "volume", "source": "o", "target": "/d"}], "remoteEnv": {"N": "1", "W": "${localWorkspaceFolder}"}},
        {"entrypoint": "/e", "postCreateCommand": {"k": "l"}, "waitFor": "postCreateCommand", "capAdd": ["A", "A"]}
    ]);
    let entries = label_entries(&label.to_string()).unwrap();
    let merged = reading.merged(&entries, &document);
    for (name, expected) in [
        ("forwardPorts", json!([3000, "db:1"])),
        ("init", json!(true)),
        ("privileged", json!(false)),
        (
            "hostRequirements",
            json!({"cpus": 2, "memory": "2147483648", "gpu": "optional"}),
        ),
        ("overrideCommand", json!(false)),
        ("mounts", json!(["type=volume,src=n,dst=/d"])),
        ("remoteEnv", json!({"N": null, "W": "/w/a,b"})),
        ("entrypoints", json!(["/e"])),
        ("postCreateCommands", json!([{"k": "l"}, "f"])),
        ("onCreateCommands", json!([])),
        ("waitFor", json!("onCreateCommand")),
        ("capAdd", json!(["A"])),
        ("image", json!("i")),
    ] {
        assert_eq!(merged[name], expected, "{name}");
    }
    assert!(merged.get("postCreateCommand").is_none());
    assert!(merged.get("securityOpt").is_none());
}

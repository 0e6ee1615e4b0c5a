//! Files as vendors and administrators write them.
use super::*;
use std::os::unix::fs::PermissionsExt as _;

const GOOD: &str = r#"{
  "cdiVersion": "0.6.0",
  "kind": "example.com/gpu",
  "annotations": {"a": "b"},
  "containerEdits": {
    "env": ["VISIBLE=all"],
    "mounts": [{"hostPath": "/usr/lib", "containerPath": "/opt/driver", "options": ["ro", "nosuid", "nodev", "bind"]}]
  },
  "devices": [
    {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/drawing/0", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 432, "permissions": "r", "uid": 7, "gid": 8}]}},
    {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/full"}], "env": ["ONE=1"]}}
  ]
}"#;

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let paths = vec![folder.path().to_path_buf()];
    (folder, paths)
}

fn asked(paths: &[PathBuf], names: &[&str]) -> Result<Given, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    find(paths, &names).map_err(|failed| {
        assert_eq!(failed.reason, "DeviceUnavailable");
        failed.message
    })
}

#[test]
fn devices_bring_nodes_variables_and_mounts() {
    let (_folder, paths) = folder(&[("a.json", GOOD)]);
    let given = asked(&paths, &["example.com/gpu=0", "example.com/gpu=1"]).unwrap();
    assert_eq!(
        given.devices,
        [
            Device {
                host: "/dev/zero".into(),
                inside: "/dev/drawing/0".into(),
                read_only: true,
                mode: 0o660,
                uid: 7,
                gid: 8
            },
            Device {
                host: "/dev/full".into(),
                inside: "/dev/full".into(),
                read_only: false,
                mode: 0o666,
                uid: 0,
                gid: 0
            },
        ]
    );
    let env: Vec<_> = given
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["ONE=1", "VISIBLE=all"]);
    assert_eq!(
        given.mounts.len(),
        1,
        "those for all stand once: {:?}",
        given.mounts
    );
    assert!(given.mounts[0].read_only && given.mounts[0].target == Path::new("/opt/driver"));
    assert!(asked(&paths, &[]).unwrap().devices.is_empty());
    let kvm = asked(&paths, &["boatyard.dev/kvm=kvm"]);
    if Path::new("/dev/kvm").exists() {
        assert_eq!(kvm.unwrap().devices[0].inside, Path::new("/dev/kvm"));
    } else {
        assert!(kvm.unwrap_err().contains("/dev/kvm"));
    }
}

#[test]
fn yaml_is_read_and_a_later_directory_stands_over_an_earlier() {
    let yaml = |node: &str| {
        format!(
            "cdiVersion: 0.3.0\nkind: example.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: {node}\n"
        )
    };
    let (_one, mut paths) = folder(&[("a.yaml", &yaml("/dev/zero")), ("ignored.txt", "{")]);
    let (_two, more) = folder(&[("a.yaml", &yaml("/dev/full"))]);
    paths.extend(more);
    paths.push("/nonexistent".into());
    let given = asked(&paths, &["example.com/gpu=all"]).unwrap();
    assert_eq!(given.devices[0].host, Path::new("/dev/full"));
}

#[test]
fn what_is_wrong_is_said_with_its_file_and_field() {
    let device = |edits: &str| {
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "example.com/a", "devices": [{{"name": "x", "containerEdits": {edits}}}]}}"#
        )
    };
    for (text, said) in [
        (
            device(r#"{"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}"#),
            "a.json says devices[0].containerEdits.hooks, which is not supported: programs of a vendor are not run on the host",
        ),
        (
            device(r#"{"intelRdt": {}}"#),
            "containerEdits.intelRdt, which is not supported",
        ),
        (
            device(r#"{"additionalGids": [5]}"#),
            "containerEdits.additionalGids, which is not supported",
        ),
        (
            device(r#"{"env": ["x"]}"#),
            "env[0] \"x\", which is not NAME=value",
        ),
        (
            device(r#"{"deviceNodes": [{"path": "/tmp/x"}]}"#),
            "deviceNodes[0].path \"/tmp/x\", which is not below /dev",
        ),
        (
            device(r#"{"deviceNodes": [{"path": "/dev/../etc"}]}"#),
            "which is not below /dev",
        ),
        (
            device(r#"{"deviceNodes": [{"path": "/dev/zero", "type": "p"}]}"#),
            "which is no kind of device",
        ),
        (
            device(r#"{"deviceNodes": [{"path": "/dev/zero", "major": 8, "minor": 0}]}"#),
            "major and minor 8:0, and /dev/zero is 1:5",
        ),
        (
            device(r#"{"deviceNodes": [{"path": "/dev/zero", "permissions": "x"}]}"#),
            "which are not made of r, w and m",
        ),
        (
            device(r#"{"mounts": [{"hostPath": "/", "containerPath": "/host"}]}"#),
            "hostPath \"/\", which is not absolute or is all of the host",
        ),
        (
            device(r#"{"mounts": [{"hostPath": "/usr", "containerPath": "/x", "type": "tmpfs"}]}"#),
            "only bind mounts are made",
        ),
        // Unreadable files are named where the device is missing.
        (device(r#"{"deviceNodez": []}"#), "no file in "),
        (device(r#"{"deviceNodez": []}"#), "deviceNodez"),
        (
            device("{}").replace("0.6.0", "2.0.0"),
            "cdiVersion is \"2.0.0\"; known are 0.3.0 to 1.0.0",
        ),
        (
            device("{}").replace("example.com/a", "a"),
            "kind is \"a\", and has to be vendor/class",
        ),
        ("{".to_owned(), "a.json: "),
    ] {
        let (_folder, paths) = folder(&[("a.json", &text)]);
        let told = asked(&paths, &["example.com/a=x"]).unwrap_err();
        assert!(told.contains(said), "{told}\ndoes not say\n{said}");
    }
}

#[test]
fn a_broken_file_costs_its_own_devices_and_one_of_others_is_left_out() {
    let (folder, paths) = folder(&[("a.json", "{"), ("b.json", GOOD)]);
    asked(&paths, &["example.com/gpu=1"]).unwrap();
    let path = folder.path().join("b.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let told = asked(&paths, &["example.com/gpu=1"]).unwrap_err();
    assert!(
        told.contains("could be written by others than root"),
        "{told}"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::copy(&path, folder.path().join("c.json")).unwrap();
    let told = asked(&paths, &["example.com/gpu=1"]).unwrap_err();
    assert!(told.contains("two files in"), "{told}");
}

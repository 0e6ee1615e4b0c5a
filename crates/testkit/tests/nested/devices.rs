//! Devices of the host, which an administrator gives to a class by their names.

use boatyard_testkit::Daemon;

const FILE: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/gpu
containerEdits:
  env: [DRAWING=yes]
  mounts:
  - hostPath: /usr/share/common-licenses
    containerPath: /opt/driver
    options: [ro, nosuid, nodev, bind]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - {path: /dev/drawing/written, hostPath: /dev/kmsg, permissions: rw, fileMode: 416, uid: 1000, gid: 1000}
- name: "1"
  containerEdits:
    deviceNodes: [{path: /dev/drawing/read, hostPath: /dev/kmsg, permissions: r}]
- name: broken
  containerEdits:
    hooks: [{hookName: createContainer, path: /bin/true}]
"#;

fn class(daemon: &Daemon, name: &str, devices: &[&str]) {
    let class = serde_json::json!({
        "apiVersion": "boatyard.dev/v1",
        "kind": "EnvironmentClass",
        "metadata": {"name": name},
        "spec": {"devices": devices}
    });
    let path = daemon.folder().join(format!("{name}.json"));
    std::fs::write(&path, class.to_string()).unwrap();
    daemon.cli(&["apply", "-f", path.to_str().unwrap()]).ok();
}

#[test]
fn a_class_gives_devices_that_the_host_describes_and_no_others() {
    let mut daemon = Daemon::prepare();
    let described = daemon.folder().join("cdi");
    std::fs::create_dir(&described).unwrap();
    std::fs::write(described.join("example.yaml"), FILE).unwrap();
    daemon.run(&["--cdi-dir", described.to_str().unwrap()]);
    daemon.import_image();
    class(&daemon, "drawing", &["example.com/gpu=0"]);
    class(&daemon, "reading", &["example.com/gpu=1"]);
    class(&daemon, "absent", &["example.com/gpu=9"]);
    class(&daemon, "broken", &["example.com/gpu=broken"]);

    // Who asks for a GPU gets the class that has one; nobody else does.
    let config = r#"{"image": "test:latest", "hostRequirements": {"gpu": true}}"#;
    let folder = daemon.project("drawing", config);
    daemon
        .cli(&["up", &folder, "--detach", "--class", "drawing"])
        .ok();
    let seen = daemon.sh(
        "drawing",
        "stat -c '%n %F %a %u:%g %t:%T' /dev/drawing/written; echo $DRAWING; ls /opt/driver/GPL-3
         (: > /dev/drawing/written) && echo opened; touch /opt/driver/x 2>/dev/null || echo read-only",
    );
    assert_eq!(
        seen.ok(),
        "/dev/drawing/written character special file 640 1000:1000 1:b\nyes\n/opt/driver/GPL-3\nopened\nread-only\n"
    );
    let config_of_any = r#"{"image": "test:latest"}"#;
    let folder = daemon.project("reading", config_of_any);
    daemon
        .cli(&["up", &folder, "--detach", "--class", "reading"])
        .ok();
    let seen = daemon.sh(
        "reading",
        "stat -c %a /dev/drawing/read; (: > /dev/drawing/read) 2>/dev/null || echo not written",
    );
    assert_eq!(seen.ok(), "666\nnot written\n");
    let plain = daemon.project("plain", config_of_any);
    daemon.cli(&["up", &plain, "--detach"]).ok();
    assert_eq!(
        daemon
            .sh("plain", "ls -d /dev/drawing; mknod /dev/x c 1 11")
            .code,
        1
    );

    let refused = |name: &str, class: &str, config: &str| {
        let folder = daemon.project(name, config);
        let ran = daemon.cli(&["up", &folder, "--detach", "--class", class]);
        assert_ne!(ran.code, 0, "{ran:?}");
        ran.stderr
    };
    let told = refused("absent", "absent", config_of_any);
    assert!(
        told.contains("names the device example.com/gpu=9, and no file in"),
        "{told}"
    );
    let told = refused("broken", "broken", config_of_any);
    assert!(
        told.contains("example.yaml says devices[2].containerEdits.hooks"),
        "{told}"
    );
    let told = refused("needing", "default", config);
    assert!(told.contains("asks for a GPU, and it has none"), "{told}");
}

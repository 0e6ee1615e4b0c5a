//! A folder on a file system that does not answer ends in words after a while, and stops nobody
//! else meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, photo};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A FUSE file system whose program never says a word: whoever asks it waits.
struct Silent {
    program: Option<File>,
    path: PathBuf,
}

impl Silent {
    fn mount(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let program = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("this test needs /dev/fuse");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            program.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("silent", path, "fuse", flags, options.as_c_str()).unwrap();
        Self {
            program: Some(program),
            path: path.to_owned(),
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Whoever waits is told that the program is gone.
        drop(self.program.take());
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn environment(daemon: &Daemon, name: &str, folder: &str) {
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"source": {"folder": {"path": folder}}},
    });
    let file = daemon.folder().join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
}

fn status(daemon: &Daemon, name: &str) -> serde_json::Value {
    let text = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    object["status"].clone()
}

#[test]
fn a_folder_that_hangs_is_told_after_a_while_and_stops_nobody_else() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let silent = Silent::mount(&daemon.folder().join("silent"));
    environment(&daemon, "stuck", silent.path.to_str().unwrap());
    // Others come up, stop and go while it waits: spawner and runner are free.
    let began = Instant::now();
    let folder = daemon.project("app", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert_eq!(daemon.sh("app", "echo here").ok(), "here\n");
    daemon.cli(&["rm", "--force", "app"]).ok();
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "the other one waited: {:?}",
        began.elapsed()
    );
    // A view has 30 seconds for a question, the runner 40.
    let told = loop {
        let status = status(&daemon, "stuck");
        if status["phase"] == "Failed" {
            break status["message"].as_str().unwrap().to_owned();
        }
        assert!(
            began.elapsed() < Duration::from_secs(90),
            "it is never told: {status}"
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(told.contains("the file system does not answer"), "{told}");
    daemon.cli(&["rm", "--force", "stuck"]).ok();
    drop(silent);
    boatyard_testkit::wait::until("the host as before", || {
        (daemon.photo() == before).then_some(())
    });
    assert!(!photo::ended(daemon.pid()));
}

//! A full disk under the state directory: one clear sentence, nothing half-made, nothing lost.

use super::CONFIG;
use boatyard_testkit::photo::Photo;
use boatyard_testkit::{Daemon, Ran, wait};
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// After how long a command counts as waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same of one that may not wait.
const LONGEST: Duration = Duration::from_secs(100);

/// Takes all room on the state directory's file system but so many bytes.
fn fill(daemon: &Daemon, left: u64) {
    let mut file = std::fs::File::create(daemon.state().join("filler")).unwrap();
    for size in [64 * 1024, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(left)).unwrap();
}

fn free(daemon: &Daemon) {
    std::fs::remove_file(daemon.state().join("filler")).unwrap();
}

/// Runs a command to its end, or for so long.
fn run_for(daemon: &Daemon, arguments: &[&str], longest: Duration) -> Result<Ran, Child> {
    let mut child = daemon
        .client(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > longest {
            return Err(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output().unwrap().into())
}

/// Whether nothing runs and nothing is left but what the API still knows.
fn at_rest(daemon: &Daemon, empty: &Photo) {
    wait::until("nothing half-made", || {
        let now = daemon.photo();
        let seen = Photo {
            directories: empty.directories.clone(),
            ..now
        };
        (seen == *empty).then_some(())
    });
}

/// A daemon on a small disk with an image, and how the host looks then.
fn on_small_disk() -> (Daemon, Photo) {
    let mut daemon = Daemon::prepare();
    // Fetching an image leaves half a gibibyte alone; what follows does not.
    daemon.limit_state(600);
    daemon.run(&[]);
    daemon.import_image();
    let ballast = std::fs::File::create(daemon.state().join("ballast")).unwrap();
    let how = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&ballast, how, 0, 540 << 20).unwrap();
    let empty = daemon.first_photo();
    (daemon, empty)
}

#[test]
fn up_on_a_full_disk_says_so_and_succeeds_once_there_is_room() {
    let (mut daemon, empty) = on_small_disk();
    let folder = daemon.project("app", CONFIG);
    let (mut failed, mut succeeded) = (0, 0);
    for left in [0, 4, 16, 64, 256, 1024, 15_000, 30_000] {
        fill(&daemon, left * 1024);
        let longest = if left <= 16 { PATIENCE } else { LONGEST };
        match run_for(&daemon, &["up", &folder, "--detach"], longest) {
            Ok(ran) if ran.code == 0 => {
                succeeded += 1;
                free(&daemon);
            }
            Ok(ran) => {
                failed += 1;
                assert!(
                    ran.stderr.contains("disk") && ran.stderr.contains("free"),
                    "with {left} KiB left: {ran:?}"
                );
                assert!(ran.stderr.contains(daemon.state().to_str().unwrap()));
                at_rest(&daemon, &empty);
                free(&daemon);
                daemon.cli(&["up", &folder, "--detach"]).ok();
            }
            // The object fitted into what was left and no word about it did: that waits for room.
            Err(waiting) => {
                assert!(left <= 16, "with {left} KiB left it waits");
                at_rest(&daemon, &empty);
                free(&daemon);
                let ran = Ran::from(waiting.wait_with_output().unwrap());
                assert!(ran.code == 0 || ran.stderr.contains("free"), "{ran:?}");
                daemon.cli(&["up", &folder, "--detach"]).ok();
            }
        }
        assert_eq!(daemon.sh("app", "cat /root/starts").ok(), "started\n");
        daemon.cli(&["rm", "--force", "app"]).ok();
        wait::until("the host as before", || {
            (daemon.photo() == empty).then_some(())
        });
    }
    assert!(failed >= 2 && succeeded >= 1, "{failed} {succeeded}");
    daemon.kill();
    daemon.run(&[]);
    assert_eq!(daemon.cli(&["ls", "-o", "name"]).ok(), "");
    daemon.cli(&["up", &folder, "--detach"]).ok();
}

#[test]
fn an_environment_goes_on_when_the_disk_is_filled_under_it_and_loses_nothing() {
    let (mut daemon, empty) = on_small_disk();
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon.sh("app", "echo kept > /root/kept").ok();
    let filled = daemon.sh("app", "dd if=/dev/zero of=/root/much bs=4096");
    assert!(filled.stderr.contains("No space left"), "{filled:?}");
    assert_eq!(daemon.sh("app", "cat /root/kept").ok(), "kept\n");
    // Asked to start another, it says why not.
    let other = daemon.project("other", CONFIG);
    let refused = run_for(&daemon, &["up", &other, "--detach"], LONGEST).unwrap();
    assert!(
        refused.code != 0 && refused.stderr.contains("disk") && refused.stderr.contains("free"),
        "{refused:?}"
    );
    daemon.kill();
    assert!(daemon.refuses_to_start().contains("No space left"));
    let init = photo_of_one(&daemon);
    std::fs::remove_file(daemon.state().join("ballast")).unwrap();
    daemon.run(&[]);
    let kept = wait::until("the adopted environment", || {
        Some(daemon.sh("app", "cat /root/kept /root/starts")).filter(|ran| ran.code == 0)
    });
    assert_eq!(kept.stdout, "kept\nstarted\n");
    assert_eq!(photo_of_one(&daemon), init, "it was adopted");
    daemon.cli(&["rm", "--force", "app"]).ok();
    wait::until("the host as before", || {
        (daemon.photo() == empty).then_some(())
    });
}

/// The processes of the one environment.
fn photo_of_one(daemon: &Daemon) -> std::collections::BTreeSet<String> {
    daemon.photo().processes
}

//! Kills at any time: environments outlive the runner, and nothing half-made stays.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, Typist, photo, wait};
use rustix::fs::FlockOperation;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

const CONFIG: &str = r#"{"image": "test:latest", "postStartCommand": "echo started >> /root/starts", "waitFor": "postStartCommand"}"#;

#[test]
fn running_environments_and_their_processes_survive_a_killed_daemon() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon
        .sh("app", "(sleep 1000 >/dev/null 2>&1 & echo $! > /root/pid)")
        .ok();
    daemon.kill();
    daemon.run(&[]);
    let answered = wait::until("the adopted environment", || {
        Some(daemon.sh("app", "kill -0 $(cat /root/pid) && cat /root/starts"))
            .filter(|ran| ran.code == 0)
    });
    assert_eq!(
        answered.stdout, "started\n",
        "it was adopted, not started again"
    );
    let before = daemon.photo();
    assert!(!before.processes.is_empty());
    daemon.cli(&["rm", "--force", "app"]).ok();
    let after = daemon.photo();
    assert!(
        after.processes.is_empty()
            && after.cgroups.is_empty()
            && after.routes.is_empty()
            && after.directories.is_empty(),
        "{after:?}"
    );
}

#[test]
fn open_shells_and_commands_go_on_without_the_daemon_and_beside_its_successor() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder]).ok();
    let mut typist = Typist::sit_down(&daemon, "app");
    let command = daemon.client(&[
        "exec",
        "app",
        "--",
        "sh",
        "-c",
        "echo begun; read word; echo $word; exit 7",
    ]);
    let command = Waiting::start(command);
    daemon.kill();
    typist.line("echo a''lone; cd /tmp");
    typist.wait_for(b"alone");
    daemon.run(&[]);
    typist.line("echo be''side $PWD");
    typist.wait_for(b"beside /tmp");
    assert_eq!(command.tell("heard\n"), ("heard\n".to_owned(), Some(7)));
    assert_eq!(daemon.sh("app", "echo new").ok(), "new\n");
    // Each ends with its environment, by whoever's hand.
    daemon.cli(&["stop", "app"]).ok();
    assert!(matches!(typist.ended(), Some(125 | 137)));
}

/// A client that has begun and waits for a word.
struct Waiting {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Waiting {
    fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        Self { child, output }
    }

    /// Says the word; answers what was said then and how it ended.
    fn tell(mut self, word: &str) -> (String, Option<i32>) {
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(word.as_bytes()).unwrap();
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (said, self.child.wait().unwrap().code())
    }
}

#[test]
fn after_a_power_cut_environments_start_again_with_what_they_had_written() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon.sh("app", "echo precious > /root/kept; sync").ok();
    daemon.power_cut();
    daemon.run(&[]);
    let kept = wait::until("the environment to be back", || {
        Some(daemon.sh("app", "cat /root/kept /root/starts"))
            .filter(|ran| ran.code == 0 && ran.stdout.matches("started").count() == 2)
    });
    assert_eq!(kept.stdout, "precious\nstarted\nstarted\n");
}

#[test]
fn clients_that_find_no_daemon_start_one_between_them_and_wait_for_one_that_is_ending() {
    let daemon = Daemon::prepare();
    let list = || {
        let mut command = daemon.boatyard(&["ls"]);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let clients = [list(), list(), list(), list()];
    let started = Started(daemon.socket());
    for client in clients {
        Ran::from(client.wait_with_output().unwrap()).ok();
    }
    drop(started);

    // One that has its socket no more but its state directory still.
    let lock = std::fs::File::create(daemon.state().join("lock")).unwrap();
    wait::until("the state directory", || {
        // One that was started when nobody answered may come late.
        drop(Started(daemon.socket()));
        rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).ok()
    });
    let log = || std::fs::read_to_string(daemon.state().join("daemon.log")).unwrap_or_default();
    let before = log().len();
    let client = list();
    let _last = Started(daemon.socket());
    wait::until("a daemon that is refused", || {
        let said = log().split_off(before);
        said.contains("another Boatyard process uses").then_some(())
    });
    drop(lock);
    Ran::from(client.wait_with_output().unwrap()).ok();
}

/// A daemon that clients started on a socket; ended with this.
struct Started(PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        let Ok(stream) = UnixStream::connect(&self.0) else {
            return;
        };
        let peer = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
        rustix::process::kill_process(peer, rustix::process::Signal::TERM).unwrap();
        let pid = peer.as_raw_nonzero().get().cast_unsigned();
        wait::until("the daemon to end", || photo::ended(pid).then_some(()));
    }
}

/// Kills the daemon after a growing pause into each verb, until the verb is done before the kill.
fn sweep(verb: &dyn Fn(&Daemon) -> Child, settle: &dyn Fn(&Daemon)) {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let mut pause = std::time::Duration::ZERO;
    let mut done_before_kill = 0;
    while done_before_kill < 2 {
        let mut child = verb(&daemon);
        let began = std::time::Instant::now();
        while began.elapsed() < pause && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        if child.try_wait().unwrap().is_some() {
            done_before_kill += 1;
        }
        daemon.kill();
        let _ = child.kill();
        child.wait().unwrap();
        daemon.run(&[]);
        settle(&daemon);
        pause += (pause / 16).max(std::time::Duration::from_millis(4));
    }
    let after = daemon.photo();
    assert!(
        after.processes.is_empty()
            && after.cgroups.is_empty()
            && after.routes.is_empty()
            && after.directories.is_empty()
            && after.mounts.is_empty(),
        "{after:?}"
    );
}

#[test]
fn a_kill_at_any_time_of_up_is_finished_or_cleaned_up() {
    sweep(
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon
                .client(&["up", &folder, "--detach"])
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        },
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon.cli(&["up", &folder, "--detach"]).ok();
            assert_eq!(
                daemon.sh("app", "cat /root/starts").ok().lines().last(),
                Some("started")
            );
            daemon.cli(&["rm", "--force", "app"]).ok();
        },
    );
}

#[test]
fn a_kill_at_any_time_of_stop_and_rm_ends_in_what_was_asked() {
    sweep(
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon.cli(&["up", &folder, "--detach"]).ok();
            daemon
                .client(&["stop", "app"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        },
        &|daemon| {
            daemon.cli(&["stop", "app"]).ok();
            assert!(daemon.photo().processes.is_empty());
            daemon.cli(&["start", "app"]).ok();
            daemon.cli(&["rm", "--force", "--no-wait", "app"]).ok();
            wait::until("the environment to be gone", || {
                daemon
                    .cli(&["ls", "-o", "name"])
                    .stdout
                    .is_empty()
                    .then_some(())
            });
        },
    );
}

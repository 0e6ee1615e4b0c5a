//! The daemon's helpers killed while an environment runs: it ends with one that works.

use super::CONFIG;
use boatyard_testkit::photo::Photo;
use boatyard_testkit::{Daemon, wait};
use std::net::UdpSocket;

/// A daemon whose host resolves names by a resolver of the test's, with one environment.
struct Host {
    daemon: Daemon,
    empty: Photo,
    through: Vec<String>,
}

/// Answers every query for an address with 198.51.100.7, on its own loopback address.
fn resolver() -> String {
    let (socket, address) = (1..250)
        .find_map(|last| {
            let address = format!("127.0.53.{last}");
            Some((UdpSocket::bind((address.as_str(), 53)).ok()?, address))
        })
        .unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let mut answer = query[..length].to_vec();
            // Response, recursion available; one answer: name by pointer, A, IN, 60 s.
            (answer[2], answer[3]) = (0x81, 0x80);
            let wants_a = answer[length - 3] == 1;
            answer[7] = u8::from(wants_a);
            if wants_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

impl Host {
    fn new() -> Self {
        let mut daemon = Daemon::prepare();
        let file = daemon.folder().join("resolv.conf");
        std::fs::write(&file, format!("nameserver {}\n", resolver())).unwrap();
        let script = format!(
            "mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
            file.display()
        );
        let through = ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned);
        let mut host = Self {
            empty: Photo::default(),
            through: through.to_vec(),
            daemon: {
                let words: Vec<&str> = through.iter().map(String::as_str).collect();
                daemon.run_through(&words, &[]);
                daemon
            },
        };
        host.daemon.import_image();
        host.empty = host.daemon.first_photo();
        let folder = host.daemon.project("app", CONFIG);
        host.daemon.cli(&["up", &folder, "--detach"]).ok();
        host.daemon.sh("app", "echo kept > /root/kept").ok();
        host.works(1);
        host
    }

    fn start_daemon(&mut self) {
        let words: Vec<&str> = self.through.iter().map(String::as_str).collect();
        self.daemon.run_through(&words, &[]);
    }

    fn monitor(&self) -> u32 {
        let monitors = self.daemon.monitors();
        assert_eq!(monitors.len(), 1, "{monitors:?}");
        u32::try_from(monitors[0]).unwrap()
    }

    /// Waits until the environment runs for the given time and everything in it works.
    fn works(&self, starts: usize) {
        let script =
            "nslookup harbour.example; cat /root/kept; grep -c started /root/starts; ip route";
        let last = std::cell::RefCell::new(None);
        let seen = wait::until_or(
            "a working environment",
            || format!("{last:?}"),
            || {
                let ran = self.daemon.sh("app", script);
                let works = ran.code == 0
                    && ran.stdout.contains("198.51.100.7")
                    && ran.stdout.contains(&format!("\nkept\n{starts}\n"));
                let seen = works.then(|| ran.stdout.clone());
                last.replace(Some(ran));
                seen
            },
        );
        assert!(seen.contains("default via"), "{seen}");
        wait::until("the phase", || {
            let got = self
                .daemon
                .cli(&["get", "environments", "app", "-o", "json"])
                .ok();
            let object: serde_json::Value = serde_json::from_str(&got).unwrap();
            (object["status"]["phase"] == "Running").then_some(())
        });
        let now = self.daemon.photo();
        assert_eq!(now.routes.len(), 1, "{now:?}");
    }

    /// The daemon has lived all the time, and nothing stays when the environment goes.
    fn ends_clean(mut self) {
        assert!(self.daemon.lives());
        self.daemon.cli(&["rm", "--force", "app"]).ok();
        wait::until("the host as before", || {
            (self.daemon.photo() == self.empty).then_some(())
        });
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_environment_whose_monitor_is_killed_works_again_by_itself() {
    let host = Host::new();
    for starts in 2..5 {
        kill(host.monitor());
        host.works(starts);
    }
    host.ends_clean();
}

#[test]
fn a_monitor_killed_while_no_daemon_runs_is_noticed_by_the_next() {
    let mut host = Host::new();
    let monitor = host.monitor();
    host.daemon.kill();
    kill(monitor);
    host.start_daemon();
    host.works(2);
    host.ends_clean();
}

#[test]
fn a_killed_spawner_is_replaced_and_what_runs_goes_on() {
    let host = Host::new();
    for starts in 2..4 {
        kill(host.daemon.spawner().unwrap());
        host.works(starts - 1);
        host.daemon.cli(&["restart", "app"]).ok();
        host.works(starts);
    }
    host.ends_clean();
}

#[test]
fn spawner_monitor_and_init_killed_together_end_in_a_working_environment() {
    let host = Host::new();
    let init: u32 = {
        let now = host.daemon.photo();
        now.processes.first().unwrap().parse().unwrap()
    };
    kill(host.daemon.spawner().unwrap());
    kill(host.monitor());
    kill(init);
    host.works(2);
    host.ends_clean();
}

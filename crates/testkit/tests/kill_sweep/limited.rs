//! A life with everything limited: processors, memory, tasks, disk, bandwidth both ways, an egress
//! policy; work that fair shares move about; and a class that changes while the environment runs.
//!
//! After each kill the environment is held to what its class says by then, as the kernel has it, and
//! when it is removed no queue, device, chain or loop device is left.

use super::{Place, run_in, sweep_a_life, sweep_starts};
use boatyard_testkit::photo;
use boatyard_testkit::tracer::Tracer;
use boatyard_testkit::wait;
use std::process::{Command, Stdio};

/// What the environment does: it writes, and keeps a processor busy for long enough to be moved to the
/// builders and, when that is over, capped anew.
pub(super) const WORK: &str = "echo kept > /root/kept; timeout 0.4 sh -c 'while :; do :; done'; :";

/// A class, before and after it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    First,
    Changed,
}

/// What the kernel is to hold an environment to.
struct Wanted {
    cpu_millis: u64,
    pids: u64,
    memory: u64,
    /// As `tc` writes them.
    egress: Option<&'static str>,
    ingress: Option<&'static str>,
    range: &'static str,
}

impl Size {
    fn wanted(self) -> Wanted {
        match self {
            Size::First => Wanted {
                cpu_millis: 1500,
                pids: 400,
                memory: 256 << 20,
                egress: Some("80Mbit"),
                ingress: Some("120Mbit"),
                range: "203.0.113.0/24",
            },
            // What it may receive is limited no more: a queue goes, another changes.
            Size::Changed => Wanted {
                cpu_millis: 1000,
                pids: 300,
                memory: 200 << 20,
                egress: Some("60Mbit"),
                ingress: None,
                range: "198.51.100.0/24",
            },
        }
    }

    fn class(self) -> serde_json::Value {
        let wanted = self.wanted();
        let network: serde_json::Map<_, _> =
            [("egress", wanted.egress), ("ingress", wanted.ingress)]
                .into_iter()
                .filter_map(|(way, rate)| Some((way.to_owned(), rate?.replace("Mbit", "M").into())))
                .collect();
        serde_json::json!({
            "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
            "metadata": {"name": "default"},
            "spec": {
                "resources": {
                    "cpu": format!("{}m", wanted.cpu_millis),
                    "memory": format!("{}Mi", wanted.memory >> 20),
                    "pids": wanted.pids,
                    "disk": if self == Size::First { "40Mi" } else { "48Mi" },
                    "network": network,
                },
                "egress": {"mode": "AllowList", "allow": [
                    {"domain": "*.example.org"},
                    {"cidr": wanted.range, "ports": [443]},
                    {"cidr": wanted.range.replace("/24", "/32")},
                ]},
            },
        })
    }
}

#[test]
fn a_kill_at_any_call_in_the_life_of_an_environment_with_every_limit_is_made_good() {
    sweep_a_life("a life with limits", limited);
}

#[test]
fn a_kill_at_any_call_of_a_daemons_start_leaves_environments_held_to_their_limits() {
    sweep_starts("a start with limits", || run_in(limited()));
}

/// A daemon whose environments have a class with every limit.
fn limited() -> Place {
    let mut place = Place::new();
    place.limited = true;
    place.class(Size::First);
    place
}

impl Place {
    /// A file with the class.
    pub(super) fn class_file(&self, size: Size) -> String {
        let file = self.daemon.folder().join(format!("class-{size:?}.json"));
        std::fs::write(&file, size.class().to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Gives environments this class from now on.
    pub(super) fn class(&self, size: Size) {
        let file = self.class_file(size);
        self.daemon.cli(&["apply", "-f", &file]).ok();
        wait::until("the class to be read", || {
            (self.size() == Some(size)).then_some(())
        });
    }

    /// Which class the API has.
    fn size(&self) -> Option<Size> {
        let mut got = self
            .daemon
            .client(&["get", "environmentclasses", "default", "-o", "json"]);
        let got = got.stderr(Stdio::null()).output().unwrap();
        let class = serde_json::from_slice::<serde_json::Value>(&got.stdout).ok()?;
        let pids = &class["spec"]["resources"]["pids"];
        [Size::First, Size::Changed]
            .into_iter()
            .find(|size| *pids == size.wanted().pids)
    }

    /// Waits until the changed class is in force, or something was killed; whether it is.
    pub(super) fn takes_hold(&self, tracer: &Tracer) -> bool {
        let uid = || {
            let envs = std::fs::read_dir(self.daemon.state().join("envs"));
            let first = envs.into_iter().flatten().flatten().next();
            first.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        let missing = || match uid() {
            Some(uid) => self.missing(&uid, Size::Changed),
            None => Some("the environment".to_owned()),
        };
        wait::until_or(
            "the changed class to take hold, or a kill",
            || format!("{:?}", missing()),
            || {
                let held = missing().is_none();
                (held || tracer.killed() || photo::ended(self.daemon.pid())).then_some(held)
            },
        )
    }

    /// Waits until what runs is held to its class, which must have changed if somebody was told so.
    pub(super) fn is_held(&self, uid: &str, changed: bool) {
        let size = self.size().unwrap();
        assert!(
            !changed || size == Size::Changed,
            "the change of the class is lost"
        );
        wait::until_or(
            "it to be held to its class",
            || format!("{size:?}: {:?}", self.missing(uid, size)),
            || self.missing(uid, size).is_none().then_some(()),
        );
    }

    /// What a file of its outer group says, in the one version or the other.
    fn limit(&self, uid: &str, version_1: &str, version_2: &str) -> String {
        let (controller, file) = version_1.split_once('/').unwrap();
        let below = format!("{}/envs/{uid}", self.daemon.prefix());
        std::fs::read_to_string(format!("/sys/fs/cgroup/{controller}/{below}/{file}"))
            .or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/{below}/{version_2}")))
            .unwrap_or_default()
    }

    /// What does not hold yet, as the kernel has it.
    fn missing(&self, uid: &str, size: Size) -> Option<String> {
        let wanted = size.wanted();
        let memory = wanted.memory.to_string();
        let quota = (wanted.cpu_millis * 100).to_string();
        let pids = wanted.pids.to_string();
        for (version_1, version_2, value) in [
            ("memory/memory.limit_in_bytes", "memory.max", &memory),
            ("pids/pids.max", "pids.max", &pids),
        ] {
            let text = self.limit(uid, version_1, version_2);
            if text.split_whitespace().next() != Some(value) {
                return Some(format!("{version_2} is {text}, not {value}"));
            }
        }
        // Shells may have room above the limit: then the burst is the limit.
        let [burst, amount] = [
            ("cpu/cpu.cfs_burst_us", "cpu.max.burst"),
            ("cpu/cpu.cfs_quota_us", "cpu.max"),
        ]
        .map(|(version_1, version_2)| self.limit(uid, version_1, version_2));
        let held = if burst.trim() == "0" { &amount } else { &burst };
        if held.split_whitespace().next() != Some(&quota) {
            return Some(format!("the quota is {amount}, with a burst of {burst}"));
        }
        let [_, egress, ingress] = photo::devices(self.daemon.prefix(), uid);
        for (device, rate) in [(egress, wanted.egress), (ingress, wanted.ingress)] {
            let shown = Command::new("tc")
                .args(["class", "show", "dev", &device])
                .output()
                .unwrap();
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            let held = match rate {
                Some(rate) => shown.contains(&format!("ceil {rate} ")),
                None => shown.is_empty(),
            };
            if !held {
                return Some(format!("{device} has {shown:?}, not {rate:?}"));
            }
        }
        let range = wanted.range.split('/').next().unwrap();
        let rules = photo::rules(self.daemon.prefix());
        let other = [Size::First, Size::Changed]
            .into_iter()
            .find(|other| *other != size)
            .unwrap();
        let other = other.wanted().range.split('/').next().unwrap();
        if !rules.contains(range) || rules.contains(other) {
            return Some(format!("the policy lacks {range} or has {other}: {rules}"));
        }
        None
    }
}

//! How soon a keystroke is echoed while something burns: `boatyard sh` from the terminal of whoever
//! types to the shell inside and back.
//!
//! Contenders are environments that run at the same time and are loaded one after the other:
//! a plain quota in one group (what a container with a CPU limit has), no limit in one group, and
//! ours with and without that limit. The peers are the same environment under a daemon without the
//! loop, whose every process is put into one class. The load is make and gcc of this host, bound
//! into the environment, or a storm of forks. Rounds take turns; ratios are of their medians.
//!
//! Other work of a busy host is measured too: run it on a quiet one. (Giving these cgroups a weight
//! far above all else was worse than neighbours: the kernel's virtual times drift apart.)

use crate::figures::{Table, percentile, shown};
use boatyard_sandbox::group::{Class, Group};
use boatyard_sandbox::{Options, Sandboxes};
use boatyard_testkit::{Daemon, Typist, wait};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The host's programs inside, read-only.
const CONFIGURATION: &str = r#"{"image": "test:latest", "mounts": [
  "type=bind,source=/usr,target=/usr,readonly", "type=bind,source=/usr/lib,target=/lib,readonly",
  "type=bind,source=/usr/lib64,target=/lib64,readonly"]}"#;
/// As many as there are rounds and lines.
pub(crate) const KEYSTROKES: usize = 5000;
/// One processor.
const LIMITED: &str = r#"{"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
  "metadata": {"name": "limited"}, "spec": {"resources": {"cpu": "1"}}}"#;
/// Sources that one build compiles.
const SOURCES: usize = 24;
/// Keys on one line.
const LINE: usize = 60;
const NEIGHBOURS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Nothing,
    Build,
    Neighbours,
    Forks,
}

/// One environment with somebody at its terminal.
struct Contender {
    name: &'static str,
    environment: &'static str,
    ours: bool,
    limited: bool,
    typist: Typist,
    folder: PathBuf,
    group: Group,
    times: Vec<Duration>,
    /// p99 of each round, and builds' pace.
    p99: Vec<f64>,
    pace: Vec<f64>,
}

pub(crate) fn run(keystrokes: usize, table: &mut Table) {
    let ours = Daemon::start();
    let plain = Daemon::start_with(&["--no-fair-shares"]);
    for daemon in [&ours, &plain] {
        daemon.import_image();
        let class = daemon.folder().join("limited.json");
        std::fs::write(&class, LIMITED).unwrap();
        daemon.cli(&["apply", "-f", class.to_str().unwrap()]).ok();
    }
    let mut contenders = [
        ("quota, one group", "quota", false, true),
        ("no limit, one group", "free", false, false),
        ("Boatyard, quota", "quota", true, true),
        ("Boatyard, no limit", "free", true, false),
    ]
    .map(|(name, environment, is_ours, limited)| {
        let daemon = if is_ours { &ours } else { &plain };
        let (folder, group) = environment_of(
            daemon,
            environment,
            if is_ours { "o" } else { "p" },
            limited,
        );
        let mut typist = Typist::sit_down(daemon, environment);
        typist.line("PS1= exec /usr/bin/bash --noprofile --norc");
        typist.line("echo ba''sh");
        typist.wait_for(b"bash");
        Contender {
            name,
            environment,
            ours: is_ours,
            limited,
            typist,
            folder,
            group,
            times: Vec::new(),
            p99: Vec::new(),
            pace: Vec::new(),
        }
    });
    let neighbours: Vec<_> = [&ours, &plain]
        .map(|daemon| {
            (0..NEIGHBOURS)
                .map(|number| {
                    let name: &'static str = ["n1", "n2", "n3", "n4"][number];
                    let (folder, _) = environment_of(daemon, name, "n", false);
                    (name, folder)
                })
                .collect::<Vec<_>>()
        })
        .into();
    let rounds = 3;
    for load in [Load::Nothing, Load::Build, Load::Neighbours, Load::Forks] {
        for contender in &mut contenders {
            (contender.times, contender.p99, contender.pace) = (Vec::new(), Vec::new(), Vec::new());
        }
        let mut costs = Vec::new();
        for _ in 0..rounds {
            for contender in &mut contenders {
                let daemon = if contender.ours { &ours } else { &plain };
                let neighbours = &neighbours[usize::from(!contender.ours)];
                let cost = round(daemon, contender, neighbours, load, keystrokes / rounds);
                eprintln!(
                    "{load:?}, {}: p99 {:.2} ms, {:.1} a second",
                    contender.name,
                    contender.p99.last().unwrap() * 1000.0,
                    contender.pace.last().unwrap()
                );
                if contender.ours {
                    costs.push(cost);
                }
            }
        }
        rows(load, &contenders, &costs, table);
    }
    drop(contenders);
}

fn environment_of(daemon: &Daemon, name: &str, project: &str, limited: bool) -> (PathBuf, Group) {
    let before = ids(daemon);
    let folder = PathBuf::from(daemon.project(&format!("{project}-{name}"), CONFIGURATION));
    sources(&folder);
    let class = if limited { "limited" } else { "default" };
    let folder_name = folder.to_str().unwrap();
    daemon
        .cli(&["up", folder_name, "--name", name, "--class", class])
        .ok();
    let id = ids(daemon)
        .into_iter()
        .find(|id| !before.contains(id))
        .unwrap();
    (folder, sandboxes(daemon).group(&id).unwrap())
}

fn sandboxes(daemon: &Daemon) -> Sandboxes {
    let options = Options {
        cgroup_root: daemon.prefix().to_owned(),
        network: false,
        state_dir: daemon.folder().join("bench-host"),
        ..Options::default()
    };
    Sandboxes::open(options).unwrap()
}

fn ids(daemon: &Daemon) -> Vec<boatyard_sandbox::spec::Id> {
    sandboxes(daemon).groups().list().unwrap()
}

/// C that takes the compiler a while, and a Makefile that counts what is done.
fn sources(folder: &Path) {
    let mut makefile = "CFLAGS=-O2 -pipe\nOBJECTS=".to_owned();
    for number in 0..SOURCES {
        let mut text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n".to_owned();
        for function in 0..20 {
            text += &format!(
                "int f{function}(int *a, int n) {{ int s = {number}; for (int i = 0; i < n; i++) {{ s += a[i] * {function} ^ (s >> 3); if (s % 7 == {function} % 7) s = abs(s) + (int)strlen(\"{function}\"); }} printf(\"%d\", s); return s; }}\n"
            );
        }
        std::fs::write(folder.join(format!("s{number}.c")), text).unwrap();
        makefile += &format!(" s{number}.o");
    }
    makefile += "\nall: $(OBJECTS)\n%.o: %.c\n\t@gcc $(CFLAGS) -c $< -o $@ && echo . >> done\nclean:\n\t@rm -f $(OBJECTS)\n";
    std::fs::write(folder.join("Makefile"), makefile).unwrap();
}

/// A load that runs in an environment until it is dropped.
struct Running {
    child: Child,
    stop: PathBuf,
}

impl Running {
    fn start(daemon: &Daemon, environment: &str, folder: &Path, script: &str) -> Self {
        let stop = folder.join("stop");
        let _ = std::fs::remove_file(&stop);
        let mut command: Command =
            daemon.client(&["exec", environment, "--", "/usr/bin/bash", "-c", script]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, stop }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        std::fs::write(&self.stop, "").unwrap();
        // Whom nobody listens to any more is hung up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BUILD: &str = "export PATH=/usr/bin:/bin; while [ ! -e stop ]; do make -s -j8 clean; make -s -j8 all; done; wait";
const FORKS: &str = "for n in 1 2 3 4 5 6 7 8; do (while [ ! -e stop ]; do /usr/bin/true; echo . >> done; done) & done; wait";

/// Types while the load runs; answers the part of a processor the loop took.
fn round(
    daemon: &Daemon,
    contender: &mut Contender,
    neighbours: &[(&'static str, PathBuf)],
    load: Load,
    keystrokes: usize,
) -> f64 {
    let mut running = Vec::new();
    let own = |script| Running::start(daemon, contender.environment, &contender.folder, script);
    match load {
        Load::Nothing => {}
        Load::Build => running.push(own(BUILD)),
        Load::Forks => running.push(own(FORKS)),
        Load::Neighbours => running.extend(
            neighbours
                .iter()
                .map(|(name, folder)| Running::start(daemon, name, folder, BUILD)),
        ),
    }
    let folders: Vec<PathBuf> = match load {
        Load::Neighbours => neighbours
            .iter()
            .map(|(_, folder)| folder.clone())
            .collect(),
        _ => vec![contender.folder.clone()],
    };
    if load != Load::Nothing {
        // Until it has begun, and for a moment longer.
        let begun = done(&folders);
        wait::until("the load to begin", || {
            (done(&folders) > begun).then_some(())
        });
    }
    if !contender.ours {
        for class in [Class::Agent, Class::Builds] {
            for pid in contender.group.processes(class).unwrap().0 {
                let _ = contender.group.place_any(pid, Class::Sessions);
            }
        }
    }
    let is_ours = contender.ours;
    let loop_time = || {
        if is_ours {
            daemon.thread_time("shares")
        } else {
            Duration::ZERO
        }
    };
    let (began, did, spent) = (Instant::now(), done(&folders), loop_time());
    let mut times = Vec::with_capacity(keystrokes);
    let mut random = 1u32;
    while times.len() < keystrokes {
        for _ in 0..LINE {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            std::thread::sleep(Duration::from_millis(u64::from(4 + (random >> 16) % 16)));
            times.push(contender.typist.key(b'x'));
        }
        contender.typist.clear_line();
    }
    let took = began.elapsed().as_secs_f64();
    let pace = (done(&folders) - did) as f64 / took;
    let cost = (loop_time() - spent).as_secs_f64() / took;
    drop(running);
    contender.p99.push(percentile(&times, 99).as_secs_f64());
    contender.pace.push(pace);
    contender.times.extend(times);
    cost
}

/// How many sources were compiled, or processes forked.
fn done(folders: &[PathBuf]) -> u64 {
    let length = |folder: &PathBuf| std::fs::metadata(folder.join("done")).map_or(0, |of| of.len());
    folders.iter().map(length).sum::<u64>() / 2
}

const HEADINGS: &str = "| | n | p50 ms | p99 ms | p99.9 ms | p99 : quota | p99 : one group | work a second | work : same limit |\n|---|---|---|---|---|---|---|---|---|";

fn rows(load: Load, contenders: &[Contender; 4], costs: &[f64], table: &mut Table) {
    let median = |values: &[f64]| percentile(values, 50);
    let ratio = |of: &[f64], to: &[f64]| {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        median(&ratios)
    };
    let rows = contenders.iter().map(|contender| {
        let peer = &contenders[usize::from(!contender.limited)];
        let mut sorted = contender.times.clone();
        sorted.sort();
        let rare = sorted[(sorted.len() - 1) * 999 / 1000];
        format!(
            "| {} | {} | {} | {} | {} | {:.3} | {:.3} | {:.1} | {:.3} |",
            contender.name,
            contender.times.len(),
            shown(percentile(&contender.times, 50)),
            shown(percentile(&contender.times, 99)),
            shown(rare),
            ratio(&contender.p99, &contenders[0].p99),
            ratio(&contender.p99, &contenders[1].p99),
            median(&contender.pace),
            ratio(&contender.pace, &peer.pace),
        )
    });
    let what = match load {
        Load::Nothing => "nothing runs (floor)",
        Load::Build => "`make -j8` in the same environment",
        Load::Neighbours => "`make -j8` in four neighbours",
        Load::Forks => "a fork storm in the same environment",
    };
    let title = format!(
        "Keystroke echo while {what}; the loop took {:.2} % of a core",
        median(costs) * 100.0
    );
    table.rows(&title, HEADINGS, rows.collect());
}

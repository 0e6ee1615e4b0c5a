//! Kills at every place where something changes: the next start adopts, finishes or cleans up.
//!
//! The system calls of daemon, spawner, monitor and half-made init that change the world are
//! numbered over a whole life of an environment (`up`, a file written, `stop`, `start`, `rm`), of a
//! Compose project's and of one with a Dockerfile, over the start of a daemon that finds one
//! running, and over the first start of all; in `builds` over a build and a pruning, in `hooks` over
//! lifecycle commands. Then the same is
//! done again with a SIGKILL just before the Nth of them; after some of these the daemon that
//! recovers is killed too. A life is gone through twice: plainly, and with everything limited that a
//! class can limit (`kill_sweep/limited.rs`). A Compose project's life is gone through as well, that of
//! an environment with a Dockerfile, a build and a pruning (`builds`), and lifecycle commands (`hooks`).
//!
//! By default an evenly spread choice of N runs within [`BUDGET`]. `BOATYARD_SWEEP=all` runs every
//! one (hours), `each` one of those that are alike (the same call of the same process on the same file of
//! whatever environment), `2/3` the second of three parts, also `each 2/3`, and a number is another budget
//! in seconds. `BOATYARD_SWEEP_SEED` repeats a choice.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "kill_sweep/builds.rs"]
mod builds;
#[path = "kill_sweep/full_disk.rs"]
mod full_disk;
#[path = "kill_sweep/hooks.rs"]
mod hooks;
#[path = "kill_sweep/limited.rs"]
mod limited;
#[path = "kill_sweep/lost_monitor.rs"]
mod lost_monitor;

use boatyard_testkit::photo::{self, Photo};
use boatyard_testkit::tracer::{Point, Role, Trace, Tracer, Victim};
use boatyard_testkit::{Daemon, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"image": "test:latest", "postStartCommand": "echo started >> /root/starts", "waitFor": "postStartCommand"}"#;

/// How long each sweep goes on by default.
const BUDGET: Duration = Duration::from_secs(20);

/// What happens in the life of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Up,
    Write,
    /// Its class changes under it, where it has one.
    Resize,
    Stop,
    Start,
    Remove,
}

const LIFE: [Stage; 6] = [
    Stage::Up,
    Stage::Write,
    Stage::Resize,
    Stage::Stop,
    Stage::Start,
    Stage::Remove,
];

/// A daemon with an image and a folder, and how the host looks with nothing in it.
struct Place {
    daemon: Daemon,
    folder: String,
    empty: Photo,
    /// Environments are held to what [`limited`] says.
    limited: bool,
    /// Writes the folder's files, other ones at each call.
    project: Project,
    lives: std::cell::Cell<u32>,
}

/// Writes a folder's files for the life of this number; answers its path.
type Project = fn(&Daemon, u32) -> String;

fn plain(daemon: &Daemon, _: u32) -> String {
    daemon.project("app", CONFIG)
}

/// How far a life came: the last stage begun, and whether its command said it was done.
#[derive(Clone, Copy, Debug)]
struct Reached {
    stage: Stage,
    acknowledged: bool,
}

impl Reached {
    /// Whether the command of this stage said it was done.
    fn has(self, stage: Stage) -> bool {
        self.stage > stage || self.stage == stage && self.acknowledged
    }
}

impl Place {
    fn new() -> Self {
        Self::of(plain)
    }

    fn of(project: Project) -> Self {
        let daemon = Daemon::start();
        daemon.import_image();
        let folder = project(&daemon, 0);
        let empty = daemon.first_photo();
        Self {
            daemon,
            folder,
            empty,
            limited: false,
            project,
            lives: std::cell::Cell::default(),
        }
    }

    /// Goes through the stages until something is killed.
    fn live(&self, tracer: &Tracer) -> Reached {
        if !self.limited {
            self.lives.set(self.lives.get() + 1);
            (self.project)(&self.daemon, self.lives.get());
        }
        let mut reached = Reached {
            stage: Stage::Up,
            acknowledged: false,
        };
        for stage in LIFE {
            if stage == Stage::Resize && !self.limited {
                continue;
            }
            if tracer.killed() {
                return reached;
            }
            reached = Reached {
                stage,
                acknowledged: self.command(stage, tracer),
            };
        }
        reached
    }

    /// Runs the command of a stage to its end or the daemon's; whether it said it was done.
    fn command(&self, stage: Stage, tracer: &Tracer) -> bool {
        let write = if self.limited {
            limited::WORK
        } else {
            "echo kept > /root/kept"
        };
        let class = self.class_file(limited::Size::Changed);
        let arguments: &[&str] = match stage {
            Stage::Up => &["up", &self.folder, "--detach"],
            Stage::Write => &["exec", "app", "--", "sh", "-c", write],
            Stage::Resize => &["apply", "-f", &class],
            Stage::Stop => &["stop", "app"],
            Stage::Start => &["start", "app"],
            Stage::Remove => &["rm", "--force", "app"],
        };
        let done = self.client(arguments, tracer);
        done && (stage != Stage::Resize || self.takes_hold(tracer))
    }

    /// Runs a command to its end or the daemon's; whether it said it was done.
    fn client(&self, arguments: &[&str], tracer: &Tracer) -> bool {
        let output = self.daemon.folder().join("output");
        let file = std::fs::File::create(&output).unwrap();
        let mut child = self
            .daemon
            .client(arguments)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let pid = self.daemon.pid();
        let status = wait::until("the command or the daemon to end", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            if photo::ended(pid) {
                let _ = child.kill();
                return Some(child.wait().unwrap());
            }
            None
        });
        assert!(
            status.success() || tracer.killed(),
            "{arguments:?} failed before anything was killed: {}",
            std::fs::read_to_string(&output).unwrap_or_default()
        );
        status.success()
    }

    /// The environment as the API has it.
    fn object(&self) -> Option<serde_json::Value> {
        let got = self.daemon.cli(&["get", "environments", "-o", "json"]).ok();
        let list: serde_json::Value = serde_json::from_str(&got).unwrap();
        let items = list["items"].as_array().unwrap();
        assert!(
            items.len() <= 1,
            "one environment was made, there are {got}"
        );
        items.first().cloned()
    }

    /// Starts the daemon again if it was killed, and holds what came of the life to what had been
    /// said to its user.
    fn settle(&mut self, reached: Reached, trace: &Trace) {
        self.run_again(&[], trace, &|_| true);
        let mut uid = None;
        let settled = wait::until("the environment to be what is wanted", || {
            let Some(object) = self.object() else {
                return Some(None);
            };
            uid = object["metadata"]["uid"].as_str().map(str::to_owned);
            if !object["metadata"]["deletionTimestamp"].is_null() {
                return None;
            }
            let phase = object["status"]["phase"].as_str();
            (phase == object["spec"]["state"].as_str()).then_some(Some(object))
        });
        match (&settled, reached) {
            (None, reached) => assert!(
                reached.stage == Stage::Remove || !reached.has(Stage::Up),
                "the environment is lost after {reached:?}"
            ),
            (Some(_), reached) => assert!(
                !reached.has(Stage::Remove),
                "the environment is back after {reached:?}"
            ),
        }
        if !reached.has(Stage::Up) {
            self.daemon.cli(&["up", &self.folder, "--detach"]).ok();
            uid = self.object().unwrap()["metadata"]["uid"]
                .as_str()
                .map(str::to_owned);
        } else if settled.is_some() {
            self.daemon.cli(&["start", "app"]).ok();
        }
        if let Some(uid) = uid {
            if self.object().is_some() {
                let seen = self.daemon.sh("app", "cat /root/starts /root/kept; :").ok();
                assert!(seen.starts_with("started\n"), "{seen}");
                assert!(
                    !reached.has(Stage::Write) || seen.ends_with("kept\n"),
                    "the file is lost: {seen}"
                );
                if self.limited {
                    self.is_held(&uid, reached.has(Stage::Resize));
                }
                self.daemon.cli(&["rm", "--force", "app"]).ok();
            }
            self.empty_again(&uid);
        }
    }

    /// Starts the daemon again and kills it once more, at one of its calls or when it has come to
    /// rest.
    fn kill_the_recovery(&mut self, at: usize) {
        self.daemon.kill();
        let tracer = self.daemon.run_traced(&[], Some((at, Victim::Daemon)));
        let at_rest = || {
            let mut got = self.daemon.client(&["get", "environments", "-o", "json"]);
            let got = got.stderr(Stdio::null()).output().unwrap();
            let list = serde_json::from_slice::<serde_json::Value>(&got.stdout).ok()?;
            let at_rest = |object: &serde_json::Value| {
                object["metadata"]["deletionTimestamp"].is_null()
                    && object["status"]["phase"] == object["spec"]["state"]
            };
            list["items"].as_array()?.iter().all(at_rest).then_some(())
        };
        wait::until("rest or a second kill", || {
            if tracer.killed() { Some(()) } else { at_rest() }
        });
        self.daemon.end_trace(tracer);
        self.daemon.kill();
    }

    /// Starts the daemon again if it was killed, or ended because a program of its was, which it
    /// may as long as `works` has never held.
    fn run_again(&mut self, arguments: &[&str], trace: &Trace, works: &dyn Fn(&Daemon) -> bool) {
        let last = trace.points.last().map(|point| point.role);
        if trace.killed && last == Some(Role::Child) {
            wait::until("a working daemon or its end", || {
                (photo::ended(self.daemon.pid()) || works(&self.daemon)).then_some(())
            });
        }
        let ended = || last == Some(Role::Child) && photo::ended(self.daemon.pid());
        if trace.daemon_killed || ended() {
            self.daemon.kill();
            self.daemon.run(arguments);
        }
        assert!(self.daemon.lives(), "the daemon ended by itself");
    }

    /// Waits until the host looks as before.
    fn empty_again(&self, uid: &str) {
        let began = Instant::now();
        loop {
            let mut links = photo::links(uid);
            links.extend(photo::traces(self.daemon.prefix(), uid));
            let now = self.daemon.photo();
            if now == self.empty && links.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "left behind: {links:?} {now:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_from(&self, offset: usize) -> String {
        self.daemon
            .log()
            .get(offset..)
            .unwrap_or_default()
            .to_owned()
    }
}

/// Which kills are tried, one after the other, and for how long.
struct Choice {
    kills: Vec<(usize, Victim)>,
    budget: Duration,
    seed: u64,
}

impl Choice {
    fn of(points: &[Point]) -> Self {
        let mode = std::env::var("BOATYARD_SWEEP").unwrap_or_default();
        let seed = std::env::var("BOATYARD_SWEEP_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| {
                let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
                u64::from(since.subsec_nanos())
            });
        let (each, mode) = match mode.strip_prefix("each") {
            Some(rest) => (true, rest.trim()),
            None => (false, mode.as_str()),
        };
        let mut chosen: Vec<usize> = (0..points.len()).collect();
        if each {
            let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
            for (at, point) in points.iter().enumerate() {
                let kind = (format!("{:?}", point.role), shape(&point.call));
                alike.entry(kind).or_default().push(at);
            }
            let one = |alike: Vec<usize>| {
                let index = usize::try_from(seed % alike.len() as u64).unwrap();
                alike[index]
            };
            chosen = alike.into_values().map(one).collect();
            chosen.sort_unstable();
        }
        let mut kills = Vec::new();
        for at in chosen {
            kills.push((at, Victim::Caller));
            if points[at].role != Role::Daemon {
                kills.push((at, Victim::Daemon));
            }
        }
        let mut budget = BUDGET;
        if mode == "all" || each && mode.is_empty() {
            budget = Duration::MAX;
        } else if let Some((part, of)) = mode.split_once('/') {
            let (part, of): (usize, usize) = (part.parse().unwrap(), of.parse().unwrap());
            kills = kills.into_iter().skip(part - 1).step_by(of).collect();
            budget = Duration::MAX;
        } else {
            if let Ok(seconds) = mode.parse() {
                budget = Duration::from_secs(seconds);
            }
            // A step near the golden section that divides evenly goes through all, spread at any
            // time.
            let count = kills.len();
            let mut step = (count * 618 / 1000).max(1);
            while gcd(step, count) != 1 {
                step += 1;
            }
            let first = usize::try_from(seed % count as u64).unwrap();
            kills = (0..count)
                .map(|index| kills[(first + index * step) % count])
                .collect();
        }
        Self {
            kills,
            budget,
            seed,
        }
    }
}

/// A call without what differs between environments and runs.
fn shape(call: &str) -> String {
    let mut parts = call.split('/');
    let first = parts.next().unwrap_or_default();
    let mut shape = first.split('[').next().unwrap_or_default().to_owned();
    for part in parts {
        let own = part.contains(|letter: char| letter.is_ascii_digit())
            || part.starts_with("boatyard-test-");
        shape.push('/');
        shape.push_str(if own { "#" } else { part });
    }
    shape
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Tries the kills of a choice; what fails is told at the end, with its place.
fn sweep(
    what: &str,
    points: &[Point],
    mut place: Place,
    again: impl Fn() -> Place,
    one: impl Fn(&mut Place, (usize, Victim)) -> Trace,
) {
    let mut by_role: BTreeMap<String, usize> = BTreeMap::new();
    for point in points {
        *by_role.entry(format!("{:?}", point.role)).or_default() += 1;
    }
    let choice = Choice::of(points);
    let began = Instant::now();
    let (mut tried, mut killed) = (0, 0);
    let mut failures = Vec::new();
    let last = std::cell::RefCell::new(String::new());
    for &(at, victim) in &choice.kills {
        if began.elapsed() > choice.budget || failures.len() >= 20 {
            break;
        }
        tried += 1;
        let offset = place.daemon.log().len();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let trace = one(&mut place, (at, victim));
            *last.borrow_mut() = match trace.points.last() {
                Some(point) if trace.killed => format!("{:?} {}", point.role, point.call),
                _ => "never reached".to_owned(),
            };
            trace.killed
        }));
        match outcome {
            Ok(true) => killed += 1,
            Ok(false) => {}
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                let about = points.get(at).map_or(String::new(), |point| {
                    format!("in the count {:?} {}", point.role, point.call)
                });
                failures.push(format!(
                    "kill {at} ({victim:?}, {about}): {message}\n{}",
                    place.log_from(offset)
                ));
                eprintln!("{}", failures.last().unwrap());
                place.daemon.power_cut();
                place = again();
            }
        }
    }
    println!(
        "{what}: {} calls {by_role:?}, {} kills possible; {tried} tried, {killed} reached, {} failed, {:.1} s; seed {}",
        points.len(),
        choice.kills.len(),
        failures.len(),
        began.elapsed().as_secs_f64(),
        choice.seed,
    );
    assert!(
        failures.is_empty(),
        "BOATYARD_SWEEP_SEED={}: {} of {tried} kills failed:\n{}",
        choice.seed,
        failures.len(),
        failures.join("\n\n")
    );
    // Of few any number may have come too late.
    assert!(
        tried < 8 || killed * 2 > tried,
        "only {killed} of {tried} were reached"
    );
}

#[test]
fn a_kill_at_any_call_in_the_life_of_an_environment_is_adopted_or_cleaned_up() {
    sweep_a_life("a life", Place::new);
}

#[test]
fn a_kill_at_any_call_in_the_life_of_a_compose_project_is_adopted_or_cleaned_up() {
    sweep_a_life("a project's life", || Place::of(composed));
}

/// A Compose project of two services that share a volume.
fn composed(daemon: &Daemon, _: u32) -> String {
    const COMPOSE: &str = "
services:
  app:
    image: test:latest
    command: sleep infinity
    volumes: [data:/data]
    depends_on: {db: {condition: service_started}}
  db:
    image: test:latest
    command: sh -c 'date > /data/up; exec sleep 100000'
    volumes: [data:/data]
volumes: {data: }
";
    let config = r#"{"dockerComposeFile": "compose.yml", "service": "app", "postStartCommand": "echo started >> /root/starts", "waitFor": "postStartCommand"}"#;
    let folder = daemon.project("app", config);
    std::fs::write(format!("{folder}/.devcontainer/compose.yml"), COMPOSE).unwrap();
    folder
}

fn sweep_a_life(what: &str, again: fn() -> Place) {
    let place = again();
    let tracer = place.daemon.trace(None);
    assert!(place.live(&tracer).has(Stage::Remove));
    let points = place.daemon.end_trace(tracer).points;
    if let Some(path) = std::env::var_os("BOATYARD_SWEEP_LIST") {
        let lines: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(at, point)| format!("{at} {:?} {}\n", point.role, point.call))
            .collect();
        std::fs::write(path, lines.concat()).unwrap();
    }
    sweep(what, &points, place, again, |place, kill| {
        if place.limited {
            place.class(limited::Size::First);
        }
        let tracer = place.daemon.trace(Some(kill));
        let reached = place.live(&tracer);
        let trace = place.daemon.end_trace(tracer);
        if trace.daemon_killed && kill.0 % 3 == 0 {
            place.kill_the_recovery(kill.0 * 7 % 200);
        }
        place.settle(reached, &trace);
        trace
    });
}

fn with_running() -> Place {
    run_in(Place::new())
}

/// A daemon with an environment that runs.
fn run_in(place: Place) -> Place {
    place.daemon.cli(&["up", &place.folder, "--detach"]).ok();
    place.daemon.sh("app", "echo kept > /root/kept").ok();
    place
}

#[test]
fn a_kill_at_any_call_of_a_daemons_start_leaves_environments_running() {
    sweep_starts("a start", with_running);
}

fn sweep_starts(what: &str, again: fn() -> Place) {
    let mut place = again();
    place.daemon.kill();
    let tracer = place.daemon.run_traced(&[], None);
    wait::until("the adopted environment", || {
        (place.daemon.sh("app", "true").code == 0).then_some(())
    });
    let points = place.daemon.end_trace(tracer).points;
    sweep(what, &points, place, again, |place, kill| {
        place.daemon.kill();
        let tracer = place.daemon.run_traced(&[], Some(kill));
        let works = |daemon: &Daemon| {
            let mut exec = daemon.client(&["exec", "app", "--", "true"]);
            exec.output().unwrap().status.success()
        };
        wait::until("the adopted environment or a kill", || {
            (tracer.killed() || works(&place.daemon)).then_some(())
        });
        let trace = place.daemon.end_trace(tracer);
        place.run_again(&[], &trace, &works);
        let seen = wait::until("the adopted environment", || {
            Some(place.daemon.sh("app", "cat /root/starts /root/kept")).filter(|ran| ran.code == 0)
        });
        assert_eq!(
            seen.stdout, "started\nkept\n",
            "it was adopted, not started again"
        );
        if place.limited {
            let object = place.object().unwrap();
            place.is_held(object["metadata"]["uid"].as_str().unwrap(), false);
        }
        trace
    });
}

/// Paths below the state directory but those whose names are made anew each time.
fn made(place: &Place) -> BTreeSet<String> {
    let state = place.daemon.state();
    let mut found = BTreeSet::new();
    let mut folders = vec![state.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(&state).unwrap().display().to_string();
            // The database's own files come and go.
            if !name.starts_with("images") && !name.contains(".db-") {
                found.insert(name);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn a_kill_at_any_call_of_the_first_start_is_made_good_by_the_next() {
    const ARGUMENTS: [&str; 2] = ["--listen", "127.0.0.1:0"];
    let registered = |daemon: &Daemon| {
        let got = daemon.client(&["get", "runners", "local"]).output();
        got.unwrap().status.success()
    };
    let works = |daemon: &Daemon| {
        wait::until("the runner to register", || {
            registered(daemon).then_some(())
        });
    };
    let fresh = || {
        let mut place = Place::new();
        place.daemon.kill();
        std::fs::remove_dir_all(place.daemon.state()).unwrap();
        place
    };
    let mut place = fresh();
    let tracer = place.daemon.run_traced(&ARGUMENTS, None);
    works(&place.daemon);
    let points = place.daemon.end_trace(tracer).points;
    let wanted = made(&place);
    place.daemon.kill();
    sweep("a first start", &points, place, fresh, |place, kill| {
        let _ = std::fs::remove_dir_all(place.daemon.state());
        let tracer = place.daemon.run_traced(&ARGUMENTS, Some(kill));
        wait::until("the runner to register or a kill", || {
            (tracer.killed() || registered(&place.daemon)).then_some(())
        });
        let trace = place.daemon.end_trace(tracer);
        place.run_again(&ARGUMENTS, &trace, &registered);
        works(&place.daemon);
        assert_eq!(made(place), wanted);
        place.daemon.import_image();
        place.daemon.cli(&["up", &place.folder, "--detach"]).ok();
        assert_eq!(place.daemon.sh("app", "cat /root/starts").ok(), "started\n");
        place.daemon.cli(&["rm", "--force", "app"]).ok();
        place.daemon.kill();
        trace
    });
}

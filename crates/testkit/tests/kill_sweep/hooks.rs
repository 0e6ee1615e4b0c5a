//! Kills while lifecycle commands run: one that was killed runs again at the next start, one that
//! is recorded as done never does.

use super::{Place, sweep};
use boatyard_testkit::tracer::Victim;
use boatyard_testkit::{Daemon, wait};
use std::collections::BTreeMap;

const HOOKS: [&str; 3] = [
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
];

fn project(daemon: &Daemon, _: u32) -> String {
    let lines = HOOKS.map(|hook| format!(r#""{hook}": "echo {hook} >> /root/ran""#));
    let config = format!(
        r#"{{"image": "test:latest", {}, "waitFor": "postCreateCommand"}}"#,
        lines.join(", ")
    );
    daemon.project("app", &config)
}

/// Lifecycle commands that the runner's record has as done.
fn recorded(daemon: &Daemon) -> Vec<String> {
    let folders = std::fs::read_dir(daemon.state().join("envs")).unwrap();
    let mut done = Vec::new();
    for folder in folders.flatten() {
        let Ok(text) = std::fs::read_to_string(folder.path().join("record.json")) else {
            continue;
        };
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let hooks = record["hooks"].as_object().cloned().unwrap_or_default();
        done.extend(hooks.keys().cloned());
    }
    done
}

/// How often each ran, as far as it wrote that down.
fn ran(daemon: &Daemon) -> BTreeMap<String, usize> {
    let text = daemon.sh("app", "cat /root/ran; :").ok();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_kill_at_any_call_while_lifecycle_commands_run_repeats_none_that_was_recorded() {
    let up = |place: &Place, kill| {
        let tracer = place.daemon.trace(kill);
        let done = place.client(&["up", &place.folder, "--detach"], &tracer);
        (done, place.daemon.end_trace(tracer))
    };
    let place = Place::of(project);
    let (done, trace) = up(&place, None);
    assert!(done);
    assert_eq!(recorded(&place.daemon).len(), HOOKS.len());
    place.daemon.cli(&["rm", "--force", "app"]).ok();
    let again = || Place::of(project);
    sweep("lifecycle", &trace.points, place, again, |place, kill| {
        // The daemon is the one who records.
        let (_, trace) = up(place, Some((kill.0, Victim::Daemon)));
        let before = recorded(&place.daemon);
        place.run_again(&[], &trace, &|_| true);
        let daemon = &place.daemon;
        daemon.cli(&["up", &place.folder, "--detach"]).ok();
        let counts = ran(daemon);
        for hook in HOOKS {
            let count = counts.get(hook).copied().unwrap_or_default();
            assert!(count >= 1, "{hook} never ran: {counts:?}");
            assert!(
                count == 1 || !before.iter().any(|done| done == hook),
                "{hook} was recorded and ran again: {counts:?}"
            );
        }
        // A start is not a creation: nothing of it runs again.
        daemon.cli(&["restart", "app"]).ok();
        assert_eq!(ran(daemon), counts);
        daemon.cli(&["rm", "--force", "app"]).ok();
        trace
    });
}

#[test]
fn a_command_that_was_killed_runs_at_the_next_start_and_those_before_it_do_not() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let config = r#"{"image": "test:latest",
        "onCreateCommand": "echo one >> /root/ran",
        "postCreateCommand": "test -e /root/go && go=1; echo two >> /root/ran; test -n \"$go\" || exec sleep 100000",
        "waitFor": "onCreateCommand"}"#;
    let folder = daemon.project("app", config);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let lines = |daemon: &Daemon| daemon.sh("app", "cat /root/ran").stdout;
    wait::until("the second command", || {
        (lines(&daemon) == "one\ntwo\n").then_some(())
    });
    daemon.sh("app", "touch /root/go; sync").ok();
    // Everything that runs is killed: daemon, monitor, the environment with the command in it.
    daemon.power_cut();
    daemon.run(&[]);
    wait::until("the second command again", || {
        (lines(&daemon) == "one\ntwo\ntwo\n").then_some(())
    });
    wait::until("its record", || {
        (recorded(&daemon).len() == 2).then_some(())
    });
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(lines(&daemon), "one\ntwo\ntwo\n");
}

//! Python's clients: the official one, kr8s and lightkube. What they do is in the scripts.

use crate::place::Place;
use crate::tools;
use std::process::Command;

/// A script of `python/`, with the administrator's kubeconfig.
fn script(place: &Place, name: &str) -> Command {
    let mut command = Command::new(tools::tool("python/bin/python"));
    command
        .arg(tools::beside("python").join(name))
        .env("KUBECONFIG", place.kubeconfig())
        .env("TEST_FOLDER", place.folder())
        .env("HOME", place.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn succeeds(name: &str) {
    let place = Place::start();
    tools::run(&mut script(&place, name), "").ok();
}

#[test]
fn the_dynamic_client_discovers_writes_applies_and_watches() {
    succeeds("dynamic_client.py");
}

#[test]
fn leader_election_hands_a_lease_over() {
    succeeds("leader_election.py");
}

#[test]
fn kr8s_makes_waits_for_and_deletes_objects() {
    succeeds("kr8s_objects.py");
}

#[test]
fn lightkube_makes_applies_watches_and_deletes_objects() {
    succeeds("lightkube_objects.py");
}

#[test]
fn watches_go_on_after_a_restart_and_hear_of_forgotten_history() {
    let mut place = Place::start();
    let mut command = script(&place, "watches.py");
    tools::converse(&mut command, |word| {
        assert_eq!(word, "restart");
        place.server.kill();
        place.server.again();
    });
}

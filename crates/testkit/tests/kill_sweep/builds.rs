//! Kills while something is built, and while what nobody uses is removed: what is built afterwards
//! is whole, nothing half-made stays, and nothing that is used goes.

use super::{Place, plain, sweep, sweep_a_life};
use boatyard_testkit::tracer::Trace;
use boatyard_testkit::{Daemon, wait};

const CONFIG: &str = r#"{"build": {"dockerfile": "Dockerfile"}, "postStartCommand": "cat /built/number >> /root/starts", "waitFor": "postStartCommand"}"#;

/// Two stages side by side, a copy, a cache mount and processes; another number, other layers.
fn dockerfile(number: u32) -> String {
    format!(
        "FROM test:latest AS one
RUN mkdir /one && echo {number} > /one/number
FROM test:latest
COPY --from=one /one /built
RUN --mount=type=cache,target=/cache echo {number} >> /cache/all && cat /built/number > /copied
"
    )
}

fn built(daemon: &Daemon, number: u32) -> String {
    let folder = daemon.project("app", CONFIG);
    let file = format!("{folder}/.devcontainer/Dockerfile");
    std::fs::write(file, dockerfile(number)).unwrap();
    folder
}

/// Nothing half-made, by nobody: stagings, sandboxes of steps, holds.
fn at_rest(daemon: &Daemon) {
    let images = daemon.state().join("images");
    wait::until("nothing half-made in the image store", || {
        let left = ["staging", "build/runs", "holds"]
            .map(|name| std::fs::read_dir(images.join(name)).map_or(0, |entries| entries.count()));
        (left == [0; 3]).then_some(())
    });
}

/// Builds again what was being built, and looks at what came of it.
fn finish(place: &mut Place, trace: &Trace, number: u32) {
    place.run_again(&[], trace, &|_| true);
    let context = format!("{}/.devcontainer", place.folder);
    let daemon = &place.daemon;
    daemon
        .cli(&["build", &context, "-t", "example.test/built:1"])
        .ok();
    at_rest(daemon);
    let folder = daemon.project("seen", r#"{"image": "example.test/built:1"}"#);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let seen = daemon.sh("seen", "cat /built/number /copied; ls -A /cache; :");
    assert_eq!(seen.ok(), format!("{number}\n{number}\n"));
    daemon.cli(&["rm", "--force", "seen"]).ok();
    wait::until("the host as before", || {
        (daemon.photo() == place.empty).then_some(())
    });
}

#[test]
fn a_kill_at_any_call_of_a_build_leaves_a_store_that_builds_the_same() {
    let live = |place: &Place, kill| {
        place.lives.set(place.lives.get() + 1);
        let folder = built(&place.daemon, place.lives.get());
        let tracer = place.daemon.trace(kill);
        let context = format!("{folder}/.devcontainer");
        let done = place.client(&["build", &context, "-t", "example.test/built:1"], &tracer);
        (done, place.daemon.end_trace(tracer))
    };
    let place = Place::of(built);
    let (done, trace) = live(&place, None);
    assert!(done);
    let again = || Place::of(built);
    sweep("a build", &trace.points, place, again, |place, kill| {
        let (_, trace) = live(place, Some(kill));
        finish(place, &trace, place.lives.get());
        trace
    });
}

#[test]
fn a_kill_at_any_call_of_a_pruning_removes_nothing_that_is_used() {
    /// An environment of one image, and what nobody uses any more of others.
    fn littered(place: &Place) {
        place.lives.set(place.lives.get() + 1);
        let number = place.lives.get();
        let daemon = &place.daemon;
        let context = daemon.folder().join("litter").display().to_string();
        std::fs::create_dir_all(&context).unwrap();
        for tag in ["example.test/kept:1", "example.test/gone:1"] {
            let text = dockerfile(number) + &format!("RUN echo {tag} > /tag\n");
            std::fs::write(format!("{context}/Dockerfile"), text).unwrap();
            daemon.cli(&["build", &context, "-t", tag]).ok();
        }
        daemon.cli(&["image", "rm", "example.test/gone:1"]).ok();
    }
    fn fresh() -> Place {
        let place = Place::of(plain);
        place.daemon.cli(&["up", &place.folder, "--detach"]).ok();
        place
    }
    let prune = |place: &Place, kill| {
        littered(place);
        let tracer = place.daemon.trace(kill);
        let done = place.client(&["image", "prune", "--keep-cache", "0"], &tracer);
        (done, place.daemon.end_trace(tracer))
    };
    let place = fresh();
    let (done, trace) = prune(&place, None);
    assert!(done);
    sweep("a pruning", &trace.points, place, fresh, |place, kill| {
        let (_, trace) = prune(place, Some(kill));
        place.run_again(&[], &trace, &|_| true);
        let daemon = &place.daemon;
        // Whatever was removed, what has a name is whole, and what runs can start again.
        let folder = daemon.project("seen", r#"{"image": "example.test/kept:1"}"#);
        daemon.cli(&["up", &folder, "--detach"]).ok();
        assert_eq!(
            daemon.sh("seen", "cat /tag /copied").ok(),
            format!("example.test/kept:1\n{}\n", place.lives.get())
        );
        daemon.cli(&["rm", "--force", "seen"]).ok();
        daemon.cli(&["restart", "app"]).ok();
        assert_eq!(daemon.sh("app", "echo here").ok(), "here\n");
        // What was left of it goes now: layers of the two images alone stay.
        daemon.cli(&["image", "prune", "--keep-cache", "0"]).ok();
        at_rest(daemon);
        let layers = daemon.state().join("images/layers");
        assert_eq!(std::fs::read_dir(layers).unwrap().count(), 4);
        trace
    });
}

#[test]
fn a_kill_at_any_call_in_the_life_of_an_environment_with_a_dockerfile_is_made_good() {
    sweep_a_life("the life of what is built", || Place::of(lived));
}

fn lived(daemon: &Daemon, number: u32) -> String {
    let folder = built(daemon, number);
    let config = CONFIG.replace("cat /built/number", "echo started");
    std::fs::write(format!("{folder}/.devcontainer/devcontainer.json"), config).unwrap();
    folder
}

//! Calls that may stand only in listed places, each place with its reason.
//!
//! Owns the lists. They are here and not in clippy.toml where allowing each place by an attribute
//! would scatter the list over the sources; what nobody may do at all is banned there. Tests, build
//! scripts, examples and measuring programs are exempt.
//!
//! Read next: clippy.toml.

/// A call and where it may stand.
struct Rule {
    /// How it is written. Apart, so that this file does not find itself.
    forms: &'static [&'static str],
    /// What it does that not everybody may.
    does: &'static str,
    /// Beginnings of paths, with the reason.
    places: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        forms: &[concat!("Command", "::new(")],
        does: "starts a process",
        places: &[
            (
                "crates/sandbox/src/sandboxes.rs",
                "the spawner: this executable again, single-threaded",
            ),
            ("crates/sandbox/src/disk/programs.rs", "e2fsprogs"),
            ("crates/sandbox/src/net/host.rs", "iptables"),
            ("crates/sandbox/src/net/netfilter.rs", "nft"),
            ("crates/agent/src/spawn.rs", "the stage: the agent again"),
            (
                "crates/agent/src/stage.rs",
                "the process a caller asked for",
            ),
            ("crates/image/src/bootstrap.rs", "mmdebstrap and apt-config"),
            (
                "crates/cli/src/up.rs",
                "git and initializeCommand, with the rights of the caller",
            ),
            (
                "crates/cli/src/connect.rs",
                "the local daemon in the background",
            ),
            ("crates/testkit/src/", "the programs tests need"),
            (
                "crates/store/src/contract/cluster.rs",
                "PostgreSQL, for tests",
            ),
            (
                "xtask/src/",
                "cargo, the package manager, the binary it shows",
            ),
        ],
    },
    Rule {
        forms: &[
            concat!("SystemTime", "::now("),
            concat!("Timestamp", "::now("),
            concat!("Zoned", "::now("),
        ],
        does: "reads the wall clock, which a test cannot set",
        places: &[
            (
                "crates/sandbox/src/monitor.rs",
                "when init started, for the record",
            ),
            (
                "crates/store/src/sqlite/writer.rs",
                "how long history is kept",
            ),
            ("crates/image/src/images.rs", "when an image was added"),
            (
                "crates/server/src/resources.rs",
                "the server's one clock: times it sets in objects",
            ),
            ("crates/runner/src/context.rs", "the runner's clock"),
            ("crates/runner/src/objects.rs", "when an event was posted"),
            ("crates/cli/src/lifecycle.rs", "when the user asked"),
            ("xtask/src/checkout.rs", "times of change of sources"),
            ("crates/testkit/src/", "tests of real time"),
        ],
    },
    Rule {
        forms: &[concat!("tokio", "::spawn(")],
        does: "starts a task that nothing ends when its owner goes: use a JoinSet",
        places: &[
            (
                "crates/server/src/streams.rs",
                "an upgraded connection; ends with shutdown",
            ),
            (
                "crates/link/src/client.rs",
                "drives a connection; ends with it",
            ),
            (
                "crates/cli/src/exec.rs",
                "one direction of a terminal; ends with the program",
            ),
            (
                "crates/cli/src/daemon.rs",
                "server and runner, both awaited",
            ),
        ],
    },
];

/// What a line of the file at `path` does that its place does not allow.
pub(super) fn judge(path: &str, line: &str) -> Vec<&'static str> {
    RULES
        .iter()
        .filter(|rule| rule.forms.iter().any(|form| line.contains(form)))
        .filter(|rule| !rule.places.iter().any(|(place, _)| path.starts_with(place)))
        .map(|rule| rule.does)
        .collect()
}

/// Whether a file is held to no list.
pub(super) fn exempt(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let folders = ["/tests/", "/benches/", "/examples/", "/src/bin/"];
    name == "tests.rs" || name == "build.rs" || folders.iter().any(|folder| path.contains(folder))
}

/// Places that no file of the repository is at any more.
pub(super) fn stale(files: &[String]) -> Vec<String> {
    RULES
        .iter()
        .flat_map(|rule| rule.places)
        .filter(|(place, _)| !files.iter().any(|path| path.starts_with(place)))
        .map(|(place, _)| format!("xtask/src/tidy/places.rs: lists {place}, which is not there"))
        .collect()
}

#[cfg(test)]
mod tests;

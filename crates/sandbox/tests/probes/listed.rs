//! docs/probes.md has a row for every probe, and no other.

use crate::frame::{Need, Probe};
use crate::{files, kernel, network, processes, resources};
use std::collections::BTreeSet;

const GROUPS: &[&[Probe]] = &[
    files::ALL,
    processes::ALL,
    kernel::ALL,
    resources::ALL,
    network::ALL,
];
const LIST: &str = include_str!("../../../../docs/probes.md");

fn row(probe: &Probe) -> String {
    let walls: Vec<String> = probe.walls.iter().map(|wall| wall.name()).collect();
    let own = probe
        .needs
        .iter()
        .chain(probe.needs_to_succeed)
        .map(|need| match need {
            Need::File(path) => format!("a kernel with `{path}`"),
            Need::Cgroups(version) => format!("cgroups of version {version}"),
            Need::Capability(name, _) => format!("`{name}`"),
            Need::Link(kind) => format!("a kernel with {kind}"),
            Need::RealProcessors => "processors that are not emulated".to_owned(),
            Need::Kernel(major, minor) => format!("Linux {major}.{minor}"),
            Need::OwnMachine => "a machine of its own".to_owned(),
        })
        .collect::<Vec<_>>();
    format!(
        "| `{}` | {} | {} | {} |",
        probe.name,
        probe.aim.trim().trim_end_matches('.'),
        walls.join(", "),
        own.join(", ")
    )
}

#[test]
fn every_probe_is_listed_with_its_walls() {
    let mut wanted = BTreeSet::new();
    for probe in GROUPS.iter().copied().flatten() {
        // Whoever takes a resource must leave the neighbour its own.
        let is_bomb = probe.group == "resources";
        assert!(probe.timed || !is_bomb, "{}: not timed", probe.name);
        assert!(wanted.insert(row(probe)), "{}: twice", probe.name);
    }
    let listed: BTreeSet<String> = LIST
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = wanted.difference(&listed).collect();
    let stale: Vec<&String> = listed.difference(&wanted).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/probes.md lacks:\n{missing:#?}\nand should not have:\n{stale:#?}"
    );
}

//! What tests that were killed left on this machine: firewall tables and empty cgroups.
//!
//! Every test removes what it made; one that is killed (by a time limit, or by hand) cannot, and some
//! hundreds of tables make every call of `nft` slow. Only what bears the name of a test whose process is
//! no more is touched, and of that only cgroups without processes: what somebody still runs, in another
//! checkout too, stays. Nothing that fails here matters.
//!
//! Not removed: mounts, interfaces and folders, which go with the processes that have them, or are few.

use crate::process;
use std::collections::BTreeSet;
use std::path::Path;

/// Clears it away; says so when there was something.
pub(crate) fn clear() {
    let live = processes();
    let hierarchies: Vec<_> = children(Path::new("/sys/fs/cgroup"))
        .map(|name| Path::new("/sys/fs/cgroup").join(name))
        .chain(["/sys/fs/cgroup".into()])
        .collect();
    let mut removed = 0;
    for hierarchy in &hierarchies {
        for name in children(hierarchy).filter(|name| is_dead(name, &live)) {
            removed += usize::from(remove(&hierarchy.join(name)));
        }
    }
    // Where a group is still there, its firewall still has something to guard.
    let guarded: BTreeSet<String> = hierarchies.iter().flat_map(|path| children(path)).collect();
    let Ok(mut nft) = process::as_root("nft") else {
        return;
    };
    let listed = process::quietly(nft.args(["list", "tables"])).unwrap_or_default();
    for table in listed
        .lines()
        .filter_map(|line| line.strip_prefix("table inet "))
    {
        if is_dead(table, &live)
            && !guarded.contains(&table.replace('_', "-"))
            && let Ok(mut nft) = process::as_root("nft")
        {
            let delete = ["delete", "table", "inet", table];
            removed += usize::from(process::succeeds(nft.args(delete)));
        }
    }
    if removed > 0 {
        println!("removed {removed} firewall tables and cgroups of tests that were killed");
    }
}

/// Ids of all processes.
fn processes() -> BTreeSet<u32> {
    children(Path::new("/proc"))
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Names of the folders in a folder.
fn children(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a table or cgroup of this name is of a test whose process is no more. Daemons of tests are
/// named after the id of the test's process and a number, `boatyard-test-4711-0`; sandboxes of tests after
/// the rest of the id by 4095 and a number, as hexadecimal digits, `boatyard-test-66700` (in tables
/// `boatyard_test_66700`).
fn is_dead(name: &str, live: &BTreeSet<u32>) -> bool {
    if let Some(rest) = name.strip_prefix("boatyard-test-")
        && let Some((process, number)) = rest.split_once('-')
    {
        let numbered = number.starts_with(|letter: char| letter.is_ascii_digit());
        return numbered
            && process
                .parse()
                .is_ok_and(|process| !live.contains(&process));
    }
    let unique = name
        .strip_prefix("boatyard-test-")
        .or_else(|| name.strip_prefix("boatyard_test_"));
    let unique = unique.and_then(|unique| u32::from_str_radix(unique, 16).ok());
    unique.is_some_and(|unique| !live.iter().any(|process| process % 0xfff == unique >> 8))
}

/// Removes a cgroup with those below it; whether it is gone. The kernel refuses where a process is.
fn remove(group: &Path) -> bool {
    for name in children(group) {
        remove(&group.join(name));
    }
    std::fs::remove_dir(group).is_ok()
}

#[cfg(test)]
mod tests {
    //! Whose names these are.
    use super::*;

    #[test]
    fn only_names_of_tests_whose_process_is_gone_are_dead() {
        let live = BTreeSet::from([4711, 0xfff * 3 + 0x66]);
        for (name, dead) in [
            ("boatyard-test-4711-0", false),
            ("boatyard-test-4712-0", true),
            ("boatyard-test-4712-0-e", true),
            ("boatyard-test-4711-1-client", false),
            ("boatyard-test-6607", false),
            ("boatyard_test_6607", false),
            ("boatyard_test_6707", true),
            ("boatyard", false),
            ("boatyard-test-", false),
            ("boatyard-test-x-0", false),
            ("boatyard-test-4712-", false),
            ("docker", false),
            ("filter", false),
        ] {
            assert_eq!(is_dead(name, &live), dead, "{name}");
        }
    }
}

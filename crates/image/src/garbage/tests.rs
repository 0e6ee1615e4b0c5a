use super::*;

/// A name, a step or a mount, by its letter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing(&'static str);

impl Ruled for Thing {
    fn age(&self, wanted: &Wanted) -> Option<Duration> {
        match self.is_cache() {
            true => Some(wanted.cache_age),
            false => wanted.image_age,
        }
    }
    fn is_cache(&self) -> bool {
        !self.0.starts_with("name")
    }
}

const NOW: i64 = 1_000_000;

fn layer(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// Name, seconds since it was used, its layers, bytes of its own. A layer has 100 bytes.
type Row = (&'static str, i64, &'static [&'static str], u64);

fn going(rows: &[Row], used: &[&str], wanted: &Wanted) -> Vec<&'static str> {
    let candidates = rows.iter().map(|(name, ago, layers, bytes)| Candidate {
        used: (NOW - ago, 0),
        layers: layers.iter().map(|name| layer(name)).collect(),
        bytes: *bytes,
        kind: Thing(name),
    });
    let used = used.iter().map(|name| layer(name)).collect();
    let (stay, go) = choose(candidates.collect(), wanted, NOW, &used, &|_| 100);
    assert_eq!(stay.len() + go.len(), rows.len());
    let mut names: Vec<_> = go.iter().map(|one| one.kind.0).collect();
    names.sort_unstable();
    names
}

fn wanted() -> Wanted {
    Wanted {
        cache_bytes: u64::MAX,
        cache_age: Duration::from_secs(1000),
        young: Duration::from_secs(10),
        ..Wanted::default()
    }
}

#[test]
fn nothing_goes_that_is_neither_old_nor_too_much() {
    let rows: &[Row] = &[("name", 5000, &["a"], 0), ("step", 999, &["b"], 0)];
    assert!(going(rows, &[], &wanted()).is_empty());
}

#[test]
fn what_is_old_goes_unless_it_is_in_use() {
    let rows: &[Row] = &[
        ("name-old", 5000, &["a"], 0),
        ("name-in-use", 5000, &["b", "c"], 0),
        ("step-old", 1000, &["d"], 0),
        ("mount-old", 2000, &[], 7),
    ];
    let aged = Wanted {
        image_age: Some(Duration::from_secs(4000)),
        ..wanted()
    };
    let gone = going(rows, &["b", "c"], &aged);
    assert_eq!(gone, ["mount-old", "name-old", "step-old"]);
}

#[test]
fn the_cache_keeps_what_was_used_last_and_counts_no_layer_that_stays_anyway() {
    let rows: &[Row] = &[
        ("name", 50, &["base"], 0),
        ("step-of-base", 20, &["base"], 0),
        ("step-in-use", 21, &["used"], 0),
        ("step-1", 30, &["a"], 0),
        ("step-2", 40, &["b"], 0),
        ("mount", 60, &[], 50),
        ("step-3", 70, &["c"], 0),
    ];
    let bound = Wanted {
        cache_bytes: 250,
        ..wanted()
    };
    assert_eq!(going(rows, &["used"], &bound), ["step-3"]);
}

#[test]
fn under_pressure_what_was_used_longest_ago_goes_until_there_is_enough() {
    let rows: &[Row] = &[
        ("name-new", 20, &["a", "shared"], 0),
        ("step", 30, &["b"], 0),
        ("name-old", 40, &["c", "shared"], 0),
        ("mount", 50, &[], 60),
    ];
    let free = |free| Wanted { free, ..wanted() };
    assert_eq!(going(rows, &[], &free(1)), ["mount"]);
    assert_eq!(going(rows, &[], &free(61)), ["mount", "name-old"]);
    assert_eq!(going(rows, &[], &free(200)), ["mount", "name-old", "step"]);
    let all = ["mount", "name-new", "name-old", "step"];
    assert_eq!(going(rows, &[], &free(u64::MAX)), all);
}

#[test]
fn a_layer_that_something_newer_names_is_freed_only_with_that() {
    let rows: &[Row] = &[("name", 20, &["a"], 0), ("step", 30, &["a"], 0)];
    let one = Wanted {
        free: 1,
        ..wanted()
    };
    // The step alone would free nothing; both go.
    assert_eq!(going(rows, &[], &one), ["name", "step"]);
    // Of a layer in use neither does.
    assert!(going(rows, &["a"], &one).is_empty());
}

#[test]
fn what_was_used_just_now_stays_whatever_is_asked() {
    let rows: &[Row] = &[
        ("name", 9, &["a"], 0),
        ("step", 5, &["b"], 0),
        ("mount", 0, &[], 9),
    ];
    let all = Wanted {
        cache_bytes: 0,
        free: u64::MAX,
        image_age: Some(Duration::ZERO),
        cache_age: Duration::ZERO,
        ..wanted()
    };
    assert!(going(rows, &[], &all).is_empty());
}

#[test]
fn what_goes_by_age_counts_towards_what_is_to_be_freed() {
    let rows: &[Row] = &[("step-old", 1000, &["a"], 0), ("step", 500, &["b"], 0)];
    let one = Wanted {
        free: 100,
        ..wanted()
    };
    assert_eq!(going(rows, &[], &one), ["step-old"]);
}

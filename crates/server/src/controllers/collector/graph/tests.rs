//! The index by what it is told.

use super::*;

fn key(name: &str) -> Key {
    Key {
        resource: "environments.boatyard.dev".to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

/// Named as its uid; owners that it blocks end in `!`.
fn facts(uid: &str, owners: &[&str], finalizer: Option<&str>) -> Facts {
    let reference = |owner: &&str| {
        let uid = owner.trim_end_matches('!');
        Reference {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            block_owner_deletion: owner.ends_with('!').then_some(true),
            ..Reference::default()
        }
    };
    Facts {
        uid: uid.to_owned(),
        deletion_timestamp: finalizer.map(|_| "now".to_owned()),
        finalizers: finalizer.map(str::to_owned).into_iter().collect(),
        owner_references: owners.iter().map(reference).collect(),
    }
}

fn note(graph: &mut Graph, uid: &str, owners: &[&str], finalizer: Option<&str>) -> Vec<String> {
    names(graph.note(&key(uid), &facts(uid, owners, finalizer), false))
}

fn names(keys: BTreeSet<Arc<Key>>) -> Vec<String> {
    keys.into_iter().map(|key| key.name.clone()).collect()
}

fn blocking(graph: &Graph, uid: &str) -> Vec<String> {
    graph.blocking(uid).map(|key| key.name.clone()).collect()
}

#[test]
fn only_what_belongs_to_something_or_waits_is_kept() {
    let mut graph = Graph::default();
    assert!(note(&mut graph, "free", &[], None).is_empty());
    assert!(note(&mut graph, "held", &[], Some("a.io/x")).is_empty());
    assert!(graph.nodes.is_empty());
    assert_eq!(note(&mut graph, "b", &["a"], None), ["b"]);
    assert!(note(&mut graph, "b", &["a"], None).is_empty(), "as before");
    assert!(note(&mut graph, "b", &[], None).is_empty());
    assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
    note(&mut graph, "a", &[], Some(FOREGROUND));
    graph.remove(&key("a"), Some("a"));
    assert!(graph.nodes.is_empty() && graph.waiting.is_empty());
}

#[test]
fn dependents_are_looked_at_when_an_owner_goes_or_waits() {
    let mut graph = Graph::default();
    for dependent in ["b", "c"] {
        note(&mut graph, dependent, &["a"], None);
    }
    assert_eq!(
        note(&mut graph, "a", &[], Some(FOREGROUND)),
        ["a", "b", "c"]
    );
    assert_eq!(note(&mut graph, "a", &[], Some(FOREGROUND)), ["a"]);
    assert_eq!(names(graph.remove(&key("a"), Some("a"))), ["b", "c"]);
    // Of the same name, and another.
    let again = graph.note(&key("b"), &facts("b2", &["a"], None), false);
    assert_eq!(names(again), ["b"]);
    assert_eq!(graph.dependents("a").len(), 2);
}

#[test]
fn an_owner_that_waits_is_looked_at_when_a_dependent_ceases_to_block_it() {
    for (owners, wanted) in [
        (&["a"][..], vec!["a"]),
        (&["a!"], vec![]),
        (&["z!"], vec!["a", "b"]),
        (&[], vec!["a"]),
    ] {
        let mut graph = Graph::default();
        note(&mut graph, "b", &["a!"], None);
        note(&mut graph, "a", &[], Some(FOREGROUND));
        assert_eq!(blocking(&graph, "a"), ["b"]);
        let mut woken = note(&mut graph, "b", owners, None);
        woken.retain(|name| name == "a" || owners == ["z!"]);
        assert_eq!(woken, wanted, "{owners:?}");
    }
    let mut graph = Graph::default();
    note(&mut graph, "b", &["a!"], None);
    note(&mut graph, "a", &[], Some(FOREGROUND));
    assert_eq!(names(graph.remove(&key("b"), Some("b"))), ["a"]);
    assert!(blocking(&graph, "a").is_empty());
}

#[test]
fn those_who_wait_for_each_other_do_not_block_each_other() {
    let mut graph = Graph::default();
    // A ring of three, and one outside it.
    for (uid, owner) in [("a", "c!"), ("b", "a!"), ("c", "b!")] {
        note(&mut graph, uid, &[owner], Some(FOREGROUND));
    }
    note(&mut graph, "d", &["a!"], None);
    assert_eq!(blocking(&graph, "a"), ["d"]);
    assert!(blocking(&graph, "b").is_empty() && blocking(&graph, "c").is_empty());
    // Its own owner.
    note(&mut graph, "e", &["e!"], Some(FOREGROUND));
    assert!(blocking(&graph, "e").is_empty());
    // In a row, each blocks the one before.
    let mut graph = Graph::default();
    for (uid, owners) in [("a", &[][..]), ("b", &["a!"]), ("c", &["b!"])] {
        note(&mut graph, uid, owners, Some(FOREGROUND));
    }
    assert_eq!(blocking(&graph, "a"), ["b"]);
    assert_eq!(blocking(&graph, "b"), ["c"]);
}

#[test]
fn what_is_listed_again_is_looked_at_since_its_owners_may_have_gone_unseen() {
    let mut graph = Graph::default();
    note(&mut graph, "b", &["a"], None);
    let woken = graph.note(&key("b"), &facts("b", &["a"], None), true);
    assert_eq!(names(woken), ["b"]);
}

//! Which finalizers a deletion leaves, by table.

use super::*;

fn after(propagation: Option<Propagation>, before: &[&str]) -> Vec<String> {
    let options = Options {
        propagation,
        ..Options::default()
    };
    let before: Vec<String> = before
        .iter()
        .map(|&finalizer| finalizer.to_owned())
        .collect();
    finalizers(&options, &before)
}

#[test]
fn what_a_deletion_says_overrides_what_the_finalizers_said() {
    use Propagation::{Background, Foreground, Orphan};
    for (propagation, before, wanted) in [
        (None, vec![], vec![]),
        (None, vec!["a.io/x"], vec!["a.io/x"]),
        (None, vec![ORPHAN], vec![ORPHAN]),
        (None, vec![FOREGROUND, "a.io/x"], vec!["a.io/x", FOREGROUND]),
        (Some(Background), vec![], vec![]),
        (Some(Background), vec![ORPHAN], vec![]),
        (Some(Background), vec!["a.io/x", FOREGROUND], vec!["a.io/x"]),
        (Some(Foreground), vec![], vec![FOREGROUND]),
        (Some(Foreground), vec![FOREGROUND], vec![FOREGROUND]),
        (
            Some(Foreground),
            vec![ORPHAN, "a.io/x"],
            vec!["a.io/x", FOREGROUND],
        ),
        (Some(Orphan), vec!["a.io/x"], vec!["a.io/x", ORPHAN]),
        (Some(Orphan), vec![FOREGROUND], vec![ORPHAN]),
    ] {
        assert_eq!(
            after(propagation, &before),
            wanted,
            "{propagation:?} {before:?}"
        );
    }
}

#[test]
fn the_option_that_the_policy_replaced_says_the_same_and_not_both_are_taken() {
    let said = |policy, orphan| propagation(policy, orphan).ok();
    assert_eq!(said("", None), Some(None));
    assert_eq!(said("", Some(true)), Some(Some(Propagation::Orphan)));
    assert_eq!(said("", Some(false)), Some(Some(Propagation::Background)));
    assert_eq!(
        said("Foreground", None),
        Some(Some(Propagation::Foreground))
    );
    assert_eq!(said("Foreground", Some(false)), None);
    assert_eq!(said("Sideways", None), None);
}

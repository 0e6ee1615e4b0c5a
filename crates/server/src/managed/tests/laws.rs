//! Laws that hold for all sets, objects and histories.

use super::super::typed::element;
use super::super::types::Shape;
use super::*;
use proptest::prelude::*;
use proptest::sample::subsequence;

fn elements() -> impl Strategy<Value = Element> {
    let name = prop::sample::select(vec!["a", "b", "c", "."]);
    prop_oneof![
        name.clone().prop_map(Element::field),
        (name, 0..3).prop_map(|(name, value)| Element::Key(vec![
            ("key".to_owned(), json!(value)),
            (format!("z{name}"), json!(name)),
        ])),
        (0..3).prop_map(|value| Element::Value(json!(value))),
        (0..3_i64).prop_map(Element::Index),
    ]
}

fn sets() -> impl Strategy<Value = Set> {
    let path = prop::collection::vec(elements(), 1..4);
    prop::collection::vec(path, 0..12).prop_map(|paths| {
        let mut set = Set::default();
        for path in paths {
            set.insert(&path);
        }
        set
    })
}

/// Letters of an alphabet, in any order.
fn letters(alphabet: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(alphabet, 1..=alphabet.len()).prop_shuffle()
}

/// Specs whose maps, sets and lists have members of `alphabet` alone; no container is empty.
fn specs(alphabet: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let value = || prop::sample::select(vec!["1", "2"]);
    let set = prop::option::of(letters(alphabet));
    let items = letters(alphabet).prop_flat_map(move |names| {
        let length = names.len();
        (
            Just(names),
            prop::collection::vec(
                (prop::option::of(value()), prop::option::of(value())),
                length,
            ),
        )
    });
    let keyed = prop::option::of(items.prop_map(|(names, values)| {
        let items = names.into_iter().zip(values);
        let items = items.map(|(name, (value, more))| {
            let mut item = json!({"name": name});
            if let Some(value) = value {
                item["value"] = json!(value);
            }
            if let Some(more) = more {
                item["more"] = json!({"a": more});
            }
            item
        });
        Value::Array(items.collect())
    }));
    let free = prop::option::of(letters(alphabet).prop_map(|names| {
        names
            .into_iter()
            .map(|name| (name.to_owned(), json!({"x": name})))
            .collect::<serde_json::Map<_, _>>()
    }));
    (set, keyed, free, prop::option::of(value())).prop_map(move |(set, keyed, free, plain)| {
        let mut spec = json!({});
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec[name] = value;
            }
        };
        put("set", set.map(|set| json!(set)));
        put("keyed", keyed);
        put("free", free.map(Value::Object));
        if alphabet != RIGHT {
            put("text", plain.map(|plain| json!(plain)));
        }
        spec
    })
}

const ALL: &[&str] = &["a", "b", "c", "d", "e", "f"];
const LEFT: &[&str] = &["a", "b", "c"];
const RIGHT: &[&str] = &["d", "e", "f"];

/// Lists that are sets in one order.
fn sorted(mut object: Value) -> Value {
    for list in ["set", "keyed"] {
        if let Some(items) = object["spec"][list].as_array_mut() {
            items.sort_by_key(ToString::to_string);
        }
    }
    object
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    super::super::take(&mut object);
    object
}

/// Whether something is at a path. The fields of a value do not say so: an empty list is none of
/// them, and yet whoever made the list holds it.
fn leads_somewhere(of: &Ref, value: &Value, path: &[Element]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    match (of.atom().shape(Some(value)), step, value) {
        (Shape::Map(map), Element::Field(name), Value::Object(members)) => members
            .get(name)
            .is_some_and(|member| leads_somewhere(map.member(name), member, rest)),
        (Shape::List(list), _, Value::Array(items)) => items.iter().any(|item| {
            element(list, item).as_ref() == Ok(step) && leads_somewhere(&list.items, item, rest)
        }),
        _ => false,
    }
}

/// What somebody does.
#[derive(Clone, Debug)]
enum Act {
    Apply(&'static str, bool),
    Update(&'static str),
}

fn acts() -> impl Strategy<Value = Vec<(Act, Value)>> {
    let name = || prop::sample::select(vec!["p", "q", "r"]);
    let act = prop_oneof![
        (name(), any::<bool>()).prop_map(|(name, force)| Act::Apply(name, force)),
        name().prop_map(Act::Update),
    ];
    prop::collection::vec((act, specs(ALL)), 1..8)
}

proptest! {
    #[test]
    fn sets_are_sets(a in sets(), b in sets(), c in sets()) {
        let union = |a: &Set, b: &Set| a.clone().union(b.clone());
        let without = |a: &Set, b: &Set| a.clone().difference(b);
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(union(&union(&a, &b), &c), union(&a, &union(&b, &c)));
        prop_assert_eq!(union(&a, &a), a.clone());
        prop_assert!(without(&a, &a).is_empty());
        prop_assert!(without(&a, &b).intersection(&b).is_empty());
        prop_assert_eq!(union(&without(&a, &b), &a.intersection(&b)), a.clone());
        prop_assert_eq!(union(&a, &without(&b, &a)), union(&a, &b));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        let less = a.clone().recursive_difference(&b);
        prop_assert_eq!(without(&less, &a), Set::default());
        prop_assert_eq!(less.intersection(&b), Set::default());
        prop_assert_eq!(less.clone().recursive_difference(&b), less);
    }

    #[test]
    fn what_is_written_is_read_again(a in sets()) {
        prop_assert_eq!(Set::decode(&a.encode()).unwrap(), a);
    }

    #[test]
    fn merging_a_configuration_twice_is_merging_it_once(a in specs(ALL), b in specs(ALL)) {
        let of = Ref::compile(&schema());
        let once = merge(&of, &config(a.clone()), &config(b.clone()));
        prop_assert_eq!(merge(&of, &once, &config(b.clone())), once.clone());
        prop_assert!(compare(&of, &config(b), &once).modified.is_empty());
        let from = compare(&of, &config(a), &once);
        prop_assert!(from.removed.is_empty(), "nothing goes by merging");
    }

    #[test]
    fn applying_the_same_twice_changes_nothing(a in specs(ALL), b in specs(ALL)) {
        let kind = kind();
        let made = updated(&at(&kind, "other", 1), None, &config(a));
        let once = applied(&at(&kind, "p", 2), Some(&made), &config(b.clone()), true).unwrap();
        let twice = applied(&at(&kind, "p", 3), Some(&once), &config(b), false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn applying_and_taking_back_restores(a in specs(LEFT), b in specs(RIGHT)) {
        let kind = kind();
        let before = applied(&at(&kind, "p", 1), None, &config(a), false).unwrap();
        let during = applied(&at(&kind, "q", 2), Some(&before), &config(b), false).unwrap();
        let nothing = json!({"apiVersion": "boatyard.dev/v1", "kind": "Runner"});
        let after = applied(&at(&kind, "q", 3), Some(&during), &nothing, false).unwrap();
        prop_assert_eq!(bare(&after), bare(&before));
        prop_assert_eq!(owners(&after), owners(&before));
    }

    #[test]
    fn appliers_of_different_fields_do_not_mind_who_is_first(a in specs(LEFT), b in specs(RIGHT)) {
        let kind = kind();
        let both = |first: &'static str, x: &Value, second: &'static str, y: &Value| {
            let once = applied(&at(&kind, first, 1), None, &config(x.clone()), false).unwrap();
            applied(&at(&kind, second, 1), Some(&once), &config(y.clone()), false).unwrap()
        };
        let one = sorted(both("p", &a, "q", &b));
        let other = sorted(both("q", &b, "p", &a));
        prop_assert_eq!(bare(&one), bare(&other));
        prop_assert_eq!(owners(&one), owners(&other));
    }

    #[test]
    fn after_any_history_owners_own_what_is_there(acts in acts()) {
        let kind = kind();
        let of = kind.merging();
        let mut live: Option<Value> = None;
        for (second, (act, spec)) in (1..).zip(acts) {
            let wanted = config(spec);
            let next = match act {
                Act::Apply(name, force) => match applied(&at(&kind, name, second), live.as_ref(), &wanted, force) {
                    Ok(object) => {
                        let kept = compare(of, &wanted, &object);
                        prop_assert!(kept.modified.is_empty() && kept.removed.is_empty(), "what is applied is there");
                        object
                    }
                    Err(failure) => {
                        prop_assert!(!force && failure.reason == "Conflict");
                        let causes = failure.details["causes"].as_array().unwrap();
                        prop_assert!(!causes.is_empty());
                        continue;
                    }
                },
                Act::Update(name) => {
                    let next = updated(&at(&kind, name, second), live.as_ref(), &wanted);
                    let nothing = json!({"metadata": {}});
                    let changes = compare(of, live.as_ref().unwrap_or(&nothing), &next);
                    let changed = changes.modified.union(changes.added);
                    let found = Owners::decode(&next["metadata"]["managedFields"]).unwrap();
                    for (owner, owned) in &found.0 {
                        let is_writer = owner.name == name && owner.version == "boatyard.dev/v1";
                        prop_assert!(is_writer || owned.fields.intersection(&changed).is_empty());
                    }
                    next
                }
            };
            let found = Owners::decode(&next["metadata"]["managedFields"]).unwrap();
            for (owner, owned) in &found.0 {
                prop_assert!(!owned.fields.is_empty());
                let mut dangling = Vec::new();
                owned.fields.each(&mut Vec::new(), &mut |path| {
                    if !leads_somewhere(of, &next, path) {
                        dangling.push(show(path));
                    }
                });
                prop_assert!(dangling.is_empty(), "{owner:?} owns {dangling:?} of {next}");
            }
            prop_assert_eq!(found.encode(), next["metadata"]["managedFields"].clone());
            live = Some(next);
        }
    }
}

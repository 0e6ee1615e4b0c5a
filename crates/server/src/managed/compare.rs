//! What differs between two versions of an object, as sets of fields.

use super::element::Element;
use super::set::Set;
use super::typed::{element, has_no_members, items};
use super::types::{Items, List, Map, Ref, Shape};
use serde_json::Value;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The difference; no path is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) removed: Set,
    pub(crate) modified: Set,
    pub(crate) added: Set,
}

impl Comparison {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Without some fields and everything below them.
    pub(crate) fn without(self, ignored: &Set) -> Self {
        Self {
            removed: self.removed.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            added: self.added.recursive_difference(ignored),
        }
    }
}

/// Compares two values of a type.
pub(crate) fn compare(of: &Ref, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk::default();
    // Most of an object is as it was.
    if old != new {
        walk.value(of, Some(old), Some(new));
    }
    walk.found
}

/// What there is below a value that was not there.
fn below(of: &Ref, value: &Value) -> Set {
    match (of.atom().shape(Some(value)), value) {
        (Shape::Map(map), Value::Object(members)) if !map.atomic => {
            let members = members.iter().map(|(name, member)| {
                let of = map.member(name);
                (Element::field(name), below(of, member))
            });
            Set::of_members(members.collect())
        }
        (Shape::List(list), Value::Array(items)) if list.relation != Items::Atomic => {
            let mut found: BTreeMap<Element, Set> = BTreeMap::new();
            for item in items {
                if let Ok(step) = element(list, item) {
                    match found.entry(step) {
                        Entry::Vacant(entry) => drop(entry.insert(below(&list.items, item))),
                        // Items that are there twice are taken together, as one value.
                        Entry::Occupied(mut entry) => drop(entry.insert(Set::default())),
                    }
                }
            }
            Set::of_members(found.into_iter().collect())
        }
        _ => Set::default(),
    }
}

#[derive(Default)]
struct Walk {
    path: Vec<Element>,
    found: Comparison,
}

impl Walk {
    /// Of two that differ.
    fn value(&mut self, of: &Ref, old: Option<&Value>, new: Option<&Value>) {
        if let (None, Some(new)) = (old, new) {
            return self.found.added.graft(&self.path, below(of, new));
        }
        let atom = of.atom();
        let (was, is) = (atom.shape(old), atom.shape(new));
        let whole = match (old, new) {
            (_, None) => self.shaped(was, old, new),
            (None, _) => self.shaped(is, old, new),
            _ if was.is_same(&is) => self.shaped(is, old, new),
            _ => {
                self.shaped(was, old, new);
                self.shaped(is, old, new)
            }
        };
        if !whole {
            if old.is_none() {
                self.found.added.insert(&self.path);
            } else if new.is_none() {
                self.found.removed.insert(&self.path);
            }
        }
    }

    /// Whether the value was taken as a whole.
    fn shaped(&mut self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> bool {
        let whole = match shape {
            Shape::Scalar(_) => true,
            // Empty and absent are told apart.
            Shape::List(list) => {
                list.relation == Items::Atomic || (items(old).is_empty() && items(new).is_empty())
            }
            Shape::Map(map) => map.atomic || (has_no_members(old) && has_no_members(new)),
        };
        match shape {
            _ if whole => self.leaf(old, new),
            Shape::List(list) => self.list(list, items(old), items(new)),
            Shape::Map(map) => self.map(map, old, new),
            Shape::Scalar(_) => {}
        }
        whole
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(old), Some(new)) if super::element::compare(old, new).is_ne() => {
                self.found.modified.insert(&self.path);
            }
            _ => {}
        }
    }

    fn map(&mut self, map: &Map, old: Option<&Value>, new: Option<&Value>) {
        let (old, new) = (
            old.and_then(Value::as_object),
            new.and_then(Value::as_object),
        );
        let names: BTreeSet<&String> = old
            .into_iter()
            .chain(new)
            .flat_map(serde_json::Map::keys)
            .collect();
        for name in names {
            let (old, new) = (
                old.and_then(|members| members.get(name)),
                new.and_then(|members| members.get(name)),
            );
            // Most of an object is as it was.
            if old == new {
                continue;
            }
            self.path.push(Element::field(name));
            self.value(map.member(name), old, new);
            self.path.pop();
        }
    }

    fn list(&mut self, list: &List, old: &[Value], new: &[Value]) {
        let mut found: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(step) = element(list, item) {
                found.entry(step).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(step) = element(list, item) {
                found.entry(step).or_default().1.push(item);
            }
        }
        for (step, (old, new)) in found {
            self.path.push(step);
            // Items that are there twice are taken together, as one value.
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    let (old, new) = (old.first().copied(), new.first().copied());
                    if old != new {
                        self.value(&list.items, old, new);
                    }
                }
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.found.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], now) => {
                    if let Some(now) = now.first() {
                        self.value(&list.items, None, Some(now));
                    }
                    self.found.removed.insert(&self.path);
                }
                (before, _) => {
                    if let Some(before) = before.first() {
                        self.value(&list.items, Some(before), None);
                    }
                    self.found.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

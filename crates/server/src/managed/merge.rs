//! An applied configuration merged into the live object.
//!
//! Nothing goes by merging: members and items of the configuration are set, everything else stays.
//! Items of lists stand as in the live object while the configuration changes nothing about them,
//! and as in the configuration where it does.

use super::element::Element;
use super::typed::{element, has_no_members, items};
use super::types::{Items, List, Map, Ref, Shape};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Merges `config`, which fits its type and has nothing twice, into `live`.
pub(crate) fn merge(of: &Ref, live: &Value, config: &Value) -> Value {
    value(of, Some(live), Some(config)).unwrap_or(Value::Null)
}

fn value(of: &Ref, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(live), Some(config)) = (live, config) else {
        return config.or(live).cloned();
    };
    let (old, new) = (Some(live), Some(config));
    let shape = of.atom().shape(new);
    let whole = match shape {
        Shape::Scalar(_) => true,
        Shape::List(list) => {
            list.relation == Items::Atomic || (items(old).is_empty() && items(new).is_empty())
        }
        Shape::Map(map) => map.atomic || (has_no_members(old) && has_no_members(new)),
    };
    match shape {
        Shape::List(list) if !whole => self::list(list, items(old), items(new)),
        Shape::Map(map) if !whole => self::map(map, live, config),
        _ => Some(config.clone()),
    }
}

fn map(map: &Map, live: &Value, config: &Value) -> Option<Value> {
    let (live, config) = (live.as_object(), config.as_object());
    let names: BTreeSet<&String> = live
        .into_iter()
        .chain(config)
        .flat_map(serde_json::Map::keys)
        .collect();
    let members = names.into_iter().filter_map(|name| {
        let member = value(
            map.member(name),
            live.and_then(|members| members.get(name)),
            config.and_then(|members| members.get(name)),
        )?;
        Some((name.clone(), member))
    });
    let members: serde_json::Map<String, Value> = members.collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

/// Items in the order structured-merge-diff gives them: both lists are walked at once; live items
/// come where they stood, unless the configuration has them elsewhere.
fn list(list: &List, live: &[Value], config: &[Value]) -> Option<Value> {
    let steps = |items: &[Value]| -> Vec<(Element, usize)> {
        let found = items.iter().enumerate();
        let found = found.filter_map(|(at, item)| Some((element(list, item).ok()?, at)));
        found.collect()
    };
    let (left, right) = (steps(live), steps(config));
    // Live items that are there twice are not merged with, and nothing of them is kept.
    let mut known: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (step, at) in &left {
        let item = live.get(*at);
        let twice = known.insert(step, item).is_some();
        if twice {
            known.insert(step, None);
        }
    }
    let wanted: BTreeMap<&Element, &Value> = right
        .iter()
        .filter_map(|(step, at)| Some((step, config.get(*at)?)))
        .collect();
    let both = |step: &Element| {
        let live = known.get(step).map(|item| item.unwrap_or(&Value::Null));
        value(&list.items, live, wanted.get(step).copied())
    };
    let mut shared: VecDeque<&Element> = right
        .iter()
        .map(|(step, _)| step)
        .filter(|step| known.contains_key(step))
        .collect();
    let mut next = shared.pop_front();
    let mut merged: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((ours, _)), Some((theirs, _))) = (left.get(l), right.get(r)) {
            if ours == theirs {
                merged.insert(ours);
                out.extend(both(ours));
                (l, r) = (l + 1, r + 1);
                next = shared.pop_front();
                continue;
            }
            if wanted.contains_key(ours) && next.is_some_and(|next| next != ours) {
                // Shared, but its turn is later.
                l += 1;
                continue;
            }
        }
        if let Some((ours, at)) = left.get(l) {
            if !wanted.contains_key(ours) {
                out.extend(live.get(*at).cloned());
                l += 1;
                continue;
            }
            if merged.contains(ours) {
                l += 1;
            }
        }
        if let Some((theirs, _)) = right.get(r) {
            merged.insert(theirs);
            out.extend(both(theirs));
            r += 1;
            if next.is_some_and(|next| next == theirs) {
                next = shared.pop_front();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

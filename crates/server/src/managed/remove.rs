//! Fields taken out of an object.

use super::element::Element;
use super::set::Set;
use super::typed::{element, items};
use super::types::{Items, Ref, Shape};
use serde_json::{Map, Value};

/// `value` without the items and members in `gone`. A container that loses its last is empty where
/// it is in `held` itself, and null elsewhere.
pub(crate) fn remove(of: &Ref, value: &Value, gone: &Set, held: &Set) -> Value {
    below(of, value, gone, Some(held), false)
}

fn below(of: &Ref, value: &Value, gone: &Set, held: Option<&Set>, stays: bool) -> Value {
    let step = |of: &Ref, value: &Value, step: &Element| {
        if gone.has_element(step) {
            return None;
        }
        Some(match gone.below(step) {
            Some(gone) => {
                let stays = held.is_some_and(|held| held.has_element(step));
                let held = held.and_then(|held| held.below(step));
                below(of, value, gone, held, stays)
            }
            None => value.clone(),
        })
    };
    match of.atom().shape(Some(value)) {
        Shape::Scalar(_) => value.clone(),
        Shape::List(list) => {
            if list.relation == Items::Atomic {
                return Value::Null;
            }
            let kept = items(Some(value)).iter().filter_map(|item| {
                let Ok(element) = element(list, item) else {
                    return Some(item.clone());
                };
                step(&list.items, item, &element)
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() && !stays {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        Shape::Map(map) => {
            if map.atomic {
                return Value::Null;
            }
            let members = value.as_object().into_iter().flatten();
            let kept = members.filter_map(|(name, member)| {
                let kept = step(map.member(name), member, &Element::field(name))?;
                Some((name.clone(), kept))
            });
            let kept: Map<String, Value> = kept.collect();
            if kept.is_empty() && !stays {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
    }
}

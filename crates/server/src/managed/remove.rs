//! Fields taken out of an object.

use super::element::Element;
use super::set::Set;
use super::typed::{element, items};
use super::types::{Items, Ref, Shape};
use serde_json::Value;

/// `value` without the items and members in `gone`. A container that loses its last is null.
pub(crate) fn remove(of: &Ref, value: &Value, gone: &Set) -> Value {
    match of.atom().shape(Some(value)) {
        Shape::Scalar(_) => value.clone(),
        Shape::List(list) => {
            if list.relation == Items::Atomic {
                return Value::Null;
            }
            let kept = items(Some(value)).iter().filter_map(|item| {
                let Ok(step) = element(list, item) else {
                    return Some(item.clone());
                };
                kept(&list.items, item, gone, &step)
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() {
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
                let step = Element::field(name);
                Some((name.clone(), kept(map.member(name), member, gone, &step)?))
            });
            let kept: serde_json::Map<String, Value> = kept.collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
    }
}

fn kept(of: &Ref, value: &Value, gone: &Set, step: &Element) -> Option<Value> {
    if gone.has_element(step) {
        return None;
    }
    Some(match gone.below(step) {
        Some(below) => remove(of, value, below),
        None => value.clone(),
    })
}

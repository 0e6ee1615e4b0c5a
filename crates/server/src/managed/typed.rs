//! Values against their types: which element an item is, what does not fit, which fields are there.

use super::element::{Element, show};
use super::set::Set;
use super::types::{Items, List, Ref, Scalar, Shape};
use serde_json::Value;
use std::collections::BTreeSet;

/// Most errors told of one value, and most bytes of a value shown in one.
const MOST: usize = 20;
const LONGEST: usize = 120;

/// The items of a list; none of what is no list.
pub(crate) fn items(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Whether there are no members.
pub(crate) fn has_no_members(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty)
}

/// Which element an item of a set or a keyed list is.
pub(crate) fn element(list: &List, item: &Value) -> Result<Element, String> {
    let Items::Keyed(keys) = &list.relation else {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            plain => Ok(Element::Value(plain.clone())),
        };
    };
    let Value::Object(members) = item else {
        let what = if item.is_null() {
            "associative list with keys may not have a null element"
        } else {
            "associative list with keys may not have non-map elements"
        };
        return Err(what.to_owned());
    };
    let declared = list.items.atom().map.as_ref();
    let default = |key: &String| declared?.fields.get(key)?.default.as_ref();
    let mut found: Vec<(String, Value)> = keys
        .iter()
        .filter_map(|key| {
            let value = members.get(key).or_else(|| default(key))?;
            Some((key.clone(), value.clone()))
        })
        .collect();
    if found.is_empty() {
        return Err(format!(
            "associative list with keys has an element that omits all key fields {keys:?} (and doesn't have default values for any key fields)"
        ));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(found))
}

/// Everything in `value` that does not fit its type, each as `path: what`.
pub(crate) fn misfits(of: &Ref, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(of, value, &mut Vec::new(), &mut errors);
    errors
}

fn brief(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

fn wrong(path: &[Element], what: &str, errors: &mut Vec<String>) {
    if errors.len() < MOST {
        let place = show(path);
        let colon = if place.is_empty() { "" } else { ": " };
        errors.push(format!("{place}{colon}{what}"));
    }
}

fn check(of: &Ref, value: &Value, path: &mut Vec<Element>, errors: &mut Vec<String>) {
    if errors.len() >= MOST || value.is_null() {
        return;
    }
    let mut expected = |what: &str| {
        wrong(
            path,
            &format!("expected {what}, got {}", brief(value)),
            errors,
        )
    };
    match of.atom().shape(Some(value)) {
        Shape::Scalar(scalar) => match (scalar, value) {
            (Scalar::Numeric | Scalar::Any, Value::Number(_))
            | (Scalar::String | Scalar::Any, Value::String(_))
            | (Scalar::Boolean | Scalar::Any, Value::Bool(_)) => {}
            (Scalar::Numeric, _) => expected("numeric (int or float)"),
            (Scalar::String, _) => expected("string"),
            (Scalar::Boolean, _) => expected("boolean"),
            (Scalar::Any, _) => expected("any scalar"),
        },
        Shape::List(list) => {
            let Value::Array(items) = value else {
                return expected("list");
            };
            let mut seen = BTreeSet::new();
            for (number, item) in items.iter().enumerate() {
                let step = if list.relation == Items::Atomic {
                    Element::Index(i64::try_from(number).unwrap_or(i64::MAX))
                } else {
                    match element(list, item) {
                        Ok(step) => step,
                        Err(why) => {
                            return wrong(path, &format!("element {number}: {why}"), errors);
                        }
                    }
                };
                if !seen.insert(step.clone()) {
                    wrong(path, &format!("duplicate entries for key {step}"), errors);
                }
                path.push(step);
                check(&list.items, item, path, errors);
                path.pop();
            }
        }
        Shape::Map(map) => {
            let Value::Object(members) = value else {
                return expected("map");
            };
            for (name, member) in members {
                path.push(Element::field(name));
                if map.fields.contains_key(name) || map.rest.is_some() {
                    check(map.member(name), member, path, errors);
                } else {
                    wrong(path, "field not declared in schema", errors);
                }
                path.pop();
            }
        }
    }
}

/// Every leaf and item of a value.
pub(crate) fn fields(of: &Ref, value: &Value) -> Set {
    let mut set = Set::default();
    collect(of, value, &mut Vec::new(), &mut set);
    set
}

fn collect(of: &Ref, value: &Value, path: &mut Vec<Element>, set: &mut Set) {
    match of.atom().shape(Some(value)) {
        Shape::Scalar(_) => set.insert(path),
        Shape::List(list) if list.relation == Items::Atomic => set.insert(path),
        Shape::Map(map) if map.atomic => set.insert(path),
        Shape::List(list) => {
            let found = items(Some(value)).iter();
            let found: Vec<(Element, &Value)> = found
                .filter_map(|item| Some((element(list, item).ok()?, item)))
                .collect();
            let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
            for (step, _) in &found {
                if !seen.insert(step) {
                    twice.insert(step);
                }
            }
            for (step, item) in &found {
                path.push(step.clone());
                set.insert(path);
                // Of items that are there twice, each as a whole.
                if !twice.contains(step) {
                    collect(&list.items, item, path, set);
                }
                path.pop();
            }
        }
        Shape::Map(map) => {
            for (name, member) in value.as_object().into_iter().flatten() {
                path.push(Element::field(name));
                collect(map.member(name), member, path, set);
                let empty = member.is_null() || member.as_object().is_some_and(|it| it.is_empty());
                if empty || !map.fields.contains_key(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

//! Sets of fields: which paths of an object somebody owns.
//!
//! A tree by path elements; a node may be in the set itself, and have nodes below. No node is
//! without either, so equal sets are equal trees. FieldsV1 is its JSON: `{}` below an element says
//! that the element is in the set, `.` says so where there is more below.

use super::element::{BadElement, Element};
use super::types::{Atom, Ref};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(BTreeMap<Element, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// Whether the path that ends here is in the set.
    member: bool,
    below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// Why a value is no FieldsV1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSet {
    /// A member's name is no path element.
    #[error(transparent)]
    Element(#[from] BadElement),
    /// A member's value is no object.
    #[error("expected an object below {0:?}")]
    NoObject(String),
}

impl Set {
    /// From paths of members of objects, as the constants of this module's users have them.
    pub(crate) fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a path; the empty one, the whole object, is nobody's.
    pub(crate) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        // Most paths lead to what is there already: no copy of the element for those.
        if !self.0.contains_key(first) {
            self.0.insert(first.clone(), Node::default());
        }
        if let Some(node) = self.0.get_mut(first) {
            if rest.is_empty() {
                node.member = true;
            } else {
                node.below.insert(rest);
            }
        }
    }

    /// Whether an element is in the set itself.
    pub(crate) fn has_element(&self, element: &Element) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// What the set has below an element.
    pub(crate) fn below(&self, element: &Element) -> Option<&Self> {
        let below = &self.0.get(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    pub(crate) fn union(mut self, other: &Self) -> Self {
        self.extend(other);
        self
    }

    fn extend(&mut self, other: &Self) {
        for (element, theirs) in &other.0 {
            match self.0.entry(element.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(theirs.clone())),
                Entry::Occupied(mut entry) => {
                    let ours = entry.get_mut();
                    ours.member |= theirs.member;
                    ours.below.extend(&theirs.below);
                }
            }
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(element, ours)| {
            let theirs = other.0.get(element)?;
            let node = Node {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            };
            (!node.is_empty()).then(|| (element.clone(), node))
        });
        Self(both.collect())
    }

    /// Without the paths of another set; what is below them stays.
    pub(crate) fn difference(mut self, other: &Self) -> Self {
        self.remove(other);
        self
    }

    fn remove(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.0.retain(|element, ours| {
            if let Some(theirs) = other.0.get(element) {
                ours.member &= !theirs.member;
                ours.below.remove(&theirs.below);
            }
            !ours.is_empty()
        });
    }

    /// Without the paths of another set and everything below them.
    pub(crate) fn recursive_difference(mut self, other: &Self) -> Self {
        self.remove_all(other);
        self
    }

    fn remove_all(&mut self, other: &Self) {
        self.0.retain(|element, ours| {
            if let Some(theirs) = other.0.get(element) {
                if theirs.member {
                    return false;
                }
                ours.below.remove_all(&theirs.below);
            }
            !ours.is_empty()
        });
    }

    /// With the declared fields on the way to its paths, which are no members by themselves.
    pub(crate) fn with_named_fields(&self, of: &Ref) -> Self {
        let atom = of.atom();
        let nodes = self.0.iter().map(|(element, node)| {
            let (named, next) = named(atom, element);
            let node = Node {
                member: node.member || (named && !node.below.is_empty()),
                below: match next {
                    Some(next) => node.below.with_named_fields(next),
                    None => node.below.clone(),
                },
            };
            (element.clone(), node)
        });
        Self(nodes.collect())
    }

    /// Calls `visit` with every path, those of a level before those below it.
    pub(crate) fn each(&self, path: &mut Vec<Element>, visit: &mut impl FnMut(&[Element])) {
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            path.push(element.clone());
            visit(path);
            path.pop();
        }
        for (element, node) in self.0.iter().filter(|(_, node)| !node.below.is_empty()) {
            path.push(element.clone());
            node.below.each(path, visit);
            path.pop();
        }
    }

    /// The elements of the first level: (element, whether it is a member, what is below).
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Element, bool, &Self)> {
        self.0
            .iter()
            .map(|(element, node)| (element, node.member, &node.below))
    }

    /// As FieldsV1.
    pub(crate) fn encode(&self) -> Value {
        let mut members = Map::new();
        for (element, node) in &self.0 {
            let mut below = node.below.encode();
            if node.member && !node.below.is_empty() {
                below["."] = json!({});
            }
            members.insert(element.text(), below);
        }
        Value::Object(members)
    }

    /// From FieldsV1; elements of unknown forms are left out.
    pub(crate) fn decode(fields: &Value) -> Result<Self, BadSet> {
        Ok(decode(fields, "fieldsV1")?.below)
    }
}

/// What stands below one element.
fn decode(fields: &Value, name: &str) -> Result<Node, BadSet> {
    let mut found = Node::default();
    let nothing = Map::new();
    let members = match fields {
        Value::Null => &nothing,
        Value::Object(members) => members,
        _ => return Err(BadSet::NoObject(name.to_owned())),
    };
    for (name, fields) in members {
        if name == "." {
            found.member = true;
            continue;
        }
        match Element::parse(name) {
            Err(BadElement::Unknown) => {}
            Err(malformed) => return Err(malformed.into()),
            Ok(element) => {
                let node = decode(fields, name)?;
                found.below.0.insert(element, node);
            }
        }
    }
    found.member |= found.below.is_empty();
    Ok(found)
}

/// Whether an element is a declared field, and the type of what is there.
fn named<'a>(atom: &'a Atom, element: &Element) -> (bool, Option<&'a Ref>) {
    match (element, &atom.map, &atom.list) {
        (Element::Field(name), Some(map), _) => match map.fields.get(name) {
            Some(field) => (true, Some(&field.of)),
            None => (false, map.rest.as_ref()),
        },
        (Element::Key(_), _, Some(list)) => (false, Some(&list.items)),
        _ => (false, None),
    }
}

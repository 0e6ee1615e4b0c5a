//! Sets of fields: which paths of an object somebody owns.
//!
//! A tree by path elements; a node may be in the set itself, and have nodes below. No node is
//! without either, so equal sets are equal trees. FieldsV1 is its JSON: `{}` below an element says
//! that the element is in the set, `.` says so where there is more below.

use super::element::{BadElement, Element};
use super::types::{Atom, Ref};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// A set of paths: the first elements in order, each with what is below it. Sets are made and merged
/// from beginning to end, and most are small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(Vec<(Element, Node)>);

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

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(element))
    }

    fn get(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.0[at].1)
    }

    /// Adds a path; the empty one, the whole object, is nobody's.
    pub(crate) fn insert(&mut self, path: &[Element]) {
        self.graft(path, Self::default());
    }

    /// Adds a path and what is below it, of which there was nothing.
    pub(crate) fn graft(&mut self, path: &[Element], below: Self) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = self.find(first).unwrap_or_else(|at| {
            // Most paths lead to what is there already: no copy of the element for those.
            self.0.insert(at, (first.clone(), Node::default()));
            at
        });
        let node = &mut self.0[at].1;
        if !rest.is_empty() {
            node.below.graft(rest, below);
        } else {
            node.member = true;
            node.below.extend(below);
        }
    }

    /// Of members in any order, each once, and what is below them.
    pub(crate) fn of_members(mut members: Vec<(Element, Self)>) -> Self {
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let nodes = members.into_iter().map(|(element, below)| {
            let node = Node {
                member: true,
                below,
            };
            (element, node)
        });
        Self(nodes.collect())
    }

    /// Whether an element is in the set itself.
    pub(crate) fn has_element(&self, element: &Element) -> bool {
        self.get(element).is_some_and(|node| node.member)
    }

    /// What the set has below an element.
    pub(crate) fn below(&self, element: &Element) -> Option<&Self> {
        let below = &self.get(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    pub(crate) fn union(mut self, other: Self) -> Self {
        self.extend(other);
        self
    }

    fn extend(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        if other.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + other.0.len());
        let mut ours = std::mem::take(&mut self.0).into_iter().peekable();
        for (element, theirs) in other.0 {
            while let Some(before) = ours.next_if(|(known, _)| *known < element) {
                merged.push(before);
            }
            match ours.next_if(|(known, _)| *known == element) {
                None => merged.push((element, theirs)),
                Some((element, mut node)) => {
                    node.member |= theirs.member;
                    node.below.extend(theirs.below);
                    merged.push((element, node));
                }
            }
        }
        merged.extend(ours);
        self.0 = merged;
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut theirs = other.0.as_slice();
        let both = self.0.iter().filter_map(|(element, ours)| {
            let theirs = seek(&mut theirs, element)?;
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
        let mut theirs = other.0.as_slice();
        self.0.retain_mut(|(element, ours)| {
            if let Some(theirs) = seek(&mut theirs, element) {
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
        if other.is_empty() {
            return;
        }
        let mut theirs = other.0.as_slice();
        self.0.retain_mut(|(element, ours)| {
            if let Some(theirs) = seek(&mut theirs, element) {
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

/// Goes on to an element; elements are asked for in order.
fn seek<'a>(nodes: &mut &'a [(Element, Node)], element: &Element) -> Option<&'a Node> {
    while let [(known, node), rest @ ..] = *nodes {
        match known.cmp(element) {
            Ordering::Less => *nodes = rest,
            Ordering::Equal => return Some(node),
            Ordering::Greater => break,
        }
    }
    None
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
                match found.below.find(&element) {
                    // Two forms of one element: the later one counts.
                    Ok(at) => found.below.0[at].1 = node,
                    Err(at) => found.below.0.insert(at, (element, node)),
                }
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

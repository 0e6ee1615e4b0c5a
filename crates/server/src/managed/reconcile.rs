//! Field sets written under an earlier schema, brought to the present one.
//!
//! A container that has become one value is owned as a whole by whoever owned something in it. The
//! other way round nothing is done: who owned the whole owns it still.

use super::element::Element;
use super::set::Set;
use super::types::{Items, Ref};

/// The set as the present schema would have it; None when it is that already.
pub(crate) fn reconcile(of: &Ref, fields: &Set) -> Option<Set> {
    let mut whole = Set::default();
    visit(of, fields, &mut Vec::new(), &mut whole);
    (!whole.is_empty()).then(|| fields.clone().recursive_difference(&whole).union(whole))
}

fn visit(of: &Ref, fields: &Set, path: &mut Vec<Element>, whole: &mut Set) {
    for (step, _, below) in fields.nodes() {
        let atom = of.atom();
        let next = match step {
            Element::Field(name) => atom.map.as_ref().and_then(|map| {
                map.fields
                    .get(name)
                    .map(|field| &field.of)
                    .or(map.rest.as_ref())
            }),
            _ => atom.list.as_ref().map(|list| &list.items),
        };
        let Some(next @ Ref::Declared(atom)) = next else {
            continue;
        };
        path.push(step.clone());
        if !below.is_empty() {
            let atomic = match (&atom.map, &atom.list) {
                (Some(map), _) => map.atomic,
                (None, Some(list)) => list.relation == Items::Atomic,
                (None, None) => false,
            };
            if atomic {
                whole.insert(path);
            } else {
                visit(next, below, path, whole);
            }
        }
        path.pop();
    }
}

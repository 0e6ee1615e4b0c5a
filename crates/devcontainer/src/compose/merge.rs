//! Merging of Compose files: the specification's rules over trees in the long form.
//!
//! Mappings are merged name by name, lists are appended, everything else is replaced. What differs:
//! commands and a check's test are replaced whole; volumes, secrets, configs and ports are unique
//! by what they name; `!reset` takes away, `!override` replaces.

use super::yaml::{Node, Tag, Value};

/// What is in `over` added to `base`. `path` says where, for the rules that depend on it.
pub(super) fn merge(path: &[&str], base: &mut Node, over: Node) {
    match over.tag {
        Some(Tag::Reset) => {
            base.value = Value::Null;
            base.place = over.place;
            base.tag = Some(Tag::Reset);
            return;
        }
        Some(Tag::Override) => {
            *base = over;
            return;
        }
        None => {}
    }
    match (&mut base.value, over.value) {
        (Value::Map(entries), Value::Map(more)) => {
            for entry in more {
                match entries.iter_mut().find(|there| there.key == entry.key) {
                    Some(there) => {
                        let mut below = path.to_vec();
                        below.push(&entry.key);
                        merge(&below, &mut there.node, entry.node);
                    }
                    None => entries.push(entry),
                }
            }
        }
        (Value::List(items), Value::List(more)) if !whole(path) => {
            for item in more {
                let same = unique(path, &item)
                    .and_then(|key| {
                        items
                            .iter()
                            .position(|there| unique(path, there).as_ref() == Some(&key))
                    })
                    .or_else(|| items.iter().position(|there| *there == item));
                match same {
                    Some(at) if matches!(item.value, Value::Map(_)) => {
                        let mut below = path.to_vec();
                        below.push("*");
                        // A mount of another kind takes nothing over.
                        if items[at].get("type") == item.get("type") {
                            merge(&below, &mut items[at], item);
                        } else {
                            items[at] = item;
                        }
                    }
                    Some(at) => items[at] = item,
                    None => items.push(item),
                }
            }
        }
        // Nothing said takes nothing away.
        (_, Value::Null) if path.len() < 4 => {}
        (_, value) => {
            base.value = value;
            base.place = over.place;
            base.tag = None;
        }
    }
}

/// Lists that are one value.
fn whole(path: &[&str]) -> bool {
    matches!(
        path,
        ["services", _, "command" | "entrypoint"] | ["services", _, "healthcheck", "test"]
    )
}

/// What an item of a list is known by.
fn unique(path: &[&str], item: &Node) -> Option<String> {
    let part = |name: &str| item.get(name).and_then(Node::scalar);
    match path {
        ["services", _, "volumes"] => part("target"),
        ["services", _, "secrets" | "configs"] => part("target").or_else(|| part("source")),
        ["services", _, "ports"] => match &item.value {
            Value::Map(_) => Some(
                ["host_ip", "published", "target", "protocol"]
                    .map(|name| part(name).unwrap_or_default())
                    .join(":"),
            ),
            _ => item.scalar(),
        },
        ["services", _, "env_file"] => part("path"),
        _ => None,
    }
}

/// Takes out what `!reset` left, and the tags that have done their work.
pub(super) fn settle(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|entry| entry.node.tag != Some(Tag::Reset));
            for entry in entries {
                settle(&mut entry.node);
            }
        }
        Value::List(items) => {
            items.retain(|item| item.tag != Some(Tag::Reset));
            items.iter_mut().for_each(settle);
        }
        _ => {}
    }
    node.tag = None;
}

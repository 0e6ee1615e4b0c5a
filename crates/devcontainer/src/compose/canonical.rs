//! One file's services in the long form, with absolute paths, before anything is merged.
//!
//! Compose has a short and a long form for most things. Merging, extending and reading are simple
//! when there is only the long one: lists of `NAME=value` become mappings, a build's string its
//! context, a volume's string its parts. Paths are made absolute here, because only here it is
//! known which file wrote them.

use super::yaml::{Entry, Node, Place, Sources, Value};
use crate::error::{Error, ErrorKind};

/// What paths of a file stand relative to.
pub(super) struct Base<'a> {
    pub(super) sources: &'a Sources,
    pub(super) directory: &'a str,
    /// For `~`.
    pub(super) home: Option<&'a str>,
}

impl Base<'_> {
    pub(super) fn invalid(&self, path: &str, node: &Node, reason: &str) -> Error {
        let kind = ErrorKind::Invalid {
            path: crate::config::shown(path),
            reason: reason.to_owned(),
        };
        self.sources.error(node.place, kind)
    }

    pub(super) fn wrong(&self, path: &str, node: &Node, expected: &str) -> Error {
        let kind = ErrorKind::WrongType {
            path: crate::config::shown(path),
            expected: expected.to_owned(),
            found: node.kind().to_owned(),
        };
        self.sources.error(node.place, kind)
    }

    /// A path of the host, absolute.
    pub(super) fn path(&self, text: &str) -> String {
        let joined = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", self.home.unwrap_or("/root"))
            }
            _ if text.starts_with('/') => text.to_owned(),
            _ => format!("{}/{text}", self.directory),
        };
        crate::mounts::absolute(&joined).unwrap_or_else(|| "/".to_owned())
    }

    /// The long form of one service.
    pub(super) fn service(&self, path: &str, node: &mut Node) -> Result<(), Error> {
        let Value::Map(entries) = &mut node.value else {
            return if node.is_null() {
                node.value = Value::Map(Vec::new());
                Ok(())
            } else {
                Err(self.wrong(path, node, "a mapping"))
            };
        };
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            let node = &mut entry.node;
            if node.is_null() {
                continue;
            }
            match entry.key.as_str() {
                "environment" | "labels" | "annotations" | "sysctls" => {
                    self.pairs(&path, node, &['='])?
                }
                "extra_hosts" => self.pairs(&path, node, &['=', ':'])?,
                "build" => self.build(&path, node)?,
                "env_file" => {
                    listed(node);
                    self.each(&path, node, |path, item| self.env_file(path, item))?;
                }
                "depends_on" => self.named(&path, node, || {
                    vec![("condition", Value::Text("service_started".to_owned()))]
                })?,
                "networks" => self.named(&path, node, Vec::new)?,
                "volumes" => self.each(&path, node, |path, item| self.volume(path, item))?,
                "secrets" | "configs" => {
                    self.each(&path, node, |_, item| {
                        if let Some(name) = item.scalar() {
                            *item = map(item.place, [("source", Value::Text(name))]);
                        }
                        Ok(())
                    })?;
                }
                "tmpfs" | "dns" | "dns_search" | "dns_opt" | "expose" | "label_file" => {
                    listed(node);
                }
                "extends" => {
                    if let Some(name) = node.scalar() {
                        *node = map(node.place, [("service", Value::Text(name))]);
                    }
                    if let Some(file) = node.get_mut("file")
                        && let Some(text) = file.scalar()
                    {
                        file.value = Value::Text(self.path(&text));
                    }
                }
                "ulimits" => {
                    if let Value::Map(limits) = &mut node.value {
                        for limit in limits {
                            if let Some(both) = limit.node.scalar() {
                                let place = limit.node.place;
                                let both = Value::Number(both);
                                limit.node = map(place, [("soft", both.clone()), ("hard", both)]);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The long form of a top-level secret or config.
    pub(super) fn given_file(&self, node: &mut Node) {
        if let Some(file) = node.get_mut("file")
            && let Some(text) = file.scalar()
        {
            file.value = Value::Text(self.path(&text));
        }
    }

    fn each(
        &self,
        path: &str,
        node: &mut Node,
        one: impl Fn(&str, &mut Node) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match &mut node.value {
            Value::List(items) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(at, item)| one(&format!("{path}[{at}]"), item)),
            _ => Err(self.wrong(path, node, "a list")),
        }
    }

    /// A list of `NAME=value` as a mapping; a name alone has null.
    fn pairs(&self, path: &str, node: &mut Node, separators: &[char]) -> Result<(), Error> {
        let Value::List(items) = &node.value else {
            return match node.value {
                Value::Map(_) => Ok(()),
                _ => Err(self.wrong(path, node, "a mapping, or a list of NAME=value")),
            };
        };
        let mut made = Node::new(node.place, Value::Map(Vec::new()));
        made.tag = node.tag;
        for (at, item) in items.iter().enumerate() {
            let Some(text) = item.scalar() else {
                return Err(self.wrong(&format!("{path}[{at}]"), item, "a string NAME=value"));
            };
            let (name, value) = match text.find(separators) {
                Some(at) => (
                    text[..at].to_owned(),
                    Value::Text(text[at + 1..].to_owned()),
                ),
                None => (text, Value::Null),
            };
            made.set(&name, Node::new(item.place, value));
        }
        *node = made;
        Ok(())
    }

    /// A list of names as a mapping with the same value for each.
    fn named(
        &self,
        path: &str,
        node: &mut Node,
        value: impl Fn() -> Vec<(&'static str, Value)>,
    ) -> Result<(), Error> {
        let Value::List(items) = &node.value else {
            return match node.value {
                Value::Map(_) => Ok(()),
                _ => Err(self.wrong(path, node, "a list of names, or a mapping")),
            };
        };
        let mut made = Node::new(node.place, Value::Map(Vec::new()));
        made.tag = node.tag;
        for (at, item) in items.iter().enumerate() {
            let Some(name) = item.scalar() else {
                return Err(self.wrong(&format!("{path}[{at}]"), item, "a name"));
            };
            let values = value();
            let node = if values.is_empty() {
                Node::new(item.place, Value::Null)
            } else {
                map(item.place, values)
            };
            made.set(&name, node);
        }
        *node = made;
        Ok(())
    }

    fn build(&self, path: &str, node: &mut Node) -> Result<(), Error> {
        if let Some(context) = node.scalar() {
            *node = map(node.place, [("context", Value::Text(context))]);
        }
        let Value::Map(entries) = &mut node.value else {
            return Err(self.wrong(path, node, "a path, or a mapping"));
        };
        for entry in entries {
            let path = format!("{path}.{}", entry.key);
            match entry.key.as_str() {
                "context" => {
                    if let Some(text) = entry.node.scalar()
                        && !remote(&text)
                    {
                        entry.node.value = Value::Text(self.path(&text));
                    }
                }
                "args" | "labels" if !entry.node.is_null() => {
                    self.pairs(&path, &mut entry.node, &['='])?
                }
                "additional_contexts" if !entry.node.is_null() => {
                    self.pairs(&path, &mut entry.node, &['='])?;
                    if let Value::Map(contexts) = &mut entry.node.value {
                        for context in contexts {
                            if let Some(text) = context.node.scalar()
                                && !remote(&text)
                                && !text.starts_with("docker-image://")
                                && !text.starts_with("service:")
                            {
                                context.node.value = Value::Text(self.path(&text));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn env_file(&self, path: &str, node: &mut Node) -> Result<(), Error> {
        if let Some(file) = node.scalar() {
            *node = map(node.place, [("path", Value::Text(file))]);
        }
        match node.get_mut("path").map(|file| (file.scalar(), file)) {
            Some((Some(text), file)) => {
                file.value = Value::Text(self.path(&text));
                Ok(())
            }
            _ => Err(self.wrong(path, node, "a path, or a mapping with a path")),
        }
    }

    /// `[SOURCE:]TARGET[:OPTIONS]`, or the long form.
    fn volume(&self, path: &str, node: &mut Node) -> Result<(), Error> {
        if let Some(text) = node.scalar() {
            let parts: Vec<&str> = text.split(':').collect();
            let (source, target, options) = match parts.as_slice() {
                [target] => (None, *target, ""),
                [source, target] => (Some(*source), *target, ""),
                [source, target, options] => (Some(*source), *target, *options),
                _ => {
                    let what = "has too many colons; write SOURCE:TARGET or SOURCE:TARGET:ro";
                    return Err(self.invalid(path, node, what));
                }
            };
            let bind = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
            let kind = if bind { "bind" } else { "volume" };
            let mut made = map(node.place, [("type", Value::Text(kind.to_owned()))]);
            if let Some(source) = source {
                made.set("source", Node::text(node.place, source));
            }
            made.set("target", Node::text(node.place, target));
            for option in options.split(',').filter(|option| !option.is_empty()) {
                match option {
                    "ro" => made.set("read_only", Node::new(node.place, Value::Bool(true))),
                    "nocopy" if !bind => {
                        let nocopy = map(node.place, [("nocopy", Value::Bool(true))]);
                        made.set("volume", nocopy);
                    }
                    // Labels and caching hints of other engines have nothing to act on.
                    "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate"
                    | "private" | "nocopy" => {}
                    other => {
                        let what = format!(
                            "has the option {other:?}, which is not supported; use ro or rw"
                        );
                        return Err(self.invalid(path, node, &what));
                    }
                }
            }
            *node = made;
        }
        let bind = node
            .get("type")
            .and_then(Node::scalar)
            .is_some_and(|kind| kind == "bind");
        if bind
            && let Some(source) = node.get_mut("source")
            && let Some(text) = source.scalar()
        {
            source.value = Value::Text(self.path(&text));
        }
        Ok(())
    }
}

/// A context that is no path.
pub(super) fn remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

/// A scalar as a list of one.
fn listed(node: &mut Node) {
    if let Value::List(_) | Value::Null = node.value {
        return;
    }
    let tag = node.tag.take();
    let item = std::mem::replace(node, Node::new(node.place, Value::Null));
    *node = Node {
        place: item.place,
        tag,
        value: Value::List(vec![item]),
    };
}

fn map(place: Place, entries: impl IntoIterator<Item = (&'static str, Value)>) -> Node {
    let entries = entries.into_iter().map(|(key, value)| Entry {
        key: key.to_owned(),
        key_place: place,
        node: Node::new(place, value),
    });
    Node::new(place, Value::Map(entries.collect()))
}

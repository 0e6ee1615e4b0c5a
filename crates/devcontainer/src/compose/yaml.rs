//! YAML as a tree whose every node knows its file and place.
//!
//! The core schema's types, anchors, aliases and merge keys (`<<`); of tags only Compose's own
//! `!reset` and `!override` and the core schema's. Aliases are copied, and what a file grows to is
//! counted before each copy, so that no file is more than [`NODES_LIMIT`] nodes. What a scalar may
//! be is the reader's business: `${X}` may stand for a number.

use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};
use crate::{DEPTH_LIMIT, TEXT_LIMIT};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag as YamlTag};
use std::collections::{BTreeMap, BTreeSet};

/// Most nodes a file may grow to.
const NODES_LIMIT: usize = 20_000;

/// A place in one of a project's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number in [`Sources`].
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// What a tag asks of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `!reset`: as if never written.
    Reset,
    /// `!override`: in place of what was there.
    Override,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) tag: Option<Tag>,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a mapping; names are unique.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

/// Equal when the same would be read; places do not matter.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value && self.tag == other.tag
    }
}

/// The texts of a project, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    pub(crate) fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    pub(crate) fn error(&self, place: Place, kind: ErrorKind) -> Error {
        match self.0.get(place.file) {
            Some(source) => Error::new(source, place.span, kind),
            None => Error::new(&Source::new("compose", ""), Span::default(), kind),
        }
    }

    /// `FILE:LINE:COLUMN`, for notes.
    pub(crate) fn named(&self, place: Place) -> String {
        let source = self.0.get(place.file);
        source.map_or_else(String::new, |source| source.locate(place.span).to_string())
    }
}

impl Node {
    pub(crate) fn new(place: Place, value: Value) -> Node {
        Node {
            place,
            tag: None,
            value,
        }
    }

    pub(crate) fn text(place: Place, text: impl Into<String>) -> Node {
        Node::new(place, Value::Text(text.into()))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries
                .iter_mut()
                .find(|entry| entry.key == key)
                .map(|entry| &mut entry.node),
            _ => None,
        }
    }

    /// Sets an entry of a mapping.
    pub(crate) fn set(&mut self, key: &str, node: Node) {
        if let Value::Map(entries) = &mut self.value {
            match entries.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.node = node,
                None => entries.push(Entry {
                    key: key.to_owned(),
                    key_place: node.place,
                    node,
                }),
            }
        }
    }

    /// Takes an entry out of a mapping.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        match &mut self.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at).node)
            }
            _ => None,
        }
    }

    /// A scalar as it is written; None for null, lists and mappings.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The type with its article, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum(),
            _ => 0,
        }
    }
}

/// Parses a file that holds one document; an empty one is null.
pub(crate) fn parse(sources: &mut Sources, name: &str, text: &str) -> Result<Node, Error> {
    let source = Source::new(name, text);
    let file = sources.add(source.clone());
    if text.len() > TEXT_LIMIT {
        let what = format!(
            "this file has {} bytes; a Compose file has at most {TEXT_LIMIT}",
            text.len()
        );
        return Err(Error::new(
            &source,
            Span::default(),
            ErrorKind::Bounds(what),
        ));
    }
    let mut builder = Builder {
        source: &source,
        file,
        offsets: offsets(text),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = builder.offset(error.marker());
            let span = Span {
                start: at,
                end: at + 1,
            };
            Error::new(&source, span, ErrorKind::Yaml(error.info().to_owned()))
        })?;
        builder.take(event, span)?;
    }
    let whole = Place {
        file,
        span: Span::default(),
    };
    Ok(builder
        .root
        .unwrap_or_else(|| Node::new(whole, Value::Null)))
}

/// Byte offset of each character, for texts where they differ.
fn offsets(text: &str) -> Option<Vec<usize>> {
    (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect())
}

/// A list or mapping being read.
struct Open {
    anchor: usize,
    start: usize,
    tag: Option<Tag>,
    value: Half,
}

enum Half {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        merged: Vec<Node>,
        key: Option<(String, Place)>,
        names: BTreeSet<String>,
    },
}

struct Builder<'a> {
    source: &'a Source,
    file: usize,
    offsets: Option<Vec<usize>>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn offset(&self, marker: &Marker) -> usize {
        let end = self.source.text.len();
        match &self.offsets {
            None => marker.index().min(end),
            Some(offsets) => offsets.get(marker.index()).copied().unwrap_or(end),
        }
    }

    fn place(&self, span: saphyr_parser::Span) -> Place {
        Place {
            file: self.file,
            span: Span {
                start: self.offset(&span.start),
                end: self.offset(&span.end),
            },
        }
    }

    fn error(&self, place: Place, kind: ErrorKind) -> Error {
        Error::new(self.source, place.span, kind)
    }

    fn tag(&self, place: Place, tag: Option<&YamlTag>) -> Result<Option<Tag>, Error> {
        match tag {
            None => Ok(None),
            Some(tag) if tag.is_yaml_core_schema() => Ok(None),
            Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Ok(Some(Tag::Reset)),
            Some(tag) if tag.handle == "!" && tag.suffix == "override" => Ok(Some(Tag::Override)),
            Some(tag) => {
                let what =
                    format!("the tag {tag} is none of Compose's, which are !reset and !override");
                Err(self.error(place, ErrorKind::Yaml(what)))
            }
        }
    }

    fn grow(&mut self, place: Place, nodes: usize) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_LIMIT {
            let what = format!("with its aliases this file is more than {NODES_LIMIT} values");
            return Err(self.error(place, ErrorKind::Bounds(what)));
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Result<(), Error> {
        let place = self.place(span);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let what = "a Compose file is one document; the second begins here".to_owned();
                Err(self.error(place, ErrorKind::Yaml(what)))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    let what = "this alias stands inside of what it names".to_owned();
                    return Err(self.error(place, ErrorKind::Yaml(what)));
                };
                let (node, size) = (node.clone(), *size);
                self.grow(place, size)?;
                self.put(node, place)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let as_text = style != ScalarStyle::Plain
                    || tag
                        .as_deref()
                        .is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let tag = self.tag(place, tag.as_deref())?;
                let value = if as_text {
                    Value::Text(text.into_owned())
                } else {
                    plain(&text)
                };
                self.grow(place, 1)?;
                let node = Node { place, tag, value };
                if anchor > 0 {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.put(node, place)
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = self.tag(place, tag.as_deref())?;
                self.enter(anchor, tag, place, Half::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let tag = self.tag(place, tag.as_deref())?;
                let half = Half::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                    names: BTreeSet::new(),
                };
                self.enter(anchor, tag, place, half)
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(place),
        }
    }

    fn enter(
        &mut self,
        anchor: usize,
        tag: Option<Tag>,
        place: Place,
        value: Half,
    ) -> Result<(), Error> {
        if self.open.len() >= DEPTH_LIMIT {
            let what =
                format!("lists and mappings are nested deeper than {DEPTH_LIMIT} levels here");
            return Err(self.error(place, ErrorKind::Bounds(what)));
        }
        self.grow(place, 1)?;
        self.open.push(Open {
            anchor,
            start: place.span.start,
            tag,
            value,
        });
        Ok(())
    }

    fn leave(&mut self, end: Place) -> Result<(), Error> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let place = Place {
            file: self.file,
            span: Span {
                start: open.start,
                end: end.span.start.max(open.start + 1),
            },
        };
        let value = match open.value {
            Half::List(items) => Value::List(items),
            Half::Map {
                mut entries,
                merged,
                ..
            } => {
                for node in merged {
                    self.merge(&mut entries, node)?;
                }
                Value::Map(entries)
            }
        };
        let node = Node {
            place,
            tag: open.tag,
            value,
        };
        if open.anchor > 0 {
            let size = node.size();
            self.grow(place, size)?;
            self.anchors.insert(open.anchor, (node.clone(), size));
        }
        self.put(node, place)
    }

    /// `<<`: what is not there yet is taken over, the first of a list first.
    fn merge(&self, entries: &mut Vec<Entry>, node: Node) -> Result<(), Error> {
        match node.value {
            Value::Map(more) => {
                for entry in more {
                    if !entries.iter().any(|there| there.key == entry.key) {
                        entries.push(entry);
                    }
                }
                Ok(())
            }
            Value::List(items) => items
                .into_iter()
                .try_for_each(|item| self.merge(entries, item)),
            Value::Null => Ok(()),
            _ => {
                let what = "<< takes a mapping, or a list of mappings".to_owned();
                Err(self.error(node.place, ErrorKind::Yaml(what)))
            }
        }
    }

    fn put(&mut self, node: Node, place: Place) -> Result<(), Error> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.value {
            Half::List(items) => items.push(node),
            Half::Map {
                entries,
                merged,
                key,
                names,
            } => match key.take() {
                None => match node.scalar().or_else(|| node.is_null().then(String::new)) {
                    Some(name) => *key = Some((name, place)),
                    None => {
                        let what = "the name of an entry is a plain word or a string".to_owned();
                        return Err(self.error(place, ErrorKind::Yaml(what)));
                    }
                },
                Some((name, _)) if name == "<<" => merged.push(node),
                Some((name, key_place)) => {
                    if !names.insert(name.clone()) {
                        let what = format!("{:?} is given twice here", crate::config::shown(&name));
                        return Err(self.error(key_place, ErrorKind::Yaml(what)));
                    }
                    entries.push(Entry {
                        key: name,
                        key_place,
                        node,
                    });
                }
            },
        }
        Ok(())
    }
}

/// A plain scalar by the core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
                && digits.bytes().all(|byte| {
                    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
                })
                && text.parse::<f64>().is_ok();
            let based = digits.strip_prefix("0x").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
            }) || digits.strip_prefix("0o").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| (b'0'..b'8').contains(&byte))
            });
            if number || based {
                Value::Number(text.to_owned())
            } else {
                Value::Text(text.to_owned())
            }
        }
    }
}

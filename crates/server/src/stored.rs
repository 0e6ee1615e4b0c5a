//! Stored objects on their way to clients, without making trees of them.
//!
//! What is stored lacks one member that clients see, metadata.resourceVersion: it is put between
//! the bytes. What selectors and visibility read of an object is an [`Outline`], a tree of those
//! members alone. An event is written out once for all its watchers ([`Shared`]).
//!
//! It decides nothing: who sees what is `authorize`'s and `resources`'.

use crate::failure::Failure;
use crate::kinds::Kind;
use crate::resources::parse;
use crate::selectors::{Fields, is, lookup};
use boatyard_store::{Event, Facet, Revision, Route, Stored};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Behind the opening brace of the object's own `metadata`, in JSON without white space.
fn inside_metadata(data: &[u8]) -> Option<usize> {
    const MEMBER: &[u8] = b"\"metadata\":{";
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = data.get(at) {
        match byte {
            // At this depth a string before a colon is the name of a member.
            b'"' if depth == 1 && data[at..].starts_with(MEMBER) => return Some(at + MEMBER.len()),
            b'"' => {
                at += 1;
                while *data.get(at)? != b'"' {
                    at += if data[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// A stored object with the resourceVersion of a revision, to be written out.
#[derive(Debug)]
pub(crate) struct Versioned {
    data: Bytes,
    /// Where the version belongs; None when it is there.
    at: Option<usize>,
    revision: Revision,
}

impl Versioned {
    /// # Errors
    /// When what is stored is no object.
    pub(crate) fn new(data: Bytes, revision: Revision) -> Result<Self, Failure> {
        let at = inside_metadata(&data);
        let data = match at {
            Some(_) => data,
            // Not as this server writes objects.
            None => parse(&data, revision)?.to_string().into(),
        };
        Ok(Self { data, at, revision })
    }

    /// Appends it.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let Some(at) = self.at else {
            return into.extend_from_slice(&self.data);
        };
        into.reserve(self.data.len() + 44);
        into.extend_from_slice(&self.data[..at]);
        into.extend_from_slice(b"\"resourceVersion\":\"");
        into.extend_from_slice(self.revision.0.to_string().as_bytes());
        into.push(b'"');
        if self.data.get(at) != Some(&b'}') {
            into.push(b',');
        }
        into.extend_from_slice(&self.data[at..]);
    }
}

/// The parts of a list, written out as its reader takes them: `head` is the list without the member
/// that has the items, `write` appends one.
pub(crate) fn list<T: Send, W: Fn(T, &mut Vec<u8>) + Send>(
    head: &Value,
    member: &str,
    items: Vec<T>,
    write: W,
) -> impl Iterator<Item = Bytes> + Send + use<T, W> {
    let mut head = head.to_string().into_bytes();
    // What closes the list comes after its items.
    head.pop();
    head.extend_from_slice(format!(",\"{member}\":[").as_bytes());
    let mut items = items.into_iter();
    let mut next = Some(head);
    let mut first = true;
    std::iter::from_fn(move || {
        let mut part = next.take()?;
        while part.len() < PART {
            let Some(item) = items.next() else {
                part.extend_from_slice(b"]}");
                return Some(part.into());
            };
            if !first {
                part.push(b',');
            }
            first = false;
            write(item, &mut part);
        }
        next = Some(Vec::with_capacity(PART + PART / 4));
        Some(part.into())
    })
}

/// Bytes of a list written out at once.
const PART: usize = 64 << 10;

/// Which members of objects are read: paths, each with everything below its end.
#[derive(Debug, Default)]
pub(crate) struct Outline(BTreeMap<String, Outline>);

impl Outline {
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut outline = Self::default();
        for path in paths {
            outline.add(path);
        }
        outline
    }

    fn add(&mut self, path: &str) {
        let (member, rest) = path.split_once('.').unwrap_or((path, ""));
        match self.0.get_mut(member) {
            // Everything below is read already.
            Some(below) if below.0.is_empty() => {}
            Some(below) if rest.is_empty() => below.0.clear(),
            Some(below) => below.add(rest),
            None => {
                let mut below = Self::default();
                if !rest.is_empty() {
                    below.add(rest);
                }
                self.0.insert(member.to_owned(), below);
            }
        }
    }

    /// What selectors and visibility read of a kind's objects.
    pub(crate) fn selectable(kind: &Kind) -> Self {
        let always = [
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "metadata.annotations",
        ];
        let seen = kind.behaviour.shows_by().iter().copied();
        let selectable = kind.selectable.iter().map(String::as_str);
        Self::of(always.into_iter().chain(seen).chain(selectable))
    }

    /// Those members of a stored object.
    ///
    /// # Errors
    /// When what is stored is no JSON.
    pub(crate) fn read(&self, data: &[u8]) -> Result<Value, Failure> {
        let mut deserializer = serde_json::Deserializer::from_slice(data);
        self.deserialize(&mut deserializer)
            .map_err(|error| Failure::internal(format!("a stored object is damaged: {error}")))
    }
}

impl Outline {
    /// The same, with the resourceVersion.
    ///
    /// # Errors
    /// When what is stored is no JSON.
    pub(crate) fn object(&self, stored: &Stored) -> Result<Value, Failure> {
        let mut object = self.read(&stored.data)?;
        if object.is_object() {
            object["metadata"]["resourceVersion"] = stored.revision.0.to_string().into();
        }
        Ok(object)
    }
}

impl<'de> DeserializeSeed<'de> for &Outline {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

/// Anything but an object has no members.
impl<'de> Visitor<'de> for &Outline {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(known) = members.next_key_seed(Member(self))? {
            match known {
                Some((name, below)) => {
                    drop(read.insert(name.to_owned(), members.next_value_seed(below)?))
                }
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(read))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The name of a member, if the outline has it.
struct Member<'a>(&'a Outline);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<(&'a str, &'a Outline)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Option<(&'a str, &'a Outline)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let Outline(members) = self.0;
        Ok(members
            .get_key_value(name)
            .map(|(name, below)| (name.as_str(), below)))
    }
}

/// What a watch event says of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Added,
    Modified,
    Deleted,
}

impl Word {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One event as its watchers need it, each part made by the first who asks.
#[derive(Debug)]
pub(crate) struct Shown {
    event: Event,
    outlines: [OnceLock<Value>; 2],
    lines: [OnceLock<Bytes>; 3],
}

impl Shown {
    fn new(event: Event) -> Self {
        Self {
            event,
            outlines: Default::default(),
            lines: Default::default(),
        }
    }

    /// What selectors read of the object.
    pub(crate) fn now(&self, outline: &Outline) -> &Value {
        let read = || outline.read(&self.event.object.data).unwrap_or_default();
        self.outlines[0].get_or_init(read)
    }

    /// What they read of it as it was before, if it was.
    pub(crate) fn before(&self, outline: &Outline) -> Option<&Value> {
        let previous = self.event.previous.as_ref()?;
        let read = || outline.read(previous).unwrap_or_default();
        Some(self.outlines[1].get_or_init(read))
    }

    /// The object as a tree.
    ///
    /// # Errors
    /// When what is stored is no object.
    pub(crate) fn object(&self) -> Result<Value, Failure> {
        parse(&self.event.object.data, self.event.object.revision)
    }

    /// The event with the whole object.
    pub(crate) fn line(&self, word: Word) -> Bytes {
        let made = self.lines[word as usize].get_or_init(|| {
            let object = &self.event.object;
            line(word, &object.data, object.revision).unwrap_or_default()
        });
        made.clone()
    }
}

/// What a watcher of many events asks of each before it looks closer: that a path has a value, now
/// or before. Most events are of others.
pub(crate) struct Sieve {
    shared: Shared,
    outline: Arc<Outline>,
    path: String,
    wanted: String,
}

impl Sieve {
    /// None when a selection demands nothing.
    pub(crate) fn new(fields: &Fields, outline: &Arc<Outline>, shared: &Shared) -> Option<Self> {
        let (path, wanted) = fields.demand()?;
        Some(Self {
            shared: shared.clone(),
            outline: outline.clone(),
            path: path.to_owned(),
            wanted: wanted.to_owned(),
        })
    }

    /// The same for the store, which then does not wake the watcher for most of the others: that of
    /// the objects with a value of its path.
    pub(crate) fn route(&self) -> Route {
        let outline = Outline::of([self.path.as_str()]);
        let path = self.path.clone();
        let read = move |data: &[u8]| match lookup(&outline.read(data).ok()?, &path) {
            Value::Null => Some(number("")),
            Value::String(text) => Some(number(text)),
            other => Some(number(&other.to_string())),
        };
        let facet = Facet {
            name: self.path.as_str().into(),
            read: Arc::new(read),
        };
        let value = number(&self.wanted);
        Route { facet, value }
    }

    pub(crate) fn passes(&self, event: &Event) -> bool {
        let shown = self.shared.shown(event);
        let has = |object: &Value| is(lookup(object, &self.path), &self.wanted);
        has(shown.now(&self.outline)) || shown.before(&self.outline).is_some_and(has)
    }
}

/// Stands for a text in a [`Route`].
fn number(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// An event with the whole object, as a line.
///
/// # Errors
/// When what is stored is no object.
pub(crate) fn line(word: Word, data: &Bytes, revision: Revision) -> Result<Bytes, Failure> {
    let mut line = Vec::with_capacity(data.len() + 96);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(word.text().as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    Versioned::new(data.clone(), revision)?.write(&mut line);
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// Events kept for the watchers that have not come to them yet.
const KEPT: usize = 256;
/// Larger objects are written out for each watcher: what is kept has a bound.
const LARGEST: usize = 32 << 10;

/// The newest events. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Vec<Mutex<Option<Arc<Shown>>>>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new((0..KEPT).map(|_| Mutex::default()).collect()))
    }
}

impl Shared {
    /// The one of an event: what others have made of it, where it is still kept.
    pub(crate) fn shown(&self, event: &Event) -> Arc<Shown> {
        let revision = event.object.revision;
        let slot = usize::try_from(revision.0).unwrap_or_default() % KEPT;
        let mut kept = self.0[slot].lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(shown) if shown.event.object.revision == revision => shown.clone(),
            newest => {
                // Who catches up does not drive out what the others are about to read.
                let newer = newest
                    .as_ref()
                    .is_some_and(|shown| shown.event.object.revision > revision);
                let large = event.object.data.len() > LARGEST;
                let shown = Arc::new(Shown::new(event.clone()));
                if !newer && !large {
                    *kept = Some(shown.clone());
                }
                shown
            }
        }
    }
}

#[cfg(test)]
mod tests;

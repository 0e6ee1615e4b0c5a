//! Whether what clients saw of a store of objects can have happened: a checker of histories.
//!
//! The API gives every change a revision of one counter, and the counter is the order the server
//! claims. So nothing is searched: the claimed order is checked against what clients were told and
//! against real time, which makes the check linear and its verdict exact (strict serializability of
//! all keys together, stronger than linearizability of each). A write whose answer was lost may
//! have happened or not; its value, unique in the history, tells.
//!
//! What must hold:
//! - each change has one revision, one content, and was asked for once;
//! - a write is after everything that had been answered when it was asked for, and before
//!   everything that was asked for after it was answered; a read sees a state of that span;
//! - an update that named a revision replaced exactly that one; a refusal had its reason;
//! - a watcher was shown every change between its start and its end, once, in order, with the
//!   right word;
//! - a list is one state.
//!
//! It runs nothing and knows no HTTP: `tests/histories.rs` records.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;

#[cfg(test)]
mod tests;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new object.
    Create {
        /// Unique in the history.
        value: String,
    },
    /// Another value for an object that is at a revision.
    Update {
        /// The revision.
        expected: u64,
        /// Unique in the history.
        value: String,
    },
    /// That an object goes, whatever its revision.
    Delete,
    /// An object.
    Get,
    /// All objects.
    List,
}

/// What it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The object was written at this revision.
    Written(u64),
    /// The object is gone.
    Deleted,
    /// The object at its revision.
    Read(u64, String),
    /// All objects (key, revision, value) at a revision.
    Listed(u64, Vec<(String, u64, String)>),
    /// There is one already.
    Exists,
    /// There is none.
    NotFound,
    /// It is at another revision.
    Conflict,
    /// Nothing that decides it: the connection broke, the server was going.
    Nothing,
}

/// One call. Times are of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Call {
    /// The object; empty for lists.
    pub key: String,
    /// What for.
    pub asked: Asked,
    /// Before it was sent.
    pub began: u64,
    /// After it was answered.
    pub ended: u64,
    /// The answer.
    pub told: Told,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It came to be.
    Added,
    /// It was changed.
    Modified,
    /// It went.
    Deleted,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// At which revision.
    pub revision: u64,
    /// What.
    pub word: Word,
    /// Of which object.
    pub key: String,
    /// Its value; of a deleted one, its last.
    pub value: String,
}

/// What one watcher was shown.
#[derive(Clone, Debug)]
pub struct Watched {
    /// It asked for what came after this revision.
    pub from: u64,
    /// It was shown everything up to this one: that of its last event or bookmark.
    pub to: u64,
    /// In the order shown, reconnects included.
    pub seen: Vec<Seen>,
}

/// All that clients saw. Each change must lie between what some watcher began after and what it was
/// shown last, except for gaps that all of them listed anew after: nobody may have deleted anything
/// then, and the list must be among the calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In no order.
    pub calls: Vec<Call>,
    /// Each.
    pub watchers: Vec<Watched>,
}

/// Something that cannot have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The versions of one object: at each revision its value, or none when it went.
type Versions<'a> = BTreeMap<u64, Option<&'a str>>;

/// Everything wrong with a history; nothing when it can have happened.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut check = Check::default();
    check.order(history);
    for watcher in &history.watchers {
        check.watcher(watcher);
    }
    check.origins(history);
    check.calls(history);
    check.violations
}

#[derive(Default)]
struct Check<'a> {
    violations: Vec<Violation>,
    /// The claimed order: what the watchers saw together.
    log: BTreeMap<u64, (Word, &'a str, &'a str)>,
    objects: HashMap<&'a str, Versions<'a>>,
}

impl<'a> Check<'a> {
    fn wrong(&mut self, text: impl Into<String>) {
        self.violations.push(Violation(text.into()));
    }

    /// Joins what watchers saw to one log.
    fn order(&mut self, history: &'a History) {
        for seen in history.watchers.iter().flat_map(|watcher| &watcher.seen) {
            let entry = (seen.word, seen.key.as_str(), seen.value.as_str());
            let known = *self.log.entry(seen.revision).or_insert(entry);
            if known != entry {
                self.wrong(format!(
                    "revision {} is {known:?} to one watcher and {entry:?} to another",
                    seen.revision
                ));
            }
        }
        self.gaps(history);
        let log: Vec<_> = self.log.iter().map(|(at, entry)| (*at, *entry)).collect();
        for (revision, (word, key, value)) in log {
            let versions = self.objects.entry(key).or_default();
            let before = versions.last_key_value().and_then(|(_, value)| *value);
            let fits = match word {
                Word::Added => before.is_none(),
                Word::Modified => before.is_some(),
                Word::Deleted => before == Some(value),
            };
            versions.insert(revision, (word != Word::Deleted).then_some(value));
            if !fits {
                self.wrong(format!(
                    "{key} was {word:?} with {value} at {revision} when it was {before:?}"
                ));
            }
        }
    }

    /// Adds what callers know of revisions that no watcher was to be shown. Without deletions that is
    /// everything: a version that nobody read or was told of was there when all was listed anew.
    fn gaps(&mut self, history: &'a History) {
        let mut words = HashMap::new();
        for call in &history.calls {
            match &call.asked {
                Asked::Create { value } => words.insert(value.as_str(), Word::Added),
                Asked::Update { value, .. } => words.insert(value.as_str(), Word::Modified),
                _ => None,
            };
        }
        let mut told = Vec::new();
        for call in &history.calls {
            match (&call.told, &call.asked) {
                (Told::Written(at), Asked::Create { value } | Asked::Update { value, .. })
                | (Told::Read(at, value), _) => {
                    told.push((*at, call.key.as_str(), value.as_str()));
                }
                (Told::Listed(_, items), _) => told.extend(
                    items
                        .iter()
                        .map(|(key, at, value)| (*at, key.as_str(), value.as_str())),
                ),
                _ => {}
            }
        }
        for (at, key, value) in told {
            let followed = |watcher: &Watched| watcher.from < at && at <= watcher.to;
            if history.watchers.iter().any(followed) {
                continue;
            }
            // What nobody wrote is for `origins` to tell.
            let word = words.get(value).copied().unwrap_or(Word::Modified);
            let entry = (word, key, value);
            let known = *self.log.entry(at).or_insert(entry);
            if known != entry {
                self.wrong(format!(
                    "revision {at} is {known:?} to one caller and {entry:?} to another"
                ));
            }
        }
    }

    fn watcher(&mut self, watcher: &'a Watched) {
        for pair in watcher.seen.windows(2) {
            if pair[1].revision <= pair[0].revision {
                self.wrong(format!(
                    "a watcher was shown revision {} after {}",
                    pair[1].revision, pair[0].revision
                ));
            }
        }
        let shown: std::collections::HashSet<u64> =
            watcher.seen.iter().map(|seen| seen.revision).collect();
        let missed: Vec<u64> = self
            .log
            .range((
                Bound::Excluded(watcher.from),
                Bound::Included(watcher.to.max(watcher.from)),
            ))
            .map(|(revision, _)| *revision)
            .filter(|revision| !shown.contains(revision))
            .collect();
        if !missed.is_empty() {
            self.wrong(format!(
                "a watcher from {} to {} was not shown {missed:?}",
                watcher.from, watcher.to
            ));
        }
        if let Some(early) = shown.iter().find(|revision| **revision <= watcher.from) {
            self.wrong(format!("a watcher from {} was shown {early}", watcher.from));
        }
    }

    /// Every change was asked for, and once.
    fn origins(&mut self, history: &'a History) {
        let mut asked: HashMap<&str, (&Call, u64)> = HashMap::new();
        for call in &history.calls {
            if let Asked::Create { value } | Asked::Update { value, .. } = &call.asked {
                asked.insert(value, (call, 0));
            }
        }
        let log: Vec<_> = self.log.iter().map(|(at, entry)| (*at, *entry)).collect();
        for (revision, (word, key, value)) in log {
            if word == Word::Deleted {
                let deletions = |call: &Call| call.asked == Asked::Delete && call.key == key;
                if !history.calls.iter().any(deletions) {
                    self.wrong(format!("{key} went at {revision}, but nobody deleted it"));
                }
                continue;
            }
            let Some((call, times)) = asked.get_mut(value) else {
                self.wrong(format!(
                    "{key} got {value} at {revision}, but nobody wrote that"
                ));
                continue;
            };
            *times += 1;
            let (call, times) = (*call, *times);
            if times > 1 || call.key != key {
                self.wrong(format!("{value} was written to {key} again at {revision}"));
            }
            match call.told {
                Told::Written(at) if at != revision => self.wrong(format!(
                    "{value} was written at {revision}, but its writer was told {at}"
                )),
                Told::Exists | Told::NotFound | Told::Conflict => self.wrong(format!(
                    "{value} was written at {revision}, but its writer was told {:?}",
                    call.told
                )),
                _ => {}
            }
        }
    }

    /// The revision each call must be after, and the one it must be before.
    fn spans(&self, history: &History) -> Vec<(u64, u64)> {
        let spans = self.spans_with(history, &[]);
        // A deletion does not say at which revision: it is the first that its span allows, or later.
        let mut deletions = Vec::new();
        for (call, (floor, _)) in history.calls.iter().zip(&spans) {
            if let (Told::Deleted, Some(versions)) =
                (&call.told, self.objects.get(call.key.as_str()))
            {
                let mut later = versions.range(floor + 1..);
                let gone = later.find(|(_, value)| value.is_none());
                deletions.extend(gone.map(|(at, _)| (call.ended, *at)));
            }
        }
        self.spans_with(history, &deletions)
    }

    fn spans_with(&self, history: &History, deletions: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let log = &self.log;
        // What each call proves to have been there when it ended, and cannot have been before it began.
        let by_value: HashMap<&str, u64> = log
            .iter()
            .filter(|(_, (word, ..))| *word != Word::Deleted)
            .map(|(revision, (.., value))| (*value, *revision))
            .collect();
        let mut proved: Vec<(u64, u64)> = deletions.to_vec();
        let mut made: Vec<(u64, u64)> = Vec::new();
        for call in &history.calls {
            match &call.told {
                Told::Written(at) | Told::Read(at, _) | Told::Listed(at, _) => {
                    proved.push((call.ended, *at));
                }
                _ => {}
            }
            if let Asked::Create { value } | Asked::Update { value, .. } = &call.asked
                && let Some(at) = by_value.get(value.as_str())
            {
                made.push((call.began, *at));
            }
        }
        proved.sort_unstable();
        made.sort_unstable();
        for at in 1..proved.len() {
            proved[at].1 = proved[at].1.max(proved[at - 1].1);
        }
        for at in (1..made.len()).rev() {
            made[at - 1].1 = made[at - 1].1.min(made[at].1);
        }
        let span = |call: &Call| {
            let before = proved.partition_point(|(ended, _)| *ended < call.began);
            let after = made.partition_point(|(began, _)| *began <= call.ended);
            let floor = before.checked_sub(1).map_or(0, |at| proved[at].1);
            let ceiling = made.get(after).map_or(u64::MAX, |(_, at)| *at);
            (floor, ceiling)
        };
        history.calls.iter().map(span).collect()
    }

    fn calls(&mut self, history: &'a History) {
        let spans = self.spans(history);
        let nothing = Versions::new();
        for (call, (floor, ceiling)) in history.calls.iter().zip(spans) {
            let versions = self.objects.get(call.key.as_str()).unwrap_or(&nothing);
            let problem = judge(call, floor, ceiling, versions)
                .or_else(|| self.list(call, floor, ceiling))
                .map(|problem| format!("{problem}: {call:?}, between {floor} and {ceiling}"));
            if let Some(problem) = problem {
                self.wrong(problem);
            }
        }
    }

    fn list(&self, call: &Call, floor: u64, ceiling: u64) -> Option<String> {
        let Told::Listed(at, items) = &call.told else {
            return None;
        };
        if *at < floor || *at >= ceiling {
            return Some(format!("the list is of {at}"));
        }
        let mut then: Vec<(String, u64, String)> = self
            .objects
            .iter()
            .filter_map(|(key, versions)| {
                let (revision, value) = versions.range(..=at).next_back()?;
                Some(((*key).to_owned(), *revision, (*value)?.to_owned()))
            })
            .collect();
        then.sort();
        let mut items = items.clone();
        items.sort();
        (items != then).then(|| format!("the contents at {at} were {then:?}"))
    }
}

/// Whether the object was in a state that `fits` at some point from `floor` on and before `ceiling`.
fn was(
    versions: &Versions<'_>,
    floor: u64,
    ceiling: u64,
    fits: impl Fn(Option<u64>) -> bool,
) -> bool {
    let at_floor = versions.range(..=floor).next_back();
    let state = |(at, value): (&u64, &Option<&str>)| value.map(|_| *at);
    fits(at_floor.and_then(state))
        || versions
            .range(floor.saturating_add(1)..ceiling.max(floor.saturating_add(1)))
            .any(|entry| fits(state(entry)))
}

/// Why a call on one object cannot have been answered as it was.
fn judge(call: &Call, floor: u64, ceiling: u64, versions: &Versions<'_>) -> Option<String> {
    let within = |at: u64| at > floor && at < ceiling;
    match (&call.asked, &call.told) {
        (Asked::Create { value } | Asked::Update { value, .. }, Told::Written(at)) => {
            if versions.get(at) != Some(&Some(value.as_str())) {
                return Some("an acknowledged write is lost".to_owned());
            }
            if !within(*at) {
                return Some("a write is out of real time's order".to_owned());
            }
            let before = versions.range(..at).next_back();
            let before = before.and_then(|(at, value)| value.map(|_| *at));
            let wanted = match &call.asked {
                Asked::Update { expected, .. } => Some(*expected),
                _ => None,
            };
            (before != wanted).then(|| format!("the write replaced {before:?}"))
        }
        (Asked::Get, Told::Read(at, value)) => {
            if versions.get(at) != Some(&Some(value.as_str())) {
                return Some("what was read was never written".to_owned());
            }
            let seen = was(versions, floor, ceiling, |state| state == Some(*at));
            (!seen).then(|| "a read is stale, or ahead of its time".to_owned())
        }
        (_, Told::NotFound) => {
            let absent = was(versions, floor, ceiling, |state| state.is_none());
            (!absent).then(|| "the object was there all the time".to_owned())
        }
        (_, Told::Exists) => {
            let there = was(versions, floor, ceiling, |state| state.is_some());
            (!there).then(|| "no object was there at any time".to_owned())
        }
        (Asked::Update { expected, .. }, Told::Conflict) => {
            let other = was(versions, floor, ceiling, |state| state != Some(*expected));
            (!other).then(|| "the object was at that revision all the time".to_owned())
        }
        (Asked::Delete, Told::Deleted) => {
            let end = versions.range(floor.saturating_add(1)..ceiling.max(floor.saturating_add(1)));
            let gone = end.into_iter().any(|(_, value)| value.is_none());
            (!gone).then(|| "an acknowledged deletion is lost".to_owned())
        }
        (Asked::List, Told::Listed(..)) | (_, Told::Nothing) => None,
        _ => Some("the answer is none to this question".to_owned()),
    }
}

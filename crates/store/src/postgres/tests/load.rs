//! Writers and watchers on several stores, and the comparison of what each was told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinSet;

use super::super::*;
use crate::Change;

pub(super) fn boat(name: &str) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: "harbour".to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn boats() -> Scope {
    Scope {
        resource: "boats".to_owned(),
        namespace: None,
    }
}

/// A change as somebody was told of it.
pub(super) type Told = (Change, String, Bytes);

/// What a watcher saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) events: BTreeMap<u64, Told>,
    /// How often it was told to list again.
    pub(super) relists: u32,
    /// The contents as it believes them, by name.
    pub(super) contents: BTreeMap<String, (u64, Bytes)>,
}

/// See the module.
pub(super) struct Load {
    stores: Vec<Arc<PostgresStore>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    writers: JoinSet<BTreeMap<u64, Told>>,
    watchers: JoinSet<Seen>,
    /// How often a writer was told that the database is unavailable.
    pub(super) unavailable: Arc<AtomicU64>,
}

impl Load {
    /// Starts writers and a watcher on each store. A strict writer takes no failure: not even that
    /// the database is unavailable.
    pub(super) async fn start(stores: &[Arc<PostgresStore>], strict: bool) -> Self {
        let mut load = Self {
            stores: stores.to_vec(),
            stop: Arc::default(),
            answered: Arc::default(),
            writers: JoinSet::new(),
            watchers: JoinSet::new(),
            unavailable: Arc::default(),
        };
        let from = stores[0].revision().await.unwrap();
        for (number, store) in stores.iter().enumerate() {
            load.watchers.spawn(watch(store.clone(), from));
            for writer in 0..4 {
                let writer = Writing {
                    name: format!("{number}-{writer}"),
                    store: store.clone(),
                    strict,
                    stop: load.stop.clone(),
                    count: load.answered.clone(),
                    unavailable: load.unavailable.clone(),
                };
                load.writers.spawn(writer.run());
            }
        }
        load
    }

    /// Waits until this many more writes were answered.
    pub(super) async fn go_on(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        let waiting = async {
            while self.answered.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        waited.expect("writes are answered");
    }

    /// Ends it, and returns what was answered and what each watcher saw.
    pub(super) async fn end(mut self) -> (BTreeMap<u64, Told>, Vec<Seen>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = BTreeMap::new();
        while let Some(some) = self.writers.join_next().await {
            for (revision, told) in some.unwrap() {
                let twice = answered.insert(revision, told);
                assert_eq!(twice, None, "revision {revision} was answered twice");
            }
        }
        let last = self.stores[0].create(boat("end"), Bytes::new());
        last.await.unwrap();
        let mut seen = Vec::new();
        while let Some(some) = self.watchers.join_next().await {
            seen.push(some.unwrap());
        }
        (answered, seen)
    }
}

struct Writing {
    name: String,
    store: Arc<PostgresStore>,
    strict: bool,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    unavailable: Arc<AtomicU64>,
}

impl Writing {
    /// Counts its object up; each seventh version is a deletion.
    async fn run(self) -> BTreeMap<u64, Told> {
        let mut answered = BTreeMap::new();
        let mut current: Option<Stored> = None;
        let mut number: u64 = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let data = Bytes::from(number.to_string());
            let key = boat(&self.name);
            let (change, written) = match current.clone() {
                None => (Change::Created, self.store.create(key, data.clone()).await),
                Some(stored) if number.is_multiple_of(7) => {
                    let gone = self.store.delete(key, stored.revision, data.clone());
                    (Change::Deleted, gone.await)
                }
                Some(stored) => {
                    let update = self.store.update(key, stored.revision, data.clone());
                    (Change::Updated, update.await)
                }
            };
            match written {
                Ok(stored) => {
                    let told = (change, self.name.clone(), data);
                    answered.insert(stored.revision.0, told);
                    current = (change != Change::Deleted).then_some(stored);
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if self.strict => {
                    panic!("{}: {change:?} {number}: {error:?}", self.name)
                }
                Err(error) => {
                    if matches!(error, Error::Unavailable { .. }) {
                        self.unavailable.fetch_add(1, Ordering::Relaxed);
                    }
                    current = loop {
                        if let Ok(current) = self.store.get(boat(&self.name)).await {
                            break current;
                        }
                    };
                }
            }
        }
        answered
    }
}

/// Watches until it hears of the end, listing again when told to.
async fn watch(store: Arc<PostgresStore>, from: Revision) -> Seen {
    let mut seen = Seen::default();
    let mut from = from;
    loop {
        let mut events = match store.watch(boats(), Some(from)).await {
            Ok(events) => events,
            Err(Error::Compacted { .. } | Error::Future { .. }) => {
                let Ok(page) = store.list(boats(), None, None, None).await else {
                    continue;
                };
                seen.relists += 1;
                seen.contents = page
                    .stored()
                    .into_iter()
                    .map(|item| (item.key.name, (item.revision.0, item.data)))
                    .collect();
                from = page.revision;
                if seen.contents.contains_key("end") {
                    return seen;
                }
                continue;
            }
            Err(_) => continue,
        };
        while let Some(Ok(event)) = events.next().await {
            let Stored {
                key,
                revision,
                data,
            } = Stored::clone(&event.object);
            from = revision;
            match event.change {
                Change::Deleted => seen.contents.remove(&key.name),
                _ => seen
                    .contents
                    .insert(key.name.clone(), (revision.0, data.clone())),
            };
            if key.name == "end" {
                return seen;
            }
            let told = (event.change, key.name, data);
            let twice = seen.events.insert(revision.0, told);
            assert_eq!(twice, None, "revision {revision:?} was shown twice");
        }
    }
}

/// Nothing was lost, doubled or reordered: what was answered is what the log has and what each
/// watcher was shown.
pub(super) async fn compare(
    address: String,
    start: Revision,
    answered: &BTreeMap<u64, Told>,
    seen: &[Seen],
) {
    let store = PostgresStore::open(Options::new(address)).await.unwrap();
    let fresh = watch(Arc::new(store), start).await;
    assert_eq!(fresh.relists, 0);
    let last = start.0 + fresh.events.len() as u64;
    assert!(fresh.events.keys().copied().eq(start.0 + 1..=last));
    assert_eq!(&fresh.events, answered);
    for seen in seen {
        assert_eq!(seen.relists, 0);
        assert_eq!(seen.events, fresh.events);
    }
}

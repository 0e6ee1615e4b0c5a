#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    rows: 12,
    age_millis: 1000,
    bytes: 40,
    recent_millis: 0,
    recent_bytes: 0,
};

fn key(namespace: u8, name: u8) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: namespace.to_string(),
        name: name.to_string(),
    }
}

fn scopes() -> Vec<Scope> {
    let scope = |namespace: Option<&str>| Scope {
        resource: "boats".to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    vec![scope(None), scope(Some("0")), scope(Some("1"))]
}

#[derive(Clone, Debug)]
enum Step {
    Write { key: Key, delete: bool, length: u8 },
    Forget { share: u8 },
    ForgetExcess,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_u8, 0..5_u8, any::<bool>(), 0..9_u8).prop_map(|(namespace, name, delete, length)| {
            Step::Write { key: key(namespace, name), delete, length }
        }),
        1 => any::<u8>().prop_map(|share| Step::Forget { share }),
        1 => Just(Step::ForgetExcess),
    ]
}

/// A history beside what it must show: the contents at each revision, and the rows a database
/// would hold.
#[derive(Default)]
struct Model {
    history: History,
    snapshots: Vec<BTreeMap<Key, Stored>>,
    events: Vec<Event>,
    rows: BTreeMap<u64, (Change, Arc<Stored>)>,
}

impl Model {
    fn write(&mut self, key: Key, delete: bool, length: u8) {
        let mut contents = self.snapshots.last().cloned().unwrap_or_default();
        let revision = self.history.revision() + 1;
        let stored = Stored {
            key: key.clone(),
            revision: Revision(revision),
            data: Bytes::from(vec![b'x'; usize::from(length)]),
        };
        let (change, previous) = match contents.get(&key).cloned() {
            None => (Change::Created, None),
            Some(previous) if delete => (Change::Deleted, Some(previous.data)),
            Some(previous) => (Change::Updated, Some(previous.data)),
        };
        if change == Change::Deleted {
            contents.remove(&key);
        } else {
            contents.insert(key, stored.clone());
        }
        if self.snapshots.is_empty() {
            self.snapshots.push(BTreeMap::new());
        }
        self.snapshots.push(contents);
        self.events.push(Event {
            change,
            object: stored.clone().into(),
            previous,
        });
        let stored = Arc::new(stored);
        self.rows.insert(revision, (change, stored.clone()));
        self.history.apply(change, stored, revision);
    }

    fn forget(&mut self, upto: u64) {
        for revision in self.history.unneeded(upto) {
            assert!(self.rows.remove(&revision).is_some(), "removed twice");
        }
        self.history.forget(upto);
    }

    /// Both the history and one loaded from the rows show what they must.
    fn check(&self) {
        let mut loaded = History::starting_after(self.history.compacted());
        for (revision, (change, stored)) in &self.rows {
            if *revision <= self.history.compacted() {
                loaded.restore(stored.clone());
            } else {
                loaded.apply(*change, stored.clone(), *revision);
            }
        }
        assert_eq!(loaded.live_bytes, self.history.live_bytes);
        assert_eq!(loaded.entry_bytes, self.history.entry_bytes);
        for history in [&self.history, &loaded] {
            for scope in scopes() {
                for at in history.compacted()..=history.revision() {
                    self.check_pages(history, &scope, at);
                    self.check_events(history, &scope, at);
                }
            }
        }
    }

    fn check_pages(&self, history: &History, scope: &Scope, at: u64) {
        let snapshot = usize::try_from(at).unwrap();
        let snapshot = self.snapshots.get(snapshot).cloned().unwrap_or_default();
        let expected: Vec<Stored> = snapshot
            .into_values()
            .filter(|stored| scope.covers(&stored.key))
            .collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let at = Some(Revision(at));
            let page = history.list(scope, at, after.as_ref(), Some(2)).unwrap();
            found.extend(page.stored());
            assert_eq!(found.len() as u64 + page.remaining, expected.len() as u64);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
    }

    fn check_events(&self, history: &History, scope: &Scope, from: u64) {
        let mut entries = VecDeque::new();
        history
            .after(scope, None, from, usize::MAX, &mut entries)
            .unwrap();
        let found: Vec<Event> = entries.iter().map(Entry::event).collect();
        let expected: Vec<Event> = self
            .events
            .iter()
            .filter(|event| event.object.revision.0 > from && scope.covers(&event.object.key))
            .cloned()
            .collect();
        assert_eq!(found, expected);
    }
}

proptest! {
    #[test]
    fn shows_each_revision_it_keeps_and_needs_only_the_rows_kept(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut model = Model::default();
        for step in steps {
            let history = &model.history;
            let (oldest, newest) = (history.compacted(), history.revision());
            match step {
                Step::Write { key, delete, length } => model.write(key, delete, length),
                Step::Forget { share } => {
                    model.forget(oldest + (newest - oldest) * u64::from(share) / 255);
                }
                Step::ForgetExcess => {
                    model.forget(history.excess(&LIMITS, newest, usize::MAX));
                    let history = &model.history;
                    prop_assert!(history.entries.len() <= LIMITS.rows);
                    prop_assert!(!history.exceeds(&LIMITS, newest));
                }
            }
        }
        model.check();
    }
}

#[test]
fn forgets_by_age() {
    let mut model = Model::default();
    for name in 0..5 {
        model.write(key(0, name), false, 1);
    }
    // Written at 1 to 5.
    assert_eq!(model.history.excess(&LIMITS, 1003, usize::MAX), 2);
    assert_eq!(model.history.excess(&LIMITS, 1003, 1), 1);
    assert!(!model.history.exceeds(&LIMITS, 1003));
    assert!(model.history.exceeds(&LIMITS, 1127));
}

#[test]
fn a_change_wakes_its_own_routes_and_no_others() {
    let mut history = History::default();
    let route = |value| Route {
        facet: crate::facet::Facet {
            name: "length".into(),
            read: Arc::new(|data: &[u8]| u64::try_from(data.len()).ok()),
        },
        value,
    };
    let mut routes =
        [1, 2, 3].map(|value| history.subscribe_route("boats", &route(value)).unwrap());
    let mut write = |revision, change, length| {
        let stored = Stored {
            key: key(0, 0),
            revision: Revision(revision),
            data: Bytes::from(vec![b'x'; length]),
        };
        let version = Version {
            change,
            object: Arc::new(stored),
        };
        history.publish([(&version, revision)].into_iter());
        let woken = routes.each_ref().map(|route| route.has_changed().unwrap());
        for route in &mut routes {
            route.mark_unchanged();
        }
        woken
    };
    assert_eq!(write(1, Change::Created, 1), [true, false, false]);
    assert_eq!(write(2, Change::Updated, 2), [true, true, false]);
    assert_eq!(write(3, Change::Updated, 2), [false, true, false]);
    assert_eq!(write(4, Change::Deleted, 9), [false, true, false]);
}

#[test]
fn a_burst_has_room_for_a_while() {
    let limits = Limits {
        rows: 1000,
        age_millis: 100_000,
        recent_millis: 50,
        recent_bytes: 100,
        ..LIMITS
    };
    let mut model = Model::default();
    // Written at 1 to 100, and current are ten of them.
    for name in 0..100 {
        model.write(key(0, name % 10), false, 1);
    }
    assert!(!model.history.exceeds(&limits, 45));
    assert!(model.history.exceeds(&limits, 100));
    // What is older than the while has the usual room.
    assert_eq!(model.history.excess(&limits, 100, usize::MAX), 50);
    assert_eq!(model.history.excess(&limits, 1000, usize::MAX), 60);
}

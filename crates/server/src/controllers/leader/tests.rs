//! What a candidate decides, by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use boatyard_store::archive::Snapshot;
use boatyard_store::{Error, Key, Page, Revision, Store, Stored};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};

fn record(holder: &str, seconds: u64, seen: Instant) -> Record {
    let object = json!({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds}});
    Record { object, seen }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_waits_as_long_as_it_has_not_seen_the_lease_run_out() {
    let folder = tempfile::tempdir().unwrap();
    let holder = Holder::open(folder.path());
    let seen = Instant::now();
    let earlier = holder.me().rsplit_once('_').unwrap().0.to_owned() + "_0badcafe";
    let wait = Step::Wait(seen + Duration::from_secs(15));
    for (held_by, seconds, starting, wanted) in [
        ("other", 0, true, wait),
        ("other", 14, false, wait),
        ("other", 15, false, Step::Take),
        ("", 0, false, Step::Take),
        (holder.me(), 0, false, Step::Take),
        (&*earlier, 0, true, Step::Take),
        // A copy of the state directory, and alive.
        (&*earlier, 0, false, wait),
    ] {
        let record = record(held_by, 15, seen);
        let now = seen + Duration::from_secs(seconds);
        let step = step(&holder, Some(&record), starting, now);
        assert_eq!(step, wanted, "{held_by} {seconds} {starting}");
    }
    assert_eq!(step(&holder, None, true, seen), Step::Take);
}

#[test]
fn taking_counts_changes_of_the_holder_and_renewing_does_not() {
    let (now, then) = (json!("now"), json!("then"));
    let lease = Duration::from_millis(1500);
    let first = taken("a", None, lease, &then);
    assert_eq!(
        first,
        json!({"holderIdentity": "a", "leaseDurationSeconds": 2, "acquireTime": "then", "renewTime": "then", "leaseTransitions": 0})
    );
    let object = json!({ "spec": first });
    let renewed = taken("a", Some(&object), lease, &now);
    assert_eq!(
        (&renewed["acquireTime"], &renewed["renewTime"]),
        (&then, &now)
    );
    assert_eq!(renewed["leaseTransitions"], 0);
    let other = taken("b", Some(&object), lease, &now);
    assert_eq!(
        (&other["acquireTime"], &other["leaseTransitions"]),
        (&now, &json!(1))
    );
}

#[test]
fn a_server_knows_its_earlier_life_by_its_directory_and_nobody_elses() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Holder::open(folder.path());
    let beside = Holder::open(folder.path());
    let away = Holder::open(elsewhere.path());
    for other in [&beside, &away] {
        assert!(!other.was_me(first.me()) && !first.was_me(other.me()));
    }
    let before = first.me().to_owned();
    drop(first);
    let again = Holder::open(folder.path());
    assert!(again.was_me(&before) && !again.is_me(&before));
    assert!(!beside.was_me(again.me()));
}

#[test]
fn a_damaged_name_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server-id"), "half a na").unwrap();
    let before = Holder::open(folder.path()).me().to_owned();
    assert!(Holder::open(folder.path()).was_me(&before));
}

#[test]
fn the_holder_gives_up_well_before_others_may_start() {
    let timing = Timing::new(Duration::from_secs(15));
    assert!(timing.renew + timing.retry * 3 < timing.deadline);
    assert!(timing.deadline + timing.retry * 3 < timing.lease);
}

/// A store that can be cut off: what is asked of it then fails.
struct Cut {
    store: Arc<dyn Store>,
    off: AtomicBool,
}

impl Cut {
    fn refused<T: Send>(&self) -> Option<BoxFuture<'_, Result<T, Error>>> {
        let refused = || {
            Err(Error::Unavailable {
                place: "test".to_owned(),
                what: "cut off".to_owned(),
                source: None,
            })
        };
        let off = self.off.load(Ordering::Relaxed);
        off.then(|| async move { refused() }.boxed())
    }
}

impl Store for Cut {
    fn create(&self, key: Key, data: Bytes) -> BoxFuture<'_, Result<Stored, Error>> {
        self.refused()
            .unwrap_or_else(|| self.store.create(key, data))
    }
    fn update(&self, key: Key, at: Revision, data: Bytes) -> BoxFuture<'_, Result<Stored, Error>> {
        self.refused()
            .unwrap_or_else(|| self.store.update(key, at, data))
    }
    fn delete(&self, key: Key, at: Revision, last: Bytes) -> BoxFuture<'_, Result<Stored, Error>> {
        self.refused()
            .unwrap_or_else(|| self.store.delete(key, at, last))
    }
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Stored>, Error>> {
        self.refused().unwrap_or_else(|| self.store.get(key))
    }
    fn list(
        &self,
        scope: Scope,
        at: Option<Revision>,
        after: Option<Key>,
        limit: Option<usize>,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        self.refused()
            .unwrap_or_else(|| self.store.list(scope, at, after, limit))
    }
    fn watch(
        &self,
        scope: Scope,
        from: Option<Revision>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        self.refused()
            .unwrap_or_else(|| self.store.watch(scope, from))
    }
    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        self.refused().unwrap_or_else(|| self.store.revision())
    }
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        self.refused().unwrap_or_else(|| self.store.snapshot())
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.store.close()
    }
    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.refused().unwrap_or_else(|| self.store.compact(upto))
    }
}

/// Who worked when: one interval for each time a server led.
type Worked = Arc<Mutex<Vec<(usize, Instant, Instant)>>>;

/// Notes every moment at which the fence lets an activation begin.
async fn work(number: usize, worked: Worked, fence: Fence, stop: CancellationToken) {
    let mut own = None;
    while !stop.is_cancelled() {
        let now = Instant::now();
        if fence.holds() {
            let mut worked = worked.lock().unwrap();
            let own = *own.get_or_insert_with(|| {
                worked.push((number, now, now));
                worked.len() - 1
            });
            worked[own].2 = now;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_holders_are_cut_off_no_two_servers_work_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = boatyard_store::sqlite::Options::new(folder.path().join("store.db"));
    let store = boatyard_store::sqlite::SqliteStore::open(options).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let shutdown = CancellationToken::new();
    let worked = Worked::default();
    let mut tasks = tokio::task::JoinSet::new();
    let mut cuts = Vec::new();
    for number in 0..3 {
        let cut = Arc::new(Cut {
            store: store.clone(),
            off: AtomicBool::new(false),
        });
        cuts.push(cut.clone());
        let resources = Resources::new(cut, Arc::new(crate::authorize::Rules));
        if number == 0 {
            crate::first_objects(&resources).await.unwrap();
        }
        let state = folder.path().join(number.to_string());
        std::fs::create_dir(&state).unwrap();
        let holder = Holder::open(&state);
        let lease = Duration::from_secs(1);
        let elector = Elector::new(resources, Metrics::new(), holder, lease);
        let (shutdown, worked) = (shutdown.clone(), worked.clone());
        tasks.spawn(async move {
            let lead = |fence, stop| work(number, worked.clone(), fence, stop);
            elector.run(&shutdown, lead).await;
        });
    }
    let leader = || worked.lock().unwrap().last().map(|(number, _, _)| *number);
    let patience = Instant::now() + Duration::from_secs(60);
    for round in 0..4 {
        while worked.lock().unwrap().len() <= round {
            assert!(Instant::now() < patience, "nobody took over");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Whoever leads is cut off; the one before comes back.
        let leader = leader().unwrap();
        for (number, cut) in cuts.iter().enumerate() {
            cut.off.store(number == leader, Ordering::Relaxed);
        }
    }
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let worked = worked.lock().unwrap();
    for pair in worked.windows(2) {
        assert!(pair[0].2 < pair[1].1, "two at once: {worked:?}");
    }
}

#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use futures::StreamExt;

use super::*;
use crate::{Change, contract};

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(Options::new(folder.join("store"))).unwrap()
}

fn refusal(folder: &Path) -> String {
    let error = SqliteStore::open(Options::new(folder.join("store"))).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }));
    error.to_string()
}

fn key(name: &str) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

fn boats() -> Scope {
    Scope {
        resource: "boats".to_owned(),
        namespace: None,
    }
}

async fn create(store: &SqliteStore, name: &str) -> Stored {
    let data = Bytes::from(name.to_owned());
    store.create(key(name), data).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    contract::all(|| async {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(open(&folder.path().join(number.to_string()))) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn resumes_a_watch_and_a_list_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = create(&store, "a").await;
    create(&store, "b").await;
    let last = Bytes::from_static(b"last");
    store.delete(key("a"), first.revision, last).await.unwrap();
    store.compact(Revision(1)).await.unwrap();
    let before = store.list(boats(), Some(Revision(2)), None, None).await;
    store.close().await.unwrap();
    let store = open(folder.path());
    let after = store.list(boats(), Some(Revision(2)), None, None).await;
    assert_eq!(before.unwrap().stored(), after.unwrap().stored());
    let watch = store.watch(boats(), Some(Revision(1))).await.unwrap();
    let events: Vec<Event> = watch.take(2).map(Result::unwrap).collect().await;
    assert_eq!(events[0].object.key, key("b"));
    assert_eq!(events[1].change, Change::Deleted);
    assert_eq!(events[1].previous, Some(first.data));
    let old = store.watch(boats(), Some(Revision(0))).await;
    assert!(matches!(old.err(), Some(Error::Compacted { .. })));
}

#[tokio::test]
async fn never_uses_a_revision_twice_even_when_all_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let made = create(&store, "a").await;
    let gone = store.delete(key("a"), made.revision, made.data).await;
    store.compact(gone.unwrap().revision).await.unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(create(&store, "a").await.revision, Revision(3));
}

#[tokio::test]
async fn forgets_history_beyond_its_limits_and_keeps_the_objects() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().join("store"));
    options.history_rows = 16;
    let store = SqliteStore::open(options).unwrap();
    let mut stored = create(&store, "a").await;
    create(&store, "b").await;
    for _ in 0..100 {
        let next = store.update(key("a"), stored.revision, Bytes::from_static(b"{}"));
        stored = next.await.unwrap();
    }
    drop(store);
    let store = open(folder.path());
    let page = store.list(boats(), None, None, None).await.unwrap();
    assert_eq!(page.items.len(), 2);
    assert_eq!(page.stored()[0], stored);
    let kept = store.watch(boats(), Some(Revision(stored.revision.0 - 16)));
    assert!(kept.await.is_ok());
    let forgotten = store.watch(boats(), Some(Revision(stored.revision.0 - 20)));
    assert!(matches!(
        forgotten.await.err(),
        Some(Error::Compacted { .. })
    ));
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("store")).unwrap();
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM versions", [], |row| row.get(0))
        .unwrap();
    assert!(rows <= 21, "{rows} rows");
}

#[tokio::test]
async fn finishes_waiting_writes_and_watches_on_closing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let watch = store.watch(boats(), None).await.unwrap();
    create(&store, "a").await;
    store.close().await.unwrap();
    let events: Vec<_> = watch.collect().await;
    assert_eq!(events.len(), 1);
    let late = store.create(key("b"), Bytes::new()).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })));
    // The file is free while the closed store still lives.
    let again = open(folder.path());
    assert!(again.get(key("a")).await.unwrap().is_some());
    store.close().await.unwrap();
}

#[tokio::test]
async fn makes_files_for_the_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("x/y");
    let store = open(&inner);
    create(&store, "a").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for entry in std::fs::read_dir(&inner).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn refuses_a_second_server() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let refused = refusal(folder.path());
    assert!(refused.contains("another process has it open"), "{refused}");
    create(&store, "a").await;
    drop(store);
    open(folder.path());
}

#[test]
fn refuses_a_newer_schema_and_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("store");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE header SET schema = 99", [])
        .unwrap();
    drop(connection);
    let refused = refusal(folder.path());
    assert!(refused.contains("has schema 99"), "{refused}");

    std::fs::remove_file(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("CREATE TABLE other (x)", []).unwrap();
    drop(connection);
    let refused = refusal(folder.path());
    assert!(refused.contains("another program"), "{refused}");

    std::fs::write(
        &path,
        "not a database at all, but long enough to be looked at",
    )
    .unwrap();
    let refused = refusal(folder.path());
    assert!(refused.contains("not a database"), "{refused}");
    assert!(std::fs::metadata(&path).unwrap().size() > 0);
}

#[tokio::test]
async fn refuses_a_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..200 {
        create(&store, &format!("some boat of many {number}")).await;
    }
    store.close().await.unwrap();
    let path = folder.path().join("store");
    let whole = std::fs::read(&path).unwrap();
    // A flipped bit in a value, a page of noise, and a lost end.
    let mut flipped = whole.clone();
    let text = b"some boat of many 77";
    let at = whole.windows(text.len()).position(|some| some == text);
    flipped[at.unwrap()] ^= 1;
    let mut noise = whole.clone();
    noise[8192..12288].fill(0xa5);
    let cut = whole[..whole.len() - 8192].to_vec();
    for damaged in [flipped, noise, cut] {
        std::fs::write(&path, damaged).unwrap();
        let refused = refusal(folder.path());
        assert!(refused.contains("damaged"), "{refused}");
    }
    std::fs::write(&path, whole).unwrap();
    let store = open(folder.path());
    assert_eq!(store.revision().await.unwrap(), Revision(200));
}

#[tokio::test]
async fn one_refused_write_does_not_fail_the_others_of_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a").await;
    let writes = (0..100).map(|number| {
        let name = if number % 2 == 0 {
            "a".to_owned()
        } else {
            format!("b{number}")
        };
        store.create(key(&name), Bytes::new())
    });
    let results = futures::future::join_all(writes).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 50);
}

#[tokio::test]
async fn a_backup_is_restored_into_a_new_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let from = open(folder.path());
    let snapshot = contract::worth_a_backup(&from).await;
    let path = folder.path().join("restored");
    restore(&path, snapshot.clone()).unwrap();
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    contract::restored(&store, &snapshot).await;
    store.close().await.unwrap();
    drop(store);
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    let kept = store.snapshot().await.unwrap();
    assert_eq!(kept.objects.len(), snapshot.objects.len() + 1);
    store.close().await.unwrap();
    drop(store);
    let again = restore(&path, snapshot);
    assert!(matches!(again, Err(Error::NotEmpty(_))), "{again:?}");
}

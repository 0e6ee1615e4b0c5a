//! A feed over a real store.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use boatyard_store::sqlite::{Options, SqliteStore};
use tokio::task::JoinSet;

const RESOURCE: &str = "things";

/// Notes what it is shown; knows what it was told to know.
#[derive(Default)]
struct Noted {
    shown: Mutex<Vec<String>>,
    known: Vec<Key>,
}

impl Observer for Noted {
    fn seen(&self, seen: &Seen<'_>) {
        let word = match seen {
            Seen::Listed(_) => "listed",
            Seen::Changed(_) => "changed",
            Seen::Deleted(_) => "deleted",
            Seen::Missing(_) => "missing",
        };
        let told = format!("{word} {}", seen.key().name);
        self.shown.lock().unwrap().push(told);
    }
    fn known(&self, _resource: &str) -> Vec<Key> {
        self.known.clone()
    }
    fn relisted(&self, _resource: &str) {
        self.shown.lock().unwrap().push("relisted".to_owned());
    }
}

fn key(name: &str) -> Key {
    Key {
        resource: RESOURCE.to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let options = Options::new(folder.path().join("store.db"));
    Arc::new(SqliteStore::open(options).unwrap())
}

async fn until(noted: &Noted, count: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let shown = noted.shown.lock().unwrap().clone();
        if shown.len() >= count {
            return shown;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_went_unseen_is_told_as_missing_and_what_follows_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    store.create(key("a"), "{}".into()).await.unwrap();
    let noted = Arc::new(Noted {
        known: vec![key("a"), key("gone")],
        ..Noted::default()
    });
    let (synced, mut listed) = watch::channel(false);
    let progress = Progress::default();
    let mut tasks = JoinSet::new();
    let following = follow(
        store.clone(),
        RESOURCE.to_owned(),
        vec![noted.clone()],
        synced,
        progress.clone(),
    );
    tasks.spawn(following);
    listed.wait_for(|listed| *listed).await.unwrap();
    let made = store.create(key("b"), "{}".into()).await.unwrap();
    store
        .delete(key("b"), made.revision, "{}".into())
        .await
        .unwrap();
    let shown = until(&noted, 5).await;
    assert_eq!(
        shown,
        [
            "listed a",
            "missing gone",
            "relisted",
            "changed b",
            "deleted b"
        ]
    );
}

#[tokio::test]
async fn a_revision_is_shown_once_every_change_of_the_resource_up_to_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let progress = Progress::default();
    let shown = async |revision| {
        progress
            .has_shown(store.as_ref(), RESOURCE, revision)
            .await
            .unwrap()
    };
    let first = store.create(key("a"), "{}".into()).await.unwrap().revision;
    assert!(!shown(first).await, "nobody has listed it");
    progress.begin(RESOURCE, first);
    assert!(shown(first).await);
    // Of another resource.
    let other = Key {
        resource: "others".to_owned(),
        ..key("a")
    };
    let other = store.create(other, "{}".into()).await.unwrap().revision;
    assert!(shown(other).await);
    let second = store.create(key("b"), "{}".into()).await.unwrap().revision;
    assert!(!shown(second).await, "it has not been read");
    progress.reach(RESOURCE, second);
    assert!(shown(second).await);
    // Of a history that was replaced by an older one.
    progress.begin(RESOURCE, first);
    assert!(!shown(second).await);
}

//! A collector that sees no more of the store than it is shown.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::authorize;
use boatyard_store::Store;
use boatyard_store::sqlite::{self, SqliteStore};

const RESOURCE: &str = "environments.boatyard.dev";

struct Yard {
    collector: Collector,
    _folder: tempfile::TempDir,
}

fn key(name: &str) -> Key {
    Key {
        resource: RESOURCE.to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

impl Yard {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlite::Options::new(folder.path().join("store.db"));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).unwrap());
        let resources = Resources::new(store, Arc::new(authorize::Rules));
        crate::first_objects(&resources).await.unwrap();
        let yard = Self {
            collector: Collector::new(resources, Progress::default()),
            _folder: folder,
        };
        let now = yard.collector.resources.store.revision().await.unwrap();
        for kind in yard.collector.kinds() {
            yard.collector.progress.begin(&kind.resource(), now);
        }
        yard
    }

    async fn make(&self, name: &str, owner: Option<&Value>) -> Value {
        let references: Vec<Value> = owner
            .map(|owner| {
                let metadata = &owner["metadata"];
                json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "name": metadata["name"], "uid": metadata["uid"], "blockOwnerDeletion": true})
            })
            .into_iter()
            .collect();
        let object = json!({"metadata": {"name": name, "ownerReferences": references}, "spec": {"runnerName": "elsewhere"}});
        let resources = &self.collector.resources;
        let kind = kind(resources, RESOURCE).unwrap();
        let target = target(kind, "default", "");
        let options = WriteOptions::default();
        let caller = &self.collector.caller;
        let written = resources.create(caller, &target, object, &options);
        written.await.unwrap().object
    }

    async fn delete(&self, name: &str, propagation: Propagation) {
        let resources = &self.collector.resources;
        let kind = kind(resources, RESOURCE).unwrap();
        let target = target(kind, "default", name);
        let options = deletion::Options {
            propagation: Some(propagation),
            ..deletion::Options::default()
        };
        let caller = &self.collector.caller;
        resources.delete(caller, &target, &options).await.unwrap();
    }

    /// Shows the collector an object as it is, as its feed would.
    async fn show(&self, name: &str) {
        let stored = self.collector.resources.store.get(key(name)).await.unwrap();
        let stored = stored.unwrap();
        let facts = Facts::read(&stored.data);
        self.collector.graph().note(&stored.key, &facts, false);
        self.collector.progress.reach(RESOURCE, stored.revision);
    }

    async fn activate(&self, name: &str) -> Outcome {
        let key = Arc::new(key(name));
        self.collector.activate(&key).await.unwrap()
    }

    async fn is_there(&self, name: &str) -> bool {
        let found = self.collector.read(&key(name)).await.unwrap();
        found.is_some()
    }
}

#[tokio::test]
async fn an_owner_is_not_let_go_before_everything_older_than_its_deletion_was_seen() {
    for propagation in [Propagation::Orphan, Propagation::Foreground] {
        let yard = Yard::new().await;
        let owner = yard.make("owner", None).await;
        yard.show("owner").await;
        yard.make("child", Some(&owner)).await;
        yard.delete("owner", propagation).await;
        // The child's creation is on its way.
        assert_eq!(yard.activate("owner").await, Outcome::After(owner::SOON));
        assert!(yard.is_there("owner").await);
        yard.show("child").await;
        yard.show("owner").await;
        assert_eq!(yard.activate("owner").await, Outcome::Done);
        let child = yard.collector.read(&key("child")).await.unwrap().unwrap();
        let orphaned = child.facts.owner_references.is_empty();
        assert_eq!(orphaned, propagation == Propagation::Orphan);
        assert_eq!(yard.is_there("owner").await, !orphaned);
    }
}

#[tokio::test]
async fn an_index_that_is_behind_deletes_nothing_whose_owner_is_there() {
    let yard = Yard::new().await;
    let owner = yard.make("owner", None).await;
    yard.make("child", Some(&owner)).await;
    yard.show("child").await;
    // Told of a deletion that was not one.
    let woken = yard
        .collector
        .graph()
        .remove(&key("owner"), owner["metadata"]["uid"].as_str());
    assert_eq!(woken.len(), 1);
    assert_eq!(yard.activate("child").await, Outcome::Done);
    assert!(yard.is_there("child").await);
}

#[tokio::test]
async fn one_that_was_written_since_it_was_read_is_read_again_before_it_is_deleted() {
    let yard = Yard::new().await;
    let owner = yard.make("owner", None).await;
    yard.make("child", Some(&owner)).await;
    yard.delete("owner", Propagation::Background).await;
    let read = yard.collector.read(&key("child")).await.unwrap().unwrap();
    // Somebody takes it from its owner meanwhile.
    let kept = vec![false];
    yard.collector.keep_references(&read, kept).await.unwrap();
    let refused = yard.collector.dependent(&read).await.unwrap_err();
    assert_eq!(refused.reason, "Conflict");
    assert_eq!(yard.activate("child").await, Outcome::Done);
    assert!(yard.is_there("child").await);
}

//! What is tried again and what is not.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::authorize::{self, Attributes, Authorizer, Decision, Foreseen, Known};
use crate::kinds::Kinds;
use crate::reviews::Review;
use boatyard_store::sqlite::{self, SqliteStore};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The rules, and how often they were asked: once an attempt.
#[derive(Default)]
struct Counted {
    rules: authorize::Rules,
    asked: AtomicUsize,
}

impl Authorizer for Counted {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.rules.authorize(attributes)
    }

    fn foresee(&self, attributes: &Attributes<'_>) -> Foreseen {
        self.rules.foresee(attributes)
    }

    fn authorize_path(&self, caller: &Caller, verb: &str, path: &str) -> Decision {
        self.rules.authorize_path(caller, verb, path)
    }

    fn authorize_review(&self, caller: &Caller, review: &Review) -> Decision {
        self.rules.authorize_review(caller, review)
    }

    fn known(&self, kinds: &Kinds, caller: &Caller, namespace: &str) -> Known {
        self.rules.known(kinds, caller, namespace)
    }
}

#[tokio::test]
async fn a_store_without_room_is_told_from_one_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlite::Options::new(folder.path().join("store.db"));
    let store = Arc::new(SqliteStore::open(options).unwrap());
    let resources = Resources::new(store, Arc::new(authorize::Rules));
    let target = Target {
        kind: resources.kinds.find("", "v1", "namespaces").unwrap(),
        namespace: "",
        name: "default",
        subresource: "",
    };
    let (place, what) = ("here".to_owned(), "so it is".to_owned());
    let full = boatyard_store::Error::Full {
        place: place.clone(),
        what: what.clone(),
        source: None,
    };
    let failing = boatyard_store::Error::Unavailable {
        place,
        what,
        source: None,
    };
    for (error, code, reason) in [
        (full, 507, "InsufficientStorage"),
        (failing, 503, "ServiceUnavailable"),
    ] {
        let told = Resources::store_failure(&target, "default", error);
        assert_eq!((told.code.as_u16(), told.reason), (code, reason));
        assert_eq!(told.message, "the store at here failed: so it is");
    }
}

#[tokio::test]
async fn only_a_write_that_another_outran_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlite::Options::new(folder.path().join("store.db"));
    let store = Arc::new(SqliteStore::open(options).unwrap());
    let counted = Arc::new(Counted::default());
    let resources = Resources::new(store, counted.clone());
    crate::first_objects(&resources).await.unwrap();
    let kinds = resources.kinds.clone();
    let target = Target {
        kind: kinds.find("", "v1", "namespaces").unwrap(),
        namespace: "",
        name: "default",
        subresource: "",
    };
    let (caller, options) = (Caller::internal("test"), WriteOptions::default());
    let before = resources.get(&caller, "get", &target).await.unwrap();

    let foreign = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "uid": "0"}});
    let asked = || counted.asked.swap(0, Ordering::SeqCst);
    asked();
    for patch in [
        Patch::Merge(foreign.clone()),
        Patch::Apply(foreign.clone(), false),
    ] {
        let refused = resources.patch(&caller, &target, &patch, &options).await;
        assert_eq!(refused.err().unwrap().reason, "Conflict", "{patch:?}");
        assert_eq!(asked(), 1, "{patch:?}");
    }
    let refused = resources.update(&caller, &target, foreign, &options).await;
    assert_eq!(refused.err().unwrap().reason, "Conflict");
    assert_eq!(asked(), 1);
    let after = resources.get(&caller, "get", &target).await.unwrap();
    assert_eq!(before, after);

    // Writers at the same time: all read the same version, one is first, none is lost.
    asked();
    let patches = (0..8).map(|number| {
        let label = json!({"metadata": {"labels": {(format!("l{number}")): "x"}}});
        let (resources, caller, target, options) = (&resources, &caller, &target, &options);
        async move {
            resources
                .patch(caller, target, &Patch::Merge(label), options)
                .await
        }
    });
    for written in futures::future::join_all(patches).await {
        written.unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert!(asked() > 8, "nobody was outrun");
    let after = resources.get(&caller, "get", &target).await.unwrap();
    let labels = after["metadata"]["labels"].as_object().unwrap();
    let ours = labels.keys().filter(|name| name.len() == 2);
    assert_eq!(ours.count(), 8);
}

//! Scaling a kind that only these tests have.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::authorize;
use crate::kinds::Kinds;
use boatyard_api::rules::Rules;
use boatyard_store::sqlite::{self, SqliteStore};
use http::StatusCode;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// So many hands.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "test.boatyard.dev",
    version = "v1",
    kind = "Crew",
    namespaced,
    status = "CrewStatus",
    scale(
        spec_replicas_path = ".spec.hands",
        status_replicas_path = ".status.hands",
        label_selector_path = ".status.selector"
    )
)]
struct CrewSpec {
    #[serde(default)]
    #[schemars(range(max = 100))]
    hands: i32,
    #[serde(default)]
    ship: String,
}

/// What there is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct CrewStatus {
    hands: i32,
    selector: String,
}

impl Rules for Crew {
    fn samples() -> [Self; 2] {
        [1, 2].map(|hands| {
            let ship = "hull".to_owned();
            Self::new("crew", CrewSpec { hands, ship })
        })
    }
}

struct Harbour {
    resources: Resources,
    caller: Caller,
    _folder: tempfile::TempDir,
}

impl Harbour {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlite::Options::new(folder.path().join("store.db"));
        let store = Arc::new(SqliteStore::open(options).unwrap());
        let mut resources = Resources::new(store, Arc::new(authorize::Rules));
        resources.kinds = Kinds::with::<Crew>();
        crate::first_objects(&resources).await.unwrap();
        let harbour = Self {
            resources,
            caller: Caller::internal("test"),
            _folder: folder,
        };
        let crew = json!({"metadata": {"name": "one"}, "spec": {"hands": 2, "ship": "Argo"}});
        let (resources, caller) = (&harbour.resources, &harbour.caller);
        let options = WriteOptions::default();
        let kinds = resources.kinds.clone();
        let all = Target {
            name: "",
            ..harbour.target(&kinds, "")
        };
        resources
            .create(caller, &all, crew, &options)
            .await
            .unwrap();
        let status =
            json!({"metadata": {"name": "one"}, "status": {"hands": 1, "selector": "crew=one"}});
        let target = harbour.target(&kinds, "status");
        resources
            .update(caller, &target, status, &options)
            .await
            .unwrap();
        harbour
    }

    fn target<'a>(&self, kinds: &'a Kinds, subresource: &'a str) -> Target<'a> {
        Target {
            kind: kinds.find("test.boatyard.dev", "v1", "crews").unwrap(),
            namespace: "default",
            name: "one",
            subresource,
        }
    }

    async fn scale(&self) -> Value {
        let kinds = self.resources.kinds.clone();
        let target = self.target(&kinds, "scale");
        self.resources.scale(&self.caller, &target).await.unwrap()
    }

    async fn rescale(&self, change: Change) -> Result<Value, Failure> {
        let kinds = self.resources.kinds.clone();
        let target = self.target(&kinds, "scale");
        let options = WriteOptions::default();
        let written = self
            .resources
            .rescale(&self.caller, &target, &change, &options);
        Ok(written.await?.object)
    }

    async fn crew(&self) -> Value {
        let kinds = self.resources.kinds.clone();
        let target = self.target(&kinds, "");
        self.resources
            .get(&self.caller, "get", &target)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_scale_shows_the_objects_numbers_and_writing_it_writes_the_wanted_one() {
    let harbour = Harbour::new().await;
    let before = harbour.crew().await;
    let scale = harbour.scale().await;
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["apiVersion"], "autoscaling/v1");
    assert_eq!(scale["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(scale["spec"], json!({"replicas": 2}));
    assert_eq!(
        scale["status"],
        json!({"replicas": 1, "selector": "crew=one"})
    );

    let mut whole = scale.clone();
    whole["spec"]["replicas"] = json!(5);
    let written = harbour.rescale(Change::Whole(whole.clone())).await.unwrap();
    assert_eq!(written["spec"]["replicas"], 5);
    let after = harbour.crew().await;
    assert_eq!(after["spec"], json!({"hands": 5, "ship": "Argo"}));
    assert_eq!(after["status"], before["status"]);
    assert_eq!(after["metadata"]["generation"], 2);
    // Of the version before.
    let stale = harbour.rescale(Change::Whole(whole)).await.unwrap_err();
    assert_eq!(stale.code, StatusCode::CONFLICT);

    let merge = Patch::Merge(json!({"spec": {"replicas": 7}}));
    harbour.rescale(Change::Patch(merge)).await.unwrap();
    assert_eq!(harbour.scale().await["spec"]["replicas"], 7);
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 7}, {"op": "replace", "path": "/spec/replicas", "value": 8}]);
    let patch = Patch::Json(serde_json::from_value(patch).unwrap());
    harbour.rescale(Change::Patch(patch)).await.unwrap();
    assert_eq!(harbour.crew().await["spec"]["hands"], 8);
}

#[tokio::test]
async fn what_is_no_scale_of_the_object_is_refused() {
    let harbour = Harbour::new().await;
    for (scale, code) in [
        (json!({"kind": "Crew", "spec": {"replicas": 1}}), 400),
        (
            json!({"metadata": {"name": "two"}, "spec": {"replicas": 1}}),
            400,
        ),
        (
            json!({"metadata": {"uid": "other"}, "spec": {"replicas": 1}}),
            409,
        ),
        (json!({"spec": {"replicas": -1}}), 422),
        (json!({"spec": {"replicas": "1"}}), 422),
        (json!({"spec": {"replicas": 101}}), 422),
        (json!([1]), 400),
    ] {
        let refused = harbour.rescale(Change::Whole(scale.clone())).await;
        assert_eq!(refused.unwrap_err().code, code, "{scale}");
    }
    assert_eq!(harbour.crew().await["spec"]["hands"], 2);
    assert_eq!(
        harbour.rescale(Change::Whole(json!({}))).await.unwrap()["spec"]["replicas"],
        0
    );
}

#[tokio::test]
async fn a_kind_that_can_be_scaled_says_so_and_others_have_none() {
    let kinds = Kinds::with::<Crew>();
    let documents = crate::discovery::Documents::new(&kinds);
    let list = documents.plain("/apis/test.boatyard.dev/v1");
    let mut listed = list["resources"].as_array().unwrap().iter();
    let scale = listed.find(|entry| entry["name"] == "crews/scale").unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["group"], "autoscaling");
    assert_eq!(scale["verbs"], json!(["get", "patch", "update"]));
    assert!(Kinds::default().iter().all(|kind| kind.scale.is_none()));
}

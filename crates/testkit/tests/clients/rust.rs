//! kube-rs: reflector, controller with finalizers, server-side apply, through restarts.

use crate::place::Place;
use boatyard_api::Environment;
use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn environment(name: &str) -> Environment {
    let object = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": name}, "spec": {"runnerName": "none"}});
    serde_json::from_value(object).unwrap()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflectors_stay_true_through_restarts_and_forgotten_history() {
    let mut place = Place::start();
    let api: Api<Environment> = Api::namespaced(place.kube(), "default");
    let post = PostParams::default();
    for name in ["a", "c"] {
        api.create(&post, &environment(name)).await.unwrap();
    }
    // One lists and then watches, the other has the list streamed.
    let mut stores = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for config in [
        watcher::Config::default().page_size(1),
        watcher::Config::default().streaming_lists(),
    ] {
        let (store, writer) = reflector::store::<Environment>();
        let stream = watcher(api.clone(), config)
            .reflect(writer)
            .default_backoff();
        tasks.spawn(stream.for_each(|_| async {}));
        stores.push(store);
    }
    let same = async || {
        let Ok(listed) = api.list(&kube::api::ListParams::default()).await else {
            return false;
        };
        let versions = |objects: Vec<Environment>| {
            let mut versions: Vec<_> = objects
                .iter()
                .map(|object| (object.name_any(), object.resource_version()))
                .collect();
            versions.sort();
            versions
        };
        let wanted = versions(listed.items);
        stores.iter().all(|store| {
            let known = store.state().into_iter().map(|object| (*object).clone());
            versions(known.collect()) == wanted
        })
    };
    until("the first list", &same).await;
    api.create(&post, &environment("b")).await.unwrap();
    until("an addition", &same).await;
    place.server.kill();
    place.server.again();
    api.delete("b", &DeleteParams::default()).await.unwrap();
    until("what came after a restart", &same).await;
    tokio::task::block_in_place(|| place.forgets_history());
    api.create(&post, &environment("d")).await.unwrap();
    until("what came after it was forgotten", &same).await;
    assert!(
        stores[0]
            .get(&ObjectRef::new("a").within("default"))
            .is_none()
    );
    assert!(
        stores[1]
            .get(&ObjectRef::new("d").within("default"))
            .is_some()
    );
}

/// Names of what was undone.
type Cleaned = Arc<std::sync::Mutex<Vec<String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_a_finalizer_does_and_undoes_through_a_restart() {
    let mut place = Place::start();
    let api: Api<Environment> = Api::namespaced(place.kube(), "default");
    let mut tasks = tokio::task::JoinSet::new();
    let cleaned = Cleaned::default();
    let context = (api.clone(), cleaned.clone());
    let reconcile = |object: Arc<Environment>, context: Arc<(Api<Environment>, Cleaned)>| async move {
        let (api, cleaned) = &*context;
        finalizer(api, "example.dev/finalizer", object, |event| async {
            match event {
                finalizer::Event::Apply(object) => {
                    let status = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "status": {"phase": "Running"}});
                    let by = PatchParams::apply("controller").force();
                    api.patch_status(&object.name_any(), &by, &Patch::Apply(status))
                        .await?;
                }
                finalizer::Event::Cleanup(object) => {
                    cleaned.lock().unwrap().push(object.name_any());
                }
            }
            Ok::<_, kube::Error>(Action::await_change())
        })
        .await
    };
    let controller = Controller::new(api.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_millis(100)),
            Arc::new(context),
        )
        .for_each(|_| async {});
    tasks.spawn(controller);

    let running = async |name: &str| {
        let object = api.get_opt(name).await.ok().flatten();
        object.is_some_and(|object| {
            !object.finalizers().is_empty()
                && serde_json::to_value(&object.status).unwrap()["phase"] == "Running"
        })
    };
    let post = PostParams::default();
    api.create(&post, &environment("a")).await.unwrap();
    until("the first object", async || running("a").await).await;
    place.server.kill();
    place.server.again();
    api.create(&post, &environment("b")).await.unwrap();
    until("an object after a restart", async || running("b").await).await;
    api.delete("a", &DeleteParams::default()).await.unwrap();
    until("the cleaning up", async || {
        matches!(api.get_opt("a").await, Ok(None))
    })
    .await;
    assert_eq!(*cleaned.lock().unwrap(), ["a"]);
}

#[tokio::test]
async fn server_side_apply_shares_an_object_among_managers() {
    let place = Place::start();
    let api: Api<Environment> = Api::namespaced(place.kube(), "default");
    let manifest = |image: &str| json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": "a"}, "spec": {"runnerName": "none", "devcontainer": {"image": image}}});
    let apply = async |manager: &str, force: bool, body: &serde_json::Value| {
        let mut parameters = PatchParams::apply(manager);
        parameters.force = force;
        api.patch("a", &parameters, &Patch::Apply(body)).await
    };
    apply("first", false, &manifest("image:1")).await.unwrap();
    let kube::Error::Api(refused) = apply("second", false, &manifest("image:2"))
        .await
        .unwrap_err()
    else {
        panic!("no answer of the API");
    };
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("first"), "{refused:?}");
    let causes = &refused.details.as_ref().unwrap().causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].field, ".spec.devcontainer.image");
    let forced = apply("second", true, &manifest("image:2")).await.unwrap();
    let managers: Vec<_> = forced
        .managed_fields()
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert_eq!(managers, ["first", "second"]);
    // What the first gives up stays, for it is the second's; what nobody has any more goes.
    let less = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": "a"}, "spec": {"runnerName": "none"}});
    let object = apply("first", false, &less).await.unwrap();
    let image = |object: &Environment| {
        serde_json::to_value(&object.spec).unwrap()["devcontainer"]["image"].clone()
    };
    assert_eq!(image(&object), "image:2");
    let object = apply("second", false, &less).await.unwrap();
    assert!(image(&object).is_null(), "{object:?}");
}

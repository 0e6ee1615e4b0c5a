//! Several servers on one store: one runs the controllers, whatever happens to it.

use crate::harness::*;
use boatyard_store::sqlite::{self, SqliteStore};
use boatyard_store::{Change, Scope, Store};
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-system/leases/controllers";
/// As long as no test waits.
const LONG: Duration = Duration::from_secs(3600);

fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn store() -> (Arc<tempfile::TempDir>, Arc<SqliteStore>) {
    let folder = folder();
    let options = sqlite::Options::new(folder.path().join("store.db"));
    (folder, Arc::new(SqliteStore::open(options).unwrap()))
}

async fn serve(
    folder: Arc<tempfile::TempDir>,
    store: &Arc<SqliteStore>,
    lease: Duration,
) -> Server {
    let seen = store.clone();
    Server::start_on(folder, store.clone(), seen, |options| options.lease = lease).await
}

/// Waits until the lease is as wanted.
async fn lease(store: &Arc<SqliteStore>, wanted: impl Fn(&Value) -> bool) -> Value {
    let scope = Scope {
        resource: "leases.coordination.k8s.io".to_owned(),
        namespace: Some("boatyard-system".to_owned()),
    };
    let mut events = store.watch(scope.clone(), None).await.unwrap();
    let now = store.list(scope, None, None, None).await.unwrap().stored();
    for stored in now {
        let object: Value = serde_json::from_slice(&stored.data).unwrap();
        if wanted(&object["spec"]) {
            return object["spec"].clone();
        }
    }
    loop {
        let event = within(events.next()).await.unwrap().unwrap();
        let object: Value = serde_json::from_slice(&event.object.data).unwrap();
        if event.change != Change::Deleted && wanted(&object["spec"]) {
            return object["spec"].clone();
        }
    }
}

fn held(spec: &Value) -> bool {
    spec["holderIdentity"]
        .as_str()
        .is_some_and(|holder| !holder.is_empty())
}

/// Has the controllers do something, through any server.
async fn controllers_work(server: &Server, name: &str) {
    let namespaces = "/api/v1/namespaces";
    let path = format!("{namespaces}?watch=true&fieldSelector=metadata.name%3D{name}");
    let mut watch = server.watch(&Who::Admin, &path).await;
    let made = json!({"metadata": {"name": name}});
    server.post(namespaces, made).await.ok();
    server.delete(&format!("{namespaces}/{name}")).await.ok();
    while watch.told().await != format!("DELETED {name}") {}
}

#[tokio::test]
async fn one_of_several_servers_runs_the_controllers_and_works_for_all() {
    let (_folder, store) = store();
    let first = serve(folder(), &store, LONG).await;
    let spec = lease(&store, held).await;
    assert_eq!(
        (&spec["leaseTransitions"], &spec["leaseDurationSeconds"]),
        (&json!(0), &json!(3600))
    );
    let second = serve(folder(), &store, LONG).await;
    for (server, name) in [(&first, "by-first"), (&second, "by-second")] {
        controllers_work(server, name).await;
    }
    let now = second.get(LEASE).await.ok();
    assert_eq!(now["spec"]["holderIdentity"], spec["holderIdentity"]);
}

#[tokio::test]
async fn a_server_that_ends_gives_the_lease_up_and_another_takes_it_at_once() {
    let (_folder, store) = store();
    let first = serve(folder(), &store, LONG).await;
    let before = lease(&store, held).await;
    let second = serve(folder(), &store, LONG).await;
    first.leave().await;
    let holder = before["holderIdentity"].clone();
    let after = lease(&store, |spec| {
        held(spec) && spec["holderIdentity"] != holder
    })
    .await;
    assert_eq!(after["leaseTransitions"], 1);
    controllers_work(&second, "one").await;
    // The last to end leaves it free.
    second.leave().await;
    let after = lease(&store, |spec| !held(spec)).await;
    assert_eq!(after["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_killed_server_is_succeeded_once_its_lease_ran_out() {
    let (_folder, store) = store();
    let time = Duration::from_secs(3);
    let first = serve(folder(), &store, time).await;
    let before = lease(&store, held).await;
    let second = serve(folder(), &store, time).await;
    let third = serve(folder(), &store, time).await;
    first.kill().await;
    let holder = before["holderIdentity"].clone();
    let last = lease(&store, held).await;
    let last = [before, last]
        .into_iter()
        .rfind(|spec| spec["holderIdentity"] == holder);
    let after = lease(&store, |spec| {
        held(spec) && spec["holderIdentity"] != holder
    })
    .await;
    // Not before it had to give up, were it alive.
    let moment = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let renewed = moment(&last.unwrap()["renewTime"]);
    let waited = moment(&after["acquireTime"]).duration_since(renewed);
    assert!(waited >= time.try_into().unwrap(), "{waited}");
    assert_eq!(after["leaseTransitions"], 1);
    for (server, name) in [(&second, "one"), (&third, "two")] {
        controllers_work(server, name).await;
    }
}

#[tokio::test]
async fn a_server_killed_and_started_again_does_not_wait_for_itself() {
    let (_folder, store) = store();
    let first = serve(folder(), &store, LONG).await;
    lease(&store, held).await;
    let folder = first.kill().await;
    let again = serve(folder, &store, LONG).await;
    controllers_work(&again, "one").await;
    let after = lease(&store, held).await;
    assert_eq!(after["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_deleted_lease_is_made_anew() {
    let (_folder, store) = store();
    let server = serve(folder(), &store, Duration::from_secs(3)).await;
    lease(&store, held).await;
    server.delete(LEASE).await.ok();
    lease(&store, held).await;
    controllers_work(&server, "one").await;
}

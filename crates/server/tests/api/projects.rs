//! Projects: what environments take from them.

use crate::harness::{ENVIRONMENTS, PATIENCE, Server, Who, at};
use serde_json::{Value, json};

const PROJECTS: &str = "/apis/boatyard.dev/v1/namespaces/default/projects";

fn project() -> Value {
    json!({"metadata": {"name": "hull"}, "spec": {
        "source": {"git": {"url": "https://git.example.org/hull.git", "ref": "main"}},
        "className": "large", "devcontainer": {"path": "dev/devcontainer.json"}}})
}

fn of_project(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": spec});
    object["spec"]["projectName"] = json!("hull");
    object["spec"]["runnerName"] = json!("elsewhere");
    object
}

#[tokio::test]
async fn an_environment_takes_from_its_project_what_it_leaves_out_once() {
    let server = Server::start().await;
    let refused = server.post(ENVIRONMENTS, of_project("a", json!({}))).await;
    let message = refused.refused(422, "Invalid");
    assert!(
        message.contains("spec.projectName: Not found: \"hull\": there is no such project"),
        "{message}"
    );
    server.post(PROJECTS, project()).await.ok();
    let made = server.post(ENVIRONMENTS, of_project("a", json!({}))).await;
    let spec = made.ok()["spec"].clone();
    assert_eq!(spec["source"], project()["spec"]["source"]);
    assert_eq!(spec["className"], "large");
    assert_eq!(spec["devcontainer"]["path"], "dev/devcontainer.json");
    let own = json!({"source": {"git": {"url": "https://git.example.org/mast.git"}}, "className": "small", "devcontainer": {"image": "mast"}});
    let made = server
        .post(ENVIRONMENTS, of_project("b", own.clone()))
        .await;
    let spec = made.ok()["spec"].clone();
    for (member, value) in own.as_object().unwrap() {
        assert_eq!(&spec[member], value);
    }
    // Later changes are for later environments; the bond stays.
    let next = json!({"spec": {"className": "huge"}});
    let path = format!("{PROJECTS}/hull");
    server.patch(&path, next).await.ok();
    let kept = server.get(&at("a")).await.ok();
    assert_eq!(kept["spec"]["className"], "large");
    let away = json!({"spec": {"projectName": null}});
    server.patch(&at("a"), away).await.refused(422, "Invalid");

    let chosen = format!("{ENVIRONMENTS}?fieldSelector=spec.projectName%3Dhull");
    let list = server.get(&chosen).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let counted = async |wanted: u64| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let project = server.get(&path).await.ok();
            if project["status"] == json!({"environments": wanted, "observedGeneration": 2}) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{project}");
            tokio::task::yield_now().await;
        }
    };
    counted(2).await;
    server.delete(&at("b")).await.ok();
    counted(1).await;

    // Without its project an environment goes on, and can be written.
    server.delete(&path).await.ok();
    server.get(&path).await.refused(404, "NotFound");
    let stop = json!({"spec": {"state": "Stopped"}});
    server.patch(&at("a"), stop).await.ok();
}

#[tokio::test]
async fn projects_are_administrators_and_read_by_those_who_make_environments() {
    let server = Server::start().await;
    server.post(PROJECTS, project()).await.ok();
    let user = Who::User(1000);
    let path = format!("{PROJECTS}/hull");
    server.ask(&user, "GET", &path, Value::Null).await.ok();
    let write = server.ask(&user, "PATCH", &path, json!({"spec": {"className": "x"}}));
    write.await.refused(403, "Forbidden");
    let everywhere = "/apis/boatyard.dev/v1/projects";
    let list = server.ask(&user, "GET", everywhere, Value::Null).await;
    list.refused(403, "Forbidden");
    let mut taken = json!({"metadata": {"name": "mine"}, "spec": {"projectName": "hull"}});
    taken["spec"]["state"] = json!("Stopped");
    let made = server.ask(&user, "POST", ENVIRONMENTS, taken).await.ok();
    assert_eq!(made["spec"]["owner"]["uid"], 1000);
    assert_eq!(made["spec"]["className"], "large");
}

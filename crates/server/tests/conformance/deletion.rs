//! Deleting: preconditions, finalizers, collections.

use crate::harness::{Who, names};
use crate::subject::every;
use serde_json::json;

#[tokio::test]
async fn preconditions_of_a_deletion_are_kept() {
    every(async |server, subject| {
        let object = subject.create(server, "guarded").await;
        let delete = async |preconditions| {
            let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
            server.ask(&Who::Admin, "DELETE", &subject.at("guarded"), body).await
        };
        let other = json!({"uid": "00000000-0000-0000-0000-000000000000"});
        subject.refused(delete(other).await, 409, "Conflict");
        subject.refused(delete(json!({"resourceVersion": "1"})).await, 409, "Conflict");
        delete(json!({"uid": object["metadata"]["uid"]})).await.ok();
        subject.gone(server, "guarded").await;
        let missing = server.delete(&subject.at("guarded")).await;
        subject.refused(missing, 404, "NotFound");
    })
    .await;
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    every(async |server, subject| {
        let mut object = subject.first("held");
        object["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
        server.post(&subject.all, object).await.ok();
        server.delete(&subject.at("held")).await.ok();
        let marked = server.get(&subject.at("held")).await.ok();
        assert!(
            marked["metadata"]["deletionTimestamp"].is_string(),
            "{}",
            subject.name()
        );
        // Again changes nothing.
        server.delete(&subject.at("held")).await.ok();
        let again = server.get(&subject.at("held")).await.ok();
        assert_eq!(
            again["metadata"]["deletionTimestamp"],
            marked["metadata"]["deletionTimestamp"]
        );
        let finalizers = |list| json!({"metadata": {"finalizers": list}});
        let more = finalizers(json!(["example.com/a", "example.com/b", "example.com/c"]));
        let refused = server.patch(&subject.at("held"), more).await;
        assert!([403, 422].contains(&refused.status.as_u16()), "{refused:?}");
        let fewer = finalizers(json!(["example.com/b"]));
        server.patch(&subject.at("held"), fewer).await.ok();
        server.get(&subject.at("held")).await.ok();
        server
            .patch(&subject.at("held"), finalizers(json!([])))
            .await
            .ok();
        subject.gone(server, "held").await;
    })
    .await;
}

#[tokio::test]
async fn a_collection_is_deleted_as_selected() {
    every(async |server, subject| {
        for (name, tier) in [("a", "gone"), ("b", "gone"), ("c", "kept")] {
            subject.labelled(server, name, tier).await;
        }
        let path = format!("{}?labelSelector=tier%3Dgone", subject.all);
        let deleted = server.delete(&path).await;
        if !subject.kind.verbs().contains(&"deletecollection") {
            subject.refused(deleted, 405, "MethodNotAllowed");
            return;
        }
        deleted.ok();
        subject.gone(server, "a").await;
        subject.gone(server, "b").await;
        let left = server.get(&subject.all).await.ok();
        assert!(names(&left).contains(&"c"), "{}", subject.name());
        let path = format!("{}?fieldSelector=metadata.name%3Dc", subject.all);
        server.delete(&path).await.ok();
        subject.gone(server, "c").await;
    })
    .await;
}

//! A kind under test, and the loop over all of them.

use crate::harness::{Answer, PATIENCE, Server};
use boatyard_server::kinds::{Kind, Kinds};
use serde_json::{Value, json};

/// A kind, and where its objects are.
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a Kind,
    /// Two objects, the first of which may be changed to the second. Without names.
    pub(crate) samples: [Value; 2],
    /// Path of the collection: in the default namespace, where there are namespaces.
    pub(crate) all: String,
}

/// Every kind that discovery names, against what is registered.
pub(crate) async fn served(server: &Server) -> Vec<(String, Value)> {
    let mut versions = vec![("/api/v1".to_owned(), String::new())];
    let groups = server.get("/apis").await.ok();
    for group in groups["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let version = version["groupVersion"].as_str().unwrap();
            versions.push((format!("/apis/{version}"), version.to_owned()));
        }
    }
    let mut found = Vec::new();
    for (path, _) in versions {
        let list = server.get(&path).await.ok();
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let verbs = resource["verbs"].as_array().unwrap();
            // Reviews are answered and never stored.
            if !name.contains('/') && verbs.contains(&json!("get")) {
                found.push((path.clone(), resource.clone()));
            }
        }
    }
    found
}

/// Starts a server and holds a convention against every kind that it serves.
pub(crate) async fn every(test: impl AsyncFn(&Server, &Subject<'_>)) {
    let server = Server::start().await;
    let kinds = Kinds::default();
    let served = served(&server).await;
    assert_eq!(served.len(), kinds.iter().count(), "{served:?}");
    for (path, resource) in served {
        let (group, version) = match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..]
        {
            ["api", version] => ("", version),
            ["apis", group, version] => (group, version),
            _ => unreachable!(),
        };
        let plural = resource["name"].as_str().unwrap();
        let kind = kinds.find(group, version, plural).expect(plural);
        let all = if kind.namespaced {
            format!("{path}/namespaces/default/{plural}")
        } else {
            format!("{path}/{plural}")
        };
        let samples = kind.samples();
        assert_ne!(samples[0], samples[1], "{plural}: the samples are the same");
        test(&server, &Subject { kind, samples, all }).await;
    }
    server.stop().await;
}

/// A sample by another name.
fn renamed(sample: &Value, name: &str) -> Value {
    let mut object = sample.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|member, _| ["labels", "annotations"].contains(&member.as_str()));
    metadata.insert("name".to_owned(), name.into());
    object
}

impl Subject<'_> {
    /// For the message of a failure.
    pub(crate) fn name(&self) -> &str {
        &self.kind.plural
    }

    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.all)
    }

    pub(crate) fn status_at(&self, name: &str) -> String {
        format!("{}/{name}/status", self.all)
    }

    /// The first sample by a name.
    pub(crate) fn first(&self, name: &str) -> Value {
        renamed(&self.samples[0], name)
    }

    /// The second sample by a name.
    pub(crate) fn second(&self, name: &str) -> Value {
        renamed(&self.samples[1], name)
    }

    /// What of the sample is not status.
    pub(crate) fn wanted(object: &Value) -> Value {
        let mut wanted = object.clone();
        let members = wanted.as_object_mut().unwrap();
        members.retain(|member, _| {
            !["metadata", "status", "apiVersion", "kind"].contains(&member.as_str())
        });
        wanted
    }

    /// Creates the first sample by a name.
    pub(crate) async fn create(&self, server: &Server, name: &str) -> Value {
        let answer = server.post(&self.all, self.first(name)).await;
        assert_eq!(answer.status, 201, "{}: {answer:?}", self.name());
        answer.json
    }

    /// Creates the first sample with a label.
    pub(crate) async fn labelled(&self, server: &Server, name: &str, tier: &str) -> Value {
        let mut object = self.first(name);
        object["metadata"]["labels"]["tier"] = tier.into();
        server.post(&self.all, object).await.ok()
    }

    /// Deletes, and waits until it is gone.
    pub(crate) async fn delete(&self, server: &Server, name: &str) {
        server.delete(&self.at(name)).await.ok();
        self.gone(server, name).await;
    }

    /// Waits until there is no such object: what contains others goes after them.
    pub(crate) async fn gone(&self, server: &Server, name: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = server.get(&self.at(name)).await;
            if found.status == 404 {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Replaces an object by what `change` makes of it; before and after. Controllers write too, so
    /// that it may take more than one try.
    pub(crate) async fn rewrite(
        &self,
        server: &Server,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> (Value, Value) {
        loop {
            let before = server.get(&self.at(name)).await.ok();
            let mut object = before.clone();
            change(&mut object);
            let answer = server.put(&self.at(name), object).await;
            if answer.status != 409 {
                return (before, answer.ok());
            }
        }
    }

    /// Checks a failure, whole: the shape clients parse and switch on.
    #[track_caller]
    pub(crate) fn refused(&self, answer: Answer, code: u16, reason: &str) -> String {
        let status = &answer.json;
        let about = format!("{}: {answer:?}", self.name());
        assert_eq!(answer.status.as_u16(), code, "{about}");
        assert_eq!(status["kind"], "Status", "{about}");
        assert_eq!(status["apiVersion"], "v1", "{about}");
        assert_eq!(status["status"], "Failure", "{about}");
        assert_eq!(status["code"], code, "{about}");
        assert_eq!(status["reason"], reason, "{about}");
        let message = status["message"].as_str().expect(&about);
        assert!(!message.is_empty(), "{about}");
        if reason == "Invalid" {
            let causes = status["details"]["causes"].as_array().expect(&about);
            for cause in causes {
                assert!(
                    cause["reason"].is_string() && cause["message"].is_string(),
                    "{about}"
                );
                assert!(cause["field"].is_string(), "{about}");
            }
        }
        message.to_owned()
    }
}

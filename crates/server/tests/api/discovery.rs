//! Discovery as old and new clients ask for it.

use crate::harness::{Server, Who, within};
use http::Method;
use serde_json::{Value, json};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[tokio::test]
async fn both_forms_tell_of_the_same_resources() {
    let server = Server::start().await;
    for accept in [V2, V2BETA1] {
        let mut aggregated = Vec::new();
        for path in ["/api", "/apis"] {
            let headers = [("accept", accept)];
            let answer = server.tell(&Who::Admin, "GET", path, &headers, "").await;
            assert_eq!(answer.headers["content-type"], accept);
            let list = answer.ok();
            assert_eq!(list["kind"], "APIGroupDiscoveryList");
            for group in list["items"].as_array().unwrap() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in group["versions"].as_array().unwrap() {
                    assert_eq!(version["freshness"], "Current");
                    for resource in version["resources"].as_array().unwrap() {
                        let namespaced = resource["scope"] == "Namespaced";
                        let plural = resource["resource"].as_str().unwrap();
                        aggregated.push(json!([
                            name,
                            plural,
                            namespaced,
                            resource["responseKind"]["kind"],
                            resource["verbs"],
                            resource["shortNames"],
                            resource["categories"],
                            resource["singularResource"]
                        ]));
                        for below in resource["subresources"].as_array().into_iter().flatten() {
                            let plural =
                                format!("{plural}/{}", below["subresource"].as_str().unwrap());
                            aggregated.push(json!([
                                name,
                                plural,
                                namespaced,
                                below["responseKind"]["kind"],
                                below["verbs"],
                                null,
                                null,
                                ""
                            ]));
                        }
                    }
                }
            }
        }
        let mut plain = Vec::new();
        let mut versions = vec![(String::new(), "/api/v1".to_owned())];
        let groups = server.get("/apis").await.ok();
        for group in groups["groups"].as_array().unwrap() {
            let preferred = group["preferredVersion"]["groupVersion"].as_str().unwrap();
            versions.push((
                group["name"].as_str().unwrap().to_owned(),
                format!("/apis/{preferred}"),
            ));
        }
        for (group, path) in versions {
            let list = server.get(&path).await.ok();
            for resource in list["resources"].as_array().unwrap() {
                plain.push(json!([
                    group,
                    resource["name"],
                    resource["namespaced"],
                    resource["kind"],
                    resource["verbs"],
                    resource["shortNames"],
                    resource["categories"],
                    resource["singularName"]
                ]));
            }
        }
        assert!(plain.len() > 15);
        assert_eq!(aggregated, plain);
    }
}

#[tokio::test]
async fn the_preferred_form_that_is_served_is_chosen() {
    let server = Server::start().await;
    let form = async |accept: &str, path: &str| {
        let headers = [("accept", accept)];
        let answer = server.tell(&Who::Admin, "GET", path, &headers, "").await;
        answer.headers["content-type"].to_str().unwrap().to_owned()
    };
    let plain = "application/json";
    for (accept, wanted) in [
        (format!("{V2},{V2BETA1},{plain}"), V2),
        (format!("{V2BETA1},{V2},{plain}"), V2BETA1),
        (format!("{V2};q=0.5,{V2BETA1};q=0.8,{plain};q=0.1"), V2BETA1),
        (format!("{V2};q=0,{plain}"), plain),
        (
            format!("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,{plain}"),
            plain,
        ),
        (
            format!("application/vnd.kubernetes.protobuf,{plain}"),
            plain,
        ),
        ("*/*".to_owned(), plain),
        ("application/yaml".to_owned(), "application/yaml"),
    ] {
        assert_eq!(form(&accept, "/apis").await, wanted, "{accept}");
    }
    // Other documents have no aggregated form.
    assert_eq!(
        form(&format!("{V2},{plain}"), "/apis/boatyard.dev").await,
        plain
    );
    let headers = [("accept", V2)];
    let answer = server.tell(&Who::Admin, "GET", "/version", &headers, "");
    answer.await.refused(406, "NotAcceptable");
}

#[tokio::test]
async fn who_has_a_document_is_not_sent_it_again() {
    let server = Server::start().await;
    for (path, accept) in [
        ("/apis", V2),
        ("/api", V2BETA1),
        ("/openapi/v2", "application/json"),
        ("/openapi/v3", "application/json"),
        ("/openapi/v3/api/v1", "application/json"),
    ] {
        let ask = async |known: &str| {
            let headers = [("accept", accept), ("if-none-match", known)];
            server.tell(&Who::Admin, "GET", path, &headers, "").await
        };
        let first = ask("\"something-else\"").await;
        assert_eq!(first.status, 200);
        let etag = first.headers["etag"].to_str().unwrap();
        assert!(etag.starts_with('"') && etag.len() > 30, "{etag}");
        assert!(first.headers["vary"].to_str().unwrap().contains("Accept"));
        let second = ask(etag).await;
        assert_eq!((second.status.as_u16(), second.text.as_str()), (304, ""));
        assert_eq!(second.headers["etag"], etag);
        let among = ask(&format!("\"x\", W/{etag}")).await;
        assert_eq!(among.status, 304);
    }
}

#[tokio::test]
async fn paths_are_listed_and_every_one_answers() {
    let server = Server::start().await;
    let root = server.get("/").await.ok();
    let paths = root["paths"].as_array().unwrap();
    let paths: Vec<&str> = paths.iter().map(|path| path.as_str().unwrap()).collect();
    assert!(paths.contains(&"/apis/boatyard.dev/v1") && paths.contains(&"/readyz/store"));
    assert!(paths.is_sorted());
    for path in paths {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = server.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            let head = server.ask(&Who::Admin, "HEAD", &path, Value::Null).await;
            assert_eq!(
                (head.status.as_u16(), head.text.as_str()),
                (200, ""),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn version_names_kubernetes_and_ours() {
    let server = Server::start().await;
    let mut request = http::Request::new(http_body_util::Full::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = "/version".parse().unwrap();
    let response = within(server.send(&Who::User(1000), request)).await;
    assert_eq!(response.status(), 200);
    let version = server.get("/version").await.ok();
    assert_eq!(
        (&version["major"], &version["minor"]),
        (&json!("1"), &json!("36"))
    );
    assert!(
        version["gitVersion"]
            .as_str()
            .unwrap()
            .contains("+boatyard.")
    );
}

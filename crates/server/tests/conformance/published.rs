//! What the server publishes of each kind: discovery and schemas.

use crate::harness::Server;
use crate::subject::{every, served};
use serde_json::{Value, json};

#[tokio::test]
async fn discovery_names_every_kind_with_its_verbs_and_status() {
    every(async |server, subject| {
        let kind = subject.kind;
        let (path, entry) = served(server)
            .await
            .into_iter()
            .find(|(_, entry)| {
                entry["name"] == kind.plural.as_str() && entry["kind"] == kind.kind.as_str()
            })
            .unwrap();
        assert_eq!(entry["singularName"], kind.singular.as_str());
        assert_eq!(entry["namespaced"], kind.namespaced);
        assert_eq!(entry["verbs"], json!(kind.verbs()), "{}", kind.plural);
        let texts = |texts: &[String]| {
            if texts.is_empty() {
                Value::Null
            } else {
                json!(texts)
            }
        };
        assert_eq!(entry["shortNames"], texts(&kind.short_names));
        assert_eq!(entry["categories"], texts(&kind.categories));
        let list = server.get(&path).await.ok();
        let status = json!(format!("{}/status", kind.plural));
        let mut resources = list["resources"].as_array().unwrap().iter();
        let found = resources.find(|resource| resource["name"] == status);
        assert_eq!(found.is_some(), kind.has_status, "{}", kind.plural);
    })
    .await;
}

/// Follows references, and checks that every field is described.
fn described(schemas: &Value, schema: &Value, path: &str, depth: usize) -> usize {
    assert!(depth < 40, "{path} has no end");
    let follow = |schema: &Value| -> Option<Value> {
        let reference = schema["$ref"].as_str()?;
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(
            schemas[name].is_object(),
            "{path} refers to {name}, which is not there"
        );
        Some(schemas[name].clone())
    };
    if let Some(found) = follow(schema) {
        return described(schemas, &found, path, depth + 1);
    }
    let mut many = 0;
    for one in schema["allOf"].as_array().into_iter().flatten() {
        many += described(schemas, one, path, depth + 1);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let joined = field["allOf"].as_array().into_iter().flatten();
        let mut said = std::iter::once(field).chain(joined).map(|schema| {
            let followed = follow(schema).unwrap_or_default();
            let text = |schema: &Value| schema["description"].as_str().map(str::to_owned);
            text(schema).or_else(|| text(&followed)).unwrap_or_default()
        });
        assert!(
            said.any(|text| !text.is_empty()),
            "{path} has no description"
        );
        many += 1 + described(schemas, field, &path, depth + 1);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            many += described(schemas, &schema[below], &format!("{path}[]"), depth + 1);
        }
    }
    many
}

async fn openapi(server: &Server, group: &str, version: &str) -> Value {
    let index = server.get("/openapi/v3").await.ok();
    let path = if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    };
    let url = index["paths"][&path]["serverRelativeURL"]
        .as_str()
        .expect(&path);
    server.get(url).await.ok()
}

#[tokio::test]
async fn openapi_describes_every_field_of_every_kind() {
    every(async |server, subject| {
        let kind = subject.kind;
        let document = openapi(server, &kind.group, &kind.version).await;
        let schemas = &document["components"]["schemas"];
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let mut all = schemas.as_object().unwrap().values();
        let schema = all
            .find(|schema| {
                let kinds = schema["x-kubernetes-group-version-kind"].as_array();
                kinds.is_some_and(|kinds| kinds.contains(&gvk))
            })
            .unwrap_or_else(|| panic!("OpenAPI has no {gvk}"));
        let fields = described(schemas, schema, &kind.kind, 0);
        assert!(fields > 15, "{} has {fields} fields", kind.kind);
        let path = if kind.namespaced {
            let all = subject
                .all
                .replace("namespaces/default", "namespaces/{namespace}");
            format!("{all}/{{name}}")
        } else {
            subject.at("{name}")
        };
        for method in ["get", "put", "patch", "delete"] {
            assert!(
                document["paths"][&path][method].is_object(),
                "{method} {path}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn tables_and_metadata_are_had_of_every_kind() {
    every(async |server, subject| {
        let object = subject.create(server, "shown").await;
        let get = async |path: &str, accept: &str| {
            let admin = crate::harness::Who::Admin;
            server
                .tell(&admin, "GET", path, &[("accept", accept)], "")
                .await
                .ok()
        };
        let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        for path in [subject.at("shown"), subject.all.clone()] {
            let table = get(&path, as_table).await;
            assert_eq!(table["kind"], "Table", "{path}");
            let columns = table["columnDefinitions"].as_array().unwrap();
            let mut names = columns.iter();
            let name = names
                .position(|column| column["format"] == "name")
                .expect(&path);
            assert!(
                columns
                    .iter()
                    .all(|column| column["description"].is_string())
            );
            assert!(columns.iter().any(|column| column["priority"] == 0));
            let rows = table["rows"].as_array().unwrap();
            let row = rows
                .iter()
                .find(|row| row["cells"][name] == "shown")
                .expect(&path);
            assert_eq!(
                row["cells"].as_array().unwrap().len(),
                columns.len(),
                "{path}"
            );
            assert_eq!(row["object"]["kind"], "PartialObjectMetadata", "{path}");
        }
        let partial = get(
            &subject.at("shown"),
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        )
        .await;
        assert_eq!(partial["kind"], "PartialObjectMetadata");
        assert_eq!(partial["metadata"]["uid"], object["metadata"]["uid"]);
        assert!(partial["spec"].is_null());
        let list = get(
            &subject.all,
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        )
        .await;
        assert_eq!(list["kind"], "PartialObjectMetadataList");
    })
    .await;
}

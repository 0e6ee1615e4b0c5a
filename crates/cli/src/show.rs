//! `ls`, `get`, `describe`: what there is, as the server's own tables or whole objects.

use crate::args::{Format, Get, Global, Ls, Output};
use crate::connect;
use crate::failure::Failure;
use crate::output;
use http::Request;
use kube::Client;
use serde_json::Value;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A resource as discovery tells it.
struct Resource {
    path: String,
    kind: String,
    namespaced: bool,
}

/// `boatyard ls`.
pub(crate) async fn list(global: &Global, ls: &Ls) -> Result<(), Failure> {
    let get = Get {
        kind: "environments".into(),
        name: None,
        all_namespaces: ls.all_namespaces,
        selector: None,
        output: ls.output.clone(),
    };
    self::get(global, &get).await
}

/// `boatyard get`.
pub(crate) async fn get(global: &Global, get: &Get) -> Result<(), Failure> {
    let client = connect::endpoint(global).await?.kube();
    let resource = find(&client, &get.kind).await?;
    let mut path = resource.path.clone();
    if resource.namespaced && !get.all_namespaces {
        let (group, plural) = path.rsplit_once('/').unwrap_or(("", &path));
        path = format!("{group}/namespaces/{}/{plural}", global.namespace);
    }
    if let Some(name) = &get.name {
        path = format!("{path}/{name}");
    }
    if let Some(selector) = &get.selector {
        let encoded: String = selector
            .bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
        path = format!("{path}?labelSelector={encoded}");
    }
    match get.output.format {
        Some(Format::Json) => output::json(&fetch(&client, &path, "application/json").await?),
        Some(Format::Yaml) => output::yaml(&fetch(&client, &path, "application/json").await?),
        Some(Format::Name) => names(&fetch(&client, &path, "application/json").await?, &resource),
        None | Some(Format::Wide) => table(&fetch(&client, &path, TABLE).await?, get),
    }
}

async fn fetch(client: &Client, path: &str, accept: &str) -> Result<Value, Failure> {
    let request = Request::get(path)
        .header("accept", accept)
        .body(Vec::new())
        .map_err(|error| Failure::from_error(&error))?;
    let mut value: Value = client.request(request).await?;
    // Who wrote which field is for programs: kubectl hides it as well.
    let hide = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(hide);
    } else if value.get("metadata").is_some() {
        hide(&mut value);
    }
    Ok(value)
}

/// Finds a resource by plural, singular, kind or short name.
async fn find(client: &Client, wanted: &str) -> Result<Resource, Failure> {
    let wanted = wanted.to_ascii_lowercase();
    let mut known = Vec::new();
    for prefix in [
        "/apis/boatyard.dev/v1",
        "/api/v1",
        "/apis/coordination.k8s.io/v1",
    ] {
        let list = fetch(client, prefix, "application/json").await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let plural = resource["name"].as_str().unwrap_or_default();
            if plural.contains('/') {
                continue;
            }
            let kind = resource["kind"].as_str().unwrap_or_default();
            let short = resource["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|name| name == &Value::String(wanted.clone()));
            if plural == wanted
                || kind.to_ascii_lowercase() == wanted
                || resource["singularName"] == wanted
                || short
            {
                let namespaced = resource["namespaced"].as_bool().unwrap_or_default();
                return Ok(Resource {
                    path: format!("{prefix}/{plural}"),
                    kind: kind.to_ascii_lowercase(),
                    namespaced,
                });
            }
            known.push(plural.to_owned());
        }
    }
    Err(Failure::new(format!("the server has no resource {wanted}"))
        .hint(format!("it has: {}", known.join(", "))))
}

fn names(value: &Value, resource: &Resource) -> Result<(), Failure> {
    let one = [value.clone()];
    let items = value["items"]
        .as_array()
        .map_or(one.as_slice(), Vec::as_slice);
    let lines = items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .map(|name| format!("{}/{name}\n", resource.kind));
    output::print(&lines.collect::<String>())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) if text.is_empty() => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table(value: &Value, get: &Get) -> Result<(), Failure> {
    let wide = get.output.format == Some(Format::Wide);
    let columns = value["columnDefinitions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shown: Vec<usize> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or_default() == 0)
        .map(|(number, _)| number)
        .collect();
    let mut headers: Vec<String> = shown
        .iter()
        .map(|number| {
            columns[*number]["name"]
                .as_str()
                .unwrap_or_default()
                .to_uppercase()
        })
        .collect();
    let rows = value["rows"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        eprintln!("there are none");
        return Ok(());
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in &rows {
        let mut cells: Vec<String> = shown
            .iter()
            .map(|number| cell(&row["cells"][*number]))
            .collect();
        if get.all_namespaces {
            cells.insert(0, cell(&row["object"]["metadata"]["namespace"]));
        }
        lines.push(cells);
    }
    if get.all_namespaces {
        headers.insert(0, "NAMESPACE".into());
    }
    output::table(&headers, &lines)
}

/// `boatyard describe`.
pub(crate) async fn describe(
    global: &Global,
    kind: &str,
    name: Option<&str>,
) -> Result<(), Failure> {
    let client = connect::endpoint(global).await?.kube();
    let (kind, name) = name.map_or(("environment", kind), |name| (kind, name));
    let resource = find(&client, kind).await?;
    let mut path = resource.path.clone();
    if resource.namespaced {
        let (group, plural) = path.rsplit_once('/').unwrap_or(("", &path));
        path = format!("{group}/namespaces/{}/{plural}", global.namespace);
    }
    let mut object = fetch(&client, &format!("{path}/{name}"), "application/json").await?;
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    output::yaml(&object)?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let events = format!(
        "/api/v1/namespaces/{}/events?fieldSelector=involvedObject.uid%3D{uid}",
        global.namespace
    );
    let events = fetch(&client, &events, "application/json").await?;
    let mut events: Vec<Value> = events["items"].as_array().cloned().unwrap_or_default();
    if events.is_empty() {
        return Ok(());
    }
    events.sort_by_key(|event| {
        event["lastTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    output::print("events:\n")?;
    let headers = ["WHEN", "TYPE", "REASON", "MESSAGE"].map(str::to_owned);
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            ["lastTimestamp", "type", "reason", "message"]
                .map(|key| cell(&event[key]))
                .to_vec()
        })
        .collect();
    output::table(&headers, &rows)
}

/// `-o json|yaml` of rows that are no API objects.
pub(crate) fn formatted(
    rows: &impl serde::Serialize,
    output: &Output,
    print: impl FnOnce(bool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match output.format {
        Some(Format::Json) => output::json(rows),
        Some(Format::Yaml) => output::yaml(rows),
        other => print(other == Some(Format::Wide)),
    }
}

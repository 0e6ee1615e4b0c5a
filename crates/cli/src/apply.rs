//! `boatyard apply -f`: objects from files, created or changed.
//!
//! Server-side apply: what an earlier file said and this one leaves out is taken away; what others
//! set stays, and where both say something, the file wins.

use crate::args::Global;
use crate::connect;
use crate::failure::Failure;
use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Applies every document of every file.
pub(crate) async fn run(global: &Global, files: &[PathBuf]) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for file in files {
        for document in serde_norway::Deserializer::from_str(&read(file)?) {
            let value = Value::deserialize(document)
                .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
            if !value.is_null() {
                objects.push((file, value));
            }
        }
    }
    let client = connect::endpoint(global).await?.kube();
    for (file, object) in objects {
        let done = one(&client, global, &object)
            .await
            .map_err(|failure| failure.prefixed(&file.display().to_string()))?;
        crate::output::print(&format!("{done}\n"))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    outcome.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    Ok(text)
}

async fn one(client: &Client, global: &Global, object: &Value) -> Result<String, Failure> {
    let text = |value: &Value, what: &str| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("the object has no {what}")))
    };
    let (version, kind) = (
        text(&object["apiVersion"], "apiVersion")?,
        text(&object["kind"], "kind")?,
    );
    let name = text(&object["metadata"]["name"], "metadata.name")?;
    let prefix = if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    };
    let request = |request: http::request::Builder, body: Vec<u8>| {
        request
            .body(body)
            .map_err(|error| Failure::from_error(&error))
    };
    let resources: Value = client
        .request(request(Request::get(&prefix), Vec::new())?)
        .await?;
    let resource = resources["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|resource| {
            resource["kind"] == kind && !resource["name"].as_str().unwrap_or_default().contains('/')
        });
    let resource = resource
        .ok_or_else(|| Failure::new(format!("the server has no kind {kind} in {version}")))?;
    let plural = resource["name"].as_str().unwrap_or_default();
    let collection = if resource["namespaced"] == true {
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(&global.namespace);
        format!("{prefix}/namespaces/{namespace}/{plural}")
    } else {
        format!("{prefix}/{plural}")
    };
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // Of an object as the server showed it: the server keeps that, nobody applies it.
        metadata.remove("managedFields");
    }
    let body = serde_json::to_vec(&object).map_err(|error| Failure::from_error(&error))?;
    let path = format!("{collection}/{name}");
    let done = match client
        .request::<Value>(request(Request::get(&path), Vec::new())?)
        .await
    {
        Ok(_) => "configured",
        Err(kube::Error::Api(status)) if status.code == 404 => "created",
        Err(error) => return Err(error.into()),
    };
    let query = "fieldManager=boatyard-apply&force=true&fieldValidation=Strict";
    let patch = Request::patch(format!("{path}?{query}"))
        .header("content-type", "application/apply-patch+yaml");
    client.request::<Value>(request(patch, body)?).await?;
    Ok(format!("{}/{name} {done}", kind.to_ascii_lowercase()))
}

//! The label `devcontainer.metadata` of an image that Features were installed in.

use super::Resolved;
use super::install::Users;
use crate::document::Document;
use crate::plan::RunPlan;
use serde_json::{Map, Value};

impl Resolved {
    /// Its entry of the label, as its author wrote it: variables are filled in by who reads it.
    pub fn label_entry(&self) -> Value {
        let mut entry = Map::from_iter([("id".to_owned(), self.id.clone().into())]);
        entry.extend(self.metadata.label.iter().cloned());
        Value::Object(entry)
    }
}

/// The label's text: the base image's entries, those of the Features in the order of installation
/// and, for an image that others are to use, the file's own. None when there is nothing to say.
pub fn metadata_label(
    base: Option<&str>,
    features: &[Resolved],
    file: Option<&Document>,
) -> Option<String> {
    // What cannot be read there has no effect now, and none in the image made from it.
    let mut entries = match base.and_then(|text| serde_json::from_str(text).ok()) {
        Some(Value::Array(entries)) => entries,
        Some(entry @ Value::Object(_)) => vec![entry],
        _ => Vec::new(),
    };
    entries.extend(features.iter().map(Resolved::label_entry));
    entries.extend(
        file.map(Document::label_entry)
            .filter(|entry| entry.as_object().is_some_and(|entry| !entry.is_empty())),
    );
    (!entries.is_empty()).then(|| Value::Array(entries).to_string())
}

/// The users Features are told of: the merged configuration's, then the image's, then root.
pub fn users(plan: &RunPlan, image_user: Option<&str>) -> Users {
    let name = |user: &str| user.split(':').next().unwrap_or_default().to_owned();
    let container = plan
        .container_user
        .as_deref()
        .or(image_user)
        .map(name)
        .filter(|user| !user.is_empty())
        .unwrap_or_else(|| "root".to_owned());
    let remote = plan.remote_user.as_deref().map_or(container.clone(), name);
    Users { container, remote }
}

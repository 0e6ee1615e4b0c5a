//! Namespaces: read by anybody on the host, some there for ever, gone only when empty.
//!
//! As in Kubernetes, a finalizer in the spec holds a deleted namespace until the controller that
//! empties it has removed it through the finalize subresource.

use super::behaviour::{Admission, Behaviour, Grant, READS, When};
use crate::failure::Failure;
use boatyard_api::DEFAULT_NAMESPACE;
use boatyard_api::words::{NAMESPACE_RUNNERS, NAMESPACE_SYSTEM};
use serde_json::{Value, json};

/// Label by which a namespace can be selected by name, as in Kubernetes.
const LABEL_NAME: &str = "kubernetes.io/metadata.name";

/// Finalizer in a namespace's spec for as long as there may be something in it.
pub(crate) const FINALIZER: &str = "kubernetes";

const ACCESS: &[Grant] = &[Grant::local("", READS, When::Always)];

#[derive(Debug)]
pub(crate) struct Namespaces;

impl Behaviour for Namespaces {
    fn access(&self) -> &'static [Grant] {
        ACCESS
    }

    fn names_are_labels(&self) -> bool {
        true
    }

    fn has_finalize(&self) -> bool {
        true
    }

    fn is_held(&self, object: &Value) -> bool {
        let held = object["spec"]["finalizers"].as_array();
        held.is_some_and(|held| !held.is_empty())
    }

    fn mark_deleted(&self, object: &mut Value) {
        // One of an earlier release: what is in it has to go nevertheless.
        if object["spec"]["finalizers"].is_null() {
            object["spec"]["finalizers"] = json!([FINALIZER]);
        }
        object["status"]["phase"] = json!("Terminating");
    }

    fn keep(&self, object: &mut Value, old: &Value) {
        object["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }

    fn deleted_one_by_one(&self) -> bool {
        true
    }

    fn admit(&self, admission: &mut Admission<'_>) -> Result<(), Failure> {
        let named = admission.old.unwrap_or(admission.object);
        let name = named["metadata"]["name"].clone();
        admission.object["metadata"]["labels"][LABEL_NAME] = name;
        if admission.old.is_none() {
            admission.object["status"] = json!({"phase": "Active"});
            let finalizers = admission.object["spec"]["finalizers"].as_array();
            let mut finalizers = finalizers.cloned().unwrap_or_default();
            if !finalizers.contains(&json!(FINALIZER)) {
                finalizers.push(json!(FINALIZER));
            }
            admission.object["spec"]["finalizers"] = json!(finalizers);
        }
        Ok(())
    }

    fn admit_deletion(&self, object: &Value) -> Result<(), Failure> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if [DEFAULT_NAMESPACE, NAMESPACE_RUNNERS, NAMESPACE_SYSTEM].contains(&name) {
            return Err(Failure::forbidden(format!(
                "the namespace {name} cannot be deleted"
            )));
        }
        Ok(())
    }
}

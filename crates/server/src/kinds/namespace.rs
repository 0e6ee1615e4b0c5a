//! Namespaces: read by anybody on the host, some there for ever.

use super::behaviour::{Admission, Behaviour, Grant, READS, When};
use crate::failure::Failure;
use boatyard_api::DEFAULT_NAMESPACE;
use boatyard_api::words::{NAMESPACE_RUNNERS, NAMESPACE_SYSTEM};
use serde_json::{Value, json};

/// Label by which a namespace can be selected by name, as in Kubernetes.
const LABEL_NAME: &str = "kubernetes.io/metadata.name";

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

    fn contains_others(&self) -> bool {
        true
    }

    fn admit(&self, admission: &mut Admission<'_>) -> Result<(), Failure> {
        let named = admission.old.unwrap_or(admission.object);
        let name = named["metadata"]["name"].clone();
        admission.object["metadata"]["labels"][LABEL_NAME] = name;
        if admission.old.is_none() {
            admission.object["status"] = json!({"phase": "Active"});
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

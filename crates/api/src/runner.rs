//! Runner: a host that runs environments.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an administrator wants of a runner.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "boatyard.dev",
    version = "v1",
    doc = "A host that runs environments.",
    kind = "Runner",
    plural = "runners",
    category = "boatyard",
    status = "RunnerStatus",
    derive = "PartialEq",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Kernel", type_ = "string", json_path = ".status.kernel"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".status.capacity.cpu"),
    printcolumn(
        name = "Unschedulable",
        type_ = "boolean",
        json_path = ".spec.unschedulable"
    ),
    printcolumn(
        name = "Architecture",
        type_ = "string",
        json_path = ".status.architecture",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerSpec {
    /// When true, no further environment is bound to it; those it has go on.
    #[serde(default)]
    pub unschedulable: bool,
    /// Where it is, for people and placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub region: Option<String>,
}

/// What a runner says of itself. Whether it is alive is told by its Lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunnerStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the boatyard binary.
    #[serde(default)]
    pub version: String,
    /// Kernel release, as `uname -r` prints it.
    #[serde(default)]
    pub kernel: String,
    /// Architecture in OCI's words, for example `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// What the host has: `cpu`, `memory`, `disk`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// Environments bound to it.
    #[serde(default)]
    pub environments: u32,
    /// Conditions: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

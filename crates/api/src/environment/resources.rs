//! `status.resources`: what an environment may use, what it uses, and why it is slowed.
//!
//! Written seldom and coarsely: what is live is asked of the runner (`boatyard top`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kills that are remembered.
pub const MOST_KILLS: usize = 8;

/// What an environment may use, what it uses, and why it is slowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesStatus {
    /// Processors it may use, as the kernel holds it to now; none of its own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory it may use, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Size of everything it writes, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Processes and threads it may have at once, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// What it used when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it is slowed, or soon may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub slowed: Vec<Slowed>,
    /// What its class says and does not apply yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending: Vec<Pending>,
    /// What was killed last because memory ran out, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub memory_kills: Vec<MemoryKill>,
}

/// What an environment used at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processors, over the last seconds.
    pub cpu: Quantity,
    /// Memory that could not be had back without swapping or killing.
    pub memory: Quantity,
    /// Processes and threads.
    pub pids: u32,
}

/// A reason why an environment is slowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slowed {
    /// Stable word: `CpuLimit`, `MemoryLimit`, `Processes`, `MemoryReclaim`.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// One sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Something of the class that does not apply to what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Field of the class: `resources.memory`, `isolation`.
    #[schemars(length(min = 1, max = 128))]
    pub field: String,
    /// Whether a restart is needed; otherwise it is tried again.
    pub needs_restart: bool,
    /// One sentence saying why not yet and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A process that was killed because memory ran out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryKill {
    /// When.
    pub at: Time,
    /// Its name; absent where the kernel's log cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub process: Option<String>,
    /// What it held that was its own, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// One sentence saying what was killed and why.
    #[schemars(length(max = 1024))]
    pub message: String,
}

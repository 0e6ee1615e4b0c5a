//! Environment: one development environment.
//!
//! The spec is what its owner wants; the status is computed by one function of the runner
//! (`runner::status`) and written through the status subresource by nobody else.

mod devcontainer;
mod ports;
mod resources;

pub use devcontainer::{
    Additional, Devcontainer, DevcontainerDefaults, Dotfiles, Lifecycle, UpdateRemoteUserUid,
    UserEnvProbe,
};
pub use ports::{OnAutoForward, PortStatus};
pub use resources::{MOST_KILLS, MemoryKill, Pending, ResourcesStatus, Slowed, Usage};

use crate::egress::{Egress, EgressMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the owner of an environment wants.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "boatyard.dev",
    version = "v1",
    doc = "One development environment: what it is made of, and whether it runs.",
    kind = "Environment",
    plural = "environments",
    shortname = "env",
    category = "boatyard",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    selectable = ".spec.runnerName",
    selectable = ".spec.projectName",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".spec.source.folder.path|.spec.source.git.url"
    ),
    printcolumn(
        name = "Wanted",
        type_ = "string",
        json_path = ".spec.state",
        priority = 1
    ),
    printcolumn(
        name = "Class",
        type_ = "string",
        json_path = ".spec.className",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.image.reference",
        priority = 1
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.address",
        priority = 1
    ),
    printcolumn(
        name = "User",
        type_ = "string",
        json_path = ".status.remoteUser",
        priority = 1
    ),
    printcolumn(
        name = "Runner",
        type_ = "string",
        json_path = ".spec.runnerName",
        priority = 1
    ),
    printcolumn(
        name = "Project",
        type_ = "string",
        json_path = ".spec.projectName",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.runnerName) || has(self.runnerName) && self.runnerName == oldSelf.runnerName")
        .message("an environment cannot be moved to another runner")
        .reason(Reason::FieldValueForbidden)
        .field_path(".runnerName"),
    validation = Rule::new("has(self.projectName) == has(oldSelf.projectName) && (!has(self.projectName) || self.projectName == oldSelf.projectName)")
        .message("the project cannot be changed; make another environment")
        .reason(Reason::FieldValueForbidden)
        .field_path(".projectName"),
)]
pub struct EnvironmentSpec {
    /// Where the code comes from. Immutable after creation.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("the source cannot be changed; make another environment")
            .reason(Reason::FieldValueForbidden)
    )]
    pub source: Source,
    /// Name of the Project in the same namespace that source, devcontainer and class are taken from,
    /// at creation, where they are left out here. Immutable after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub project_name: Option<String>,
    /// Which devcontainer.json applies, when not the one the specification's discovery finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devcontainer: Option<Devcontainer>,
    /// Name of the EnvironmentClass. Defaults to the project's, or to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Where the environment may connect to: no more than its class allows. What the class allows when
    /// absent. A change applies at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Whether the environment should run.
    #[serde(default)]
    pub state: WantedState,
    /// Changing this value restarts the environment once; by convention the time of asking, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// The Runner the environment is bound to. Set by the scheduler; immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runner_name: Option<String>,
    /// Who asked for it, with whose credentials host paths are opened. Set by the server from the
    /// authenticated caller; what a client writes here is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// Where the code comes from: exactly one of the fields, or none for an empty workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.folder) && has(self.git))")
        .message("give folder or git, not both")
)]
pub struct Source {
    /// A folder on the runner's host, bind-mounted. Accepted from local callers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderSource>,
    /// A git repository, cloned inside a sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
}

/// A folder on the runner's host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderSource {
    /// Absolute path of the folder opened, without `..` components.
    #[schemars(length(max = 4096))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/') && !self.contains('\\u0000') && !self.split('/').exists(part, part == '.' || part == '..')")
            .message("must be an absolute path without `.` and `..`")
    )]
    pub path: String,
    /// The folder opened beneath `path`, which is then the root of the repository around it: `path`
    /// is mounted, devcontainer.json is looked for here, and here sessions start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(
        validation = Rule::new("!self.contains('\\u0000') && !self.split('/').exists(part, part == '' || part == '.' || part == '..')")
            .message("must be a path below the folder, without `.` and `..`")
    )]
    pub subfolder: Option<String>,
}

impl FolderSource {
    /// The folder that is opened.
    #[must_use]
    pub fn opened(&self) -> String {
        match &self.subfolder {
            Some(subfolder) => format!("{}/{subfolder}", self.path.trim_end_matches('/')),
            None => self.path.clone(),
        }
    }
}

/// A git repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// `https://`, `http://`, `ssh://`, `git://`, `file://` or scp-like URL.
    #[schemars(length(max = 4096))]
    #[x_kube(
        validation = Rule::new("self.matches('^((https?|ssh|git|file)://|[^-/:@][^/:]*@[^/:]*:)[^[:cntrl:]]+$')")
            .message("write https://, http://, ssh://, git://, file:// or user@host:path")
    )]
    pub url: String,
    /// Branch, tag or commit to check out. The remote's HEAD when absent.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('-')").message("must be a branch, tag or commit")
    )]
    pub reference: Option<String>,
}

/// Whether an environment should run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WantedState {
    /// Processes run.
    #[default]
    Running,
    /// No process runs; everything written is kept.
    Stopped,
}

/// The authenticated caller that created an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// User name as the authenticator gave it, for example `local:alice`.
    #[schemars(length(max = 1024))]
    pub user: String,
    /// Host user id, when the caller came through the unix socket of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Host primary group id, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A service of an environment's Compose project, as the runner observed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Name in the project.
    pub name: String,
    /// Whether it runs.
    pub state: ServiceState,
    /// What its check says, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ServiceHealth>,
    /// How its command ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// One sentence saying why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceState {
    /// What it depends on does not hold yet, or it is being started.
    #[default]
    Waiting,
    /// It runs.
    Running,
    /// Its command ended.
    Exited,
    /// What it depends on failed.
    Failed,
}

/// What the check of a service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceHealth {
    /// Nothing yet.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many checks have failed in a row.
    Unhealthy,
}

/// What is, as the runner observed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people; programs read the conditions.
    #[serde(default)]
    pub phase: Phase,
    /// One sentence saying what is going on or what is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Conditions; see [`crate::words::condition`] for the types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The services of the Compose project that run in it, its own among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// What the runner did to bring the environment up this time, in order, with times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How many times the environment has been started.
    #[serde(default)]
    pub incarnation: u64,
    /// When the current incarnation's agent first answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Value of `spec.restartedAt` that the current incarnation honours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// The image the root filesystem was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageStatus>,
    /// Folder inside the environment where the code is and where sessions start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_folder: Option<String>,
    /// User inside the environment that sessions and lifecycle commands run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_user: Option<String>,
    /// Where it may connect to now and what it was refused; absent where everything is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressStatus>,
    /// Ports that its configuration names, with their attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortStatus>,
    /// Address inside the runner's private network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it may use, what it uses and why it is slowed, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesStatus>,
}

/// Where an environment may connect to, as it is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressStatus {
    /// What its class and it allow together.
    pub mode: EgressMode,
    /// How many names and connections were refused since it started.
    #[serde(default)]
    pub refused: u64,
    /// Some of those refused lately, newest first: a name, or address, port and protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub recently_refused: Vec<String>,
    /// One sentence saying what of the spec is not in force, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
}

/// Where an environment is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Waiting for a runner.
    #[default]
    Pending,
    /// Source, configuration, image or root filesystem are being made.
    Preparing,
    /// The sandbox is being started or lifecycle commands run.
    Starting,
    /// Ready to be used.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped; everything written is kept.
    Stopped,
    /// A step failed; `message` says which and what to do.
    Failed,
    /// Being deleted.
    Deleting,
}

/// One step of bringing an environment up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Stable name, for example `image`, `sandbox`, `postCreateCommand`.
    pub name: String,
    /// How it stands.
    pub state: StepState,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// How long it took, in milliseconds; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_millis: Option<u64>,
    /// What it is doing, did, or why it failed: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Failed; it is tried again when the spec changes, at the next start, or with backoff where
    /// the cause may pass.
    Failed,
}

/// The image a root filesystem was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// As named by the configuration.
    pub reference: String,
    /// Digest of the image's manifest or, for local images, of its configuration.
    pub digest: String,
}

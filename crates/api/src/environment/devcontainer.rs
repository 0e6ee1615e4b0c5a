//! How an environment is made of its devcontainer.json: which file, and what its caller says beside it.
//!
//! What the words mean is the specification's and the `devcontainer` crate's; nothing is read here.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which devcontainer.json applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Devcontainer {
    /// Path of the devcontainer.json, relative to the folder opened or the source's root. With
    /// `content`, or for a folder, it may be absolute and outside of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(
        validation = Rule::new("!self.split('/').exists(part, part == '..')")
            .message("must be a path without `..`")
    )]
    pub path: Option<String>,
    /// Text that is read instead of the file's; relative paths in it resolve as if it stood at
    /// `path`, or where the specification's discovery finds the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_048_576))]
    pub content: Option<String>,
    /// Labels that `${devcontainerId}` is made from, instead of the folder's and the file's path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub id_labels: BTreeMap<String, String>,
    /// What the caller adds to the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional: Option<Additional>,
    /// What counts where the file says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<DevcontainerDefaults>,
    /// Who runs the lifecycle commands.
    #[serde(default, skip_serializing_if = "Lifecycle::is_automatic")]
    pub lifecycle: Lifecycle,
    /// The owner's dotfiles, installed once, between `postCreateCommand` and `postStartCommand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dotfiles: Option<Dotfiles>,
    /// Values of `${localEnv:NAME}` that the CLI read from the caller's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "variables")]
    pub local_env: BTreeMap<String, String>,
    /// Image used instead of the one the devcontainer.json names; without a devcontainer.json, the
    /// image of the default configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub image: Option<String>,
}

/// Who runs the lifecycle commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Lifecycle {
    /// The runner does, at creation and at each start. The environment is ready when those up to
    /// `waitFor` are done; the others go on while it is used.
    #[default]
    Automatic,
    /// A caller does, through the subresource `lifecycle`. The environment is ready without.
    OnRequest,
}

impl Lifecycle {
    fn is_automatic(&self) -> bool {
        *self == Self::Automatic
    }
}

/// What the caller adds to a devcontainer.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Additional {
    /// Further mounts, as `docker run --mount` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "mounts")]
    pub mounts: Vec<String>,
    /// Variables of sessions and lifecycle commands, over the file's `remoteEnv`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "variables")]
    pub remote_env: BTreeMap<String, String>,
    /// Further Features with their options, as the file's `features`, and over those of the same
    /// name there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "features")]
    pub features: BTreeMap<String, serde_json::Value>,
}

/// What counts where a devcontainer.json says nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevcontainerDefaults {
    /// For `userEnvProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_env_probe: Option<UserEnvProbe>,
    /// For `updateRemoteUserUID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_remote_user_uid: Option<UpdateRemoteUserUid>,
}

/// Which shell's variables sessions and lifecycle commands get, as the specification names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UserEnvProbe {
    /// None.
    #[serde(rename = "none")]
    None,
    /// A login shell's.
    #[serde(rename = "loginShell")]
    LoginShell,
    /// An interactive login shell's.
    #[serde(rename = "loginInteractiveShell")]
    LoginInteractiveShell,
    /// An interactive shell's.
    #[serde(rename = "interactiveShell")]
    InteractiveShell,
}

/// Whether the remote user gets the developer's user and group id inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateRemoteUserUid {
    /// No, whatever the file says.
    Never,
    /// Unless the file says no.
    On,
    /// Only when the file says yes.
    Off,
}

/// A repository of personal settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dotfiles {
    /// URL, path inside the environment, or `owner/name` on GitHub.
    #[schemars(length(min = 1, max = 4096))]
    pub repository: String,
    /// Program to run in it, instead of the first of the names that are usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub install_command: Option<String>,
    /// Where it is cloned to; `~/dotfiles` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub target_path: Option<String>,
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 8192},
        "maxProperties": 64,
    })
}

fn mounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 8192},
        "maxItems": 256,
    })
}

fn features(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
        "maxProperties": 256,
    })
}

/// Values of variables: the kernel takes no longer ones.
fn variables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 131_072},
        "maxProperties": 1024,
    })
}

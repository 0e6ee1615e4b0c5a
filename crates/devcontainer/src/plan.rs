//! The run plan: everything a runner needs to know, as plain data that can be stored.

use crate::config::{Config, ShutdownAction, UserEnvProbe};
use crate::hooks::{Command, Hook, HookName};
use crate::host::HostRequirements;
use crate::merge::Merged;
use crate::mounts::{Mount, WorkspaceMount};
use crate::ports::{self, NamedPort, Port, PortAttributes};
use crate::substitute;
use crate::ulimits::Ulimits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most notes a plan keeps.
const NOTES_LIMIT: usize = 50;
/// Longest note, in characters.
const NOTE_WIDTH: usize = 400;

/// How to run an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPlan {
    /// Name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// `${devcontainerId}`.
    pub devcontainer_id: String,
    /// Where hooks and sessions begin; absolute.
    pub workspace_folder: String,
    /// How the workspace gets there.
    pub workspace_mount: WorkspaceMount,
    /// Further mounts, one per target.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// User of the environment's own process; None means the image's.
    #[serde(default)]
    pub container_user: Option<String>,
    /// User of hooks and sessions; None means the container user.
    #[serde(default)]
    pub remote_user: Option<String>,
    /// Variables of every process, over the image's.
    #[serde(default)]
    pub container_env: BTreeMap<String, String>,
    /// Variables of hooks and sessions; None unsets. [`RunPlan::bind_container_env`] fills in
    /// `${containerEnv:…}`.
    #[serde(default)]
    pub remote_env: BTreeMap<String, Option<String>>,
    /// What runs inside, in order. Hooks of one name run one after another, the commands of one
    /// side by side; [`HookName::runs`] says when.
    #[serde(default)]
    pub lifecycle: Vec<Hook>,
    /// `initializeCommand`: for the caller's machine, as the caller, never for the runner.
    #[serde(default)]
    pub initialize: Vec<Command>,
    /// The hook after which the environment counts as ready for use.
    pub wait_for: HookName,
    /// Which shell's variables hooks and sessions get.
    #[serde(default)]
    pub user_env_probe: UserEnvProbe,
    /// Keep the environment running rather than run the image's own command.
    pub override_command: bool,
    /// An init process is wanted; the agent always is one.
    #[serde(default)]
    pub init: bool,
    /// Recorded: root has all capabilities over what is the environment's own.
    #[serde(default)]
    pub privileged: bool,
    /// Recorded, as `privileged`.
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Recorded.
    #[serde(default)]
    pub security_opt: Vec<String>,
    /// Start-up programs the image's Features ask for, in order.
    #[serde(default)]
    pub entrypoints: Vec<String>,
    /// Limits of processes, asked for by `runArgs`.
    #[serde(default)]
    pub ulimits: Ulimits,
    /// Host name asked for by `runArgs`.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Ports to forward.
    #[serde(default)]
    pub forward_ports: Vec<Port>,
    /// By port, range or pattern.
    #[serde(default)]
    pub ports_attributes: BTreeMap<String, PortAttributes>,
    /// For all other ports.
    #[serde(default)]
    pub other_ports_attributes: Option<PortAttributes>,
    /// The least the host must have.
    #[serde(default)]
    pub host_requirements: HostRequirements,
    /// Give the remote user the developer's id; the id mapping does.
    #[serde(default)]
    pub update_remote_user_uid: bool,
    /// What happens when the last client goes.
    #[serde(default)]
    pub shutdown_action: Option<ShutdownAction>,
    /// Secrets the project recommends, by name.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Settings of tools, by tool, in order of the layers; kept, never read.
    #[serde(default)]
    pub customizations: BTreeMap<String, Vec<serde_json::Value>>,
    /// What was accepted but has no effect, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Where the workspace is.
pub(crate) struct Workspace {
    pub(crate) folder: String,
    pub(crate) target: String,
}

pub(crate) fn make(
    file: Config,
    initialize: Vec<Command>,
    merged: Merged,
    workspace: Workspace,
    id: String,
    mut notes: Vec<String>,
) -> RunPlan {
    let layer = merged.layer;
    notes.extend(layer.notes);
    if layer.privileged || !layer.cap_add.is_empty() {
        notes.push("privileged and capAdd change nothing: root has all capabilities inside the environment and none outside".into());
    }
    if !layer.security_opt.is_empty() {
        notes.push(format!(
            "securityOpt has no effect ({}): isolation is the same for every environment",
            layer.security_opt.join(", ")
        ));
    }
    if !file.secrets.is_empty() {
        notes.push(format!("the project recommends the secrets {}; set them as environment variables where they are needed", file.secrets.join(", ")));
    }
    // Notes quote untrusted text and are stored: few, short and printable.
    notes.truncate(NOTES_LIMIT);
    for note in &mut notes {
        *note = note
            .chars()
            .map(crate::text::clean)
            .take(NOTE_WIDTH)
            .collect();
    }
    let target = workspace.target;
    RunPlan {
        name: file.name,
        devcontainer_id: id,
        workspace_folder: workspace.folder,
        workspace_mount: match file.workspace_mount {
            None => WorkspaceMount::Default { target },
            Some(Some(mount)) => WorkspaceMount::Explicit(mount),
            Some(None) => WorkspaceMount::None,
        },
        mounts: merged.mounts,
        container_user: layer.container_user,
        remote_user: layer.remote_user,
        container_env: layer.container_env,
        remote_env: layer.remote_env,
        lifecycle: merged.hooks,
        initialize,
        wait_for: layer.wait_for.unwrap_or(HookName::UpdateContent),
        user_env_probe: layer.user_env_probe.unwrap_or_default(),
        override_command: layer.override_command.unwrap_or(true),
        init: layer.init,
        privileged: layer.privileged,
        cap_add: layer.cap_add,
        security_opt: layer.security_opt,
        entrypoints: merged.entrypoints,
        ulimits: file.run_args.ulimits,
        hostname: file.run_args.hostname,
        forward_ports: merged.forward_ports,
        ports_attributes: merged.ports_attributes,
        other_ports_attributes: layer.other_ports_attributes,
        host_requirements: merged.host_requirements,
        update_remote_user_uid: layer.update_remote_user_uid.unwrap_or(true),
        shutdown_action: layer.shutdown_action,
        secrets: file.secrets,
        customizations: merged.customizations,
        notes,
    }
}

impl RunPlan {
    /// The ports that are named by number, with the attributes that count for each.
    #[must_use]
    pub fn ports(&self) -> Vec<NamedPort> {
        let others = self.other_ports_attributes.as_ref();
        ports::named(&self.forward_ports, &self.ports_attributes, others)
    }

    /// Fills in `${containerEnv:NAME}` and `${containerEnv:NAME:DEFAULT}` once the environment's
    /// own variables are known, in `remoteEnv` and in lifecycle commands.
    pub fn bind_container_env(&mut self, env: &BTreeMap<String, String>) {
        let written = std::cell::Cell::default();
        for value in self.remote_env.values_mut().flatten() {
            *value = substitute::bind(value, env, &written);
        }
        let arguments = self
            .lifecycle
            .iter_mut()
            .flat_map(|hook| &mut hook.commands)
            .flat_map(|command| &mut command.argv);
        for argument in arguments {
            *argument = substitute::bind(argument, env, &written);
        }
    }

    /// The steps of one hook, to run one after another; the commands of a step run side by side.
    pub fn steps(&self, name: HookName) -> impl Iterator<Item = &[Command]> {
        self.lifecycle
            .iter()
            .filter(move |hook| hook.name == name)
            .map(|hook| hook.commands.as_slice())
    }
}

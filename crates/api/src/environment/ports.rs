//! The ports that an environment's configuration speaks of, for whoever forwards them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port that `forwardPorts` or `portsAttributes` name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Its number.
    pub port: u16,
    /// The host as seen from inside, such as a service of the project; absent for the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether it is forwarded without being listened on first: `forwardPorts` names it.
    #[serde(default)]
    pub forward: bool,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `http` or `https`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What a client does when it begins to be listened on.
    #[serde(default)]
    pub on_auto_forward: OnAutoForward,
    /// Whether no other local port will do.
    #[serde(default)]
    pub require_local_port: bool,
    /// Whether rights are asked for when the local port needs them.
    #[serde(default)]
    pub elevate_if_needed: bool,
}

/// What a client does when a port begins to be listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnAutoForward {
    /// Tells the user.
    #[default]
    Notify,
    /// Opens a browser.
    OpenBrowser,
    /// Opens a browser the first time.
    OpenBrowserOnce,
    /// Opens a preview.
    OpenPreview,
    /// Forwards it without a word.
    Silent,
    /// Does not forward it.
    Ignore,
}

//! Lifecycle commands on request: what travels through an environment's subresource `lifecycle`.
//!
//! In `wire`'s frames: one [`Request`] from the caller; then, from the runner, `Stdout` frames with the
//! commands' output as it comes, [`Reply`]s as each begins and ends, and `Finished` or `Error` last.
//! A caller that goes away ends the call after the command under way; nothing later is begun.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is to be run. Everything left out: all commands not done yet, then `postAttachCommand`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Request {
    /// Name of the last command to run.
    pub until: Option<String>,
    /// Ends after `updateContentCommand`, which runs even if it did before.
    pub prebuild: bool,
    /// Ends after the command that `waitFor` names.
    pub skip_non_blocking: bool,
    /// Leaves `postAttachCommand` out.
    pub skip_post_attach: bool,
    /// Ends after the dotfiles, before `postStartCommand`.
    pub stop_for_personalization: bool,
    /// Somebody attaches: nothing that failed is tried again, and where a caller runs the commands
    /// (`spec.devcontainer.lifecycle: OnRequest`) nothing is run.
    pub attach: bool,
    /// Answered at once; the commands run without the caller.
    pub detach: bool,
    /// Variables of the commands alone: never stored, never given to sessions.
    pub secrets: BTreeMap<String, String>,
    /// Variables over `remoteEnv`, for this call.
    pub remote_env: BTreeMap<String, String>,
    /// Dotfiles to install, unless they were already.
    pub dotfiles: Option<Dotfiles>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secrets: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Request")
            .field("until", &self.until)
            .field("prebuild", &self.prebuild)
            .field("detach", &self.detach)
            .field("secrets", &secrets)
            .finish_non_exhaustive()
    }
}

/// A repository of personal settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dotfiles {
    /// URL, path inside the environment, or `owner/name` on GitHub.
    pub repository: String,
    /// Program to run in it.
    #[serde(default)]
    pub install_command: Option<String>,
    /// Where it is cloned to; `~/dotfiles` when absent.
    #[serde(default)]
    pub target_path: Option<String>,
}

/// How a call ended that no command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything ran.
    Done,
    /// It ended after `waitFor`'s, as asked.
    SkipNonBlocking,
    /// It ended after `updateContentCommand`, as asked.
    Prebuild,
    /// It ended before `postStartCommand`, as asked.
    StopForPersonalization,
    /// It ended after the command named, as asked.
    Until,
    /// It goes on without the caller.
    Detached,
}

/// What the runner tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Reply {
    /// A command begins.
    Begin {
        /// Property's name, or `dotfiles`.
        hook: String,
        /// Who asks for it: the file's path, or a Feature's id.
        origin: String,
        /// Its key, in the object form.
        name: Option<String>,
        /// Program and arguments, for people.
        command: String,
    },
    /// It ended.
    End {
        /// As in `Begin`.
        hook: String,
        /// As in `Begin`.
        name: Option<String>,
        /// As a shell gives it.
        code: i32,
    },
    /// The last one: how it ended.
    #[serde(rename_all = "camelCase")]
    Finished {
        /// How far it went; when `failed`, how far it would have gone.
        outcome: Outcome,
        /// Names of the commands that ran and succeeded, in order.
        ran: Vec<String>,
        /// The command that failed; none after it ran.
        failed: Option<HookFailure>,
    },
    /// The last one: it could not be done.
    Error {
        /// Stable word.
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// A lifecycle command that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookFailure {
    /// Property's name.
    pub hook: String,
    /// One sentence with its exit code and what it said last.
    pub message: String,
}

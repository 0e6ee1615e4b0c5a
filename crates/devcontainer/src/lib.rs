//! The Development Container specification (containers.dev) as a pure function: text in, a run
//! plan out.
//!
//! Owns the grammar of devcontainer.json and of the image label `devcontainer.metadata`, variable
//! substitution, the merge rules and the order of lifecycle commands. It reads no file, knows no
//! clock, starts nothing: the caller hands in texts and environment variables and carries out the
//! [`RunPlan`]. Everything parsed here is untrusted: sizes and nesting are bounded, text quoted in
//! errors is free of control characters, and what is not supported is refused by name.
//!
//! Two phases, because the image's label takes part in the merge: [`Document::image`] says what to
//! fetch, [`Document::run_plan`] says how to run it.
//!
//! Read next: [`Document`], then `config` (what is parsed), `merge`, `plan`.

pub mod build;
pub mod compose;
pub mod dockerfile;
mod document;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod text;
mod tree;

mod config;
mod discovery;
mod edit;
mod hooks;
mod host;
mod mounts;
mod ports;
mod run_args;
mod ulimits;

mod substitute;

mod merge;
mod path;
mod plan;
mod reading;

pub mod features;
pub mod readme;
pub mod templates;

pub use config::{ShutdownAction, UserEnvProbe};
pub use discovery::{DiscoveryError, FIXED_CANDIDATES, discover};
pub use document::{DockerfileSource, Document, ImageMetadata, LocalContext, UidUpdate};
pub use edit::json_of;
pub use error::{Error, ErrorKind, Warning};
pub use hooks::{Command, Hook, HookName, Runs};
pub use host::{Gpu, HostRequirements};
pub use mounts::{Mount, MountKind, WorkspaceMount};
pub use path::merge_path;
pub use plan::RunPlan;
pub use ports::{NamedPort, OnAutoForward, Port, PortAttributes};
pub use reading::{Reading, bound, label_entries};
pub use substitute::devcontainer_id;
pub use text::Location;
pub use ulimits::Ulimits;

/// Longest devcontainer.json or label accepted, in bytes.
pub const TEXT_LIMIT: usize = 1 << 20;
/// Deepest nesting of arrays and objects accepted.
pub const DEPTH_LIMIT: usize = 64;

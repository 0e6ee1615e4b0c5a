//! The resource types of `boatyard.dev/v1`: what the API's users write and read.
//!
//! Owns the Rust types, their defaults, their validation and the words shared by
//! everything that speaks the API (phases, condition types, reasons, labels).
//! It does no I/O, knows no clock and no runtime; how objects are stored is
//! `store`, how they are served is `server`, what they lead to is `plan`.
//!
//! Types deserialize leniently (as Kubernetes clients expect of a server that may be
//! newer than they are); strictness about unknown fields is the server's, by schema.
//!
//! Read next: [`environment`], then `plan`.

#![allow(
    unreachable_pub,
    reason = "kube's derive repeats public types inside functions"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "lists in kube's derive repeat their key"
)]

pub mod class;
pub mod egress;
pub mod environment;
pub mod project;
pub mod quantity;
pub mod rules;
pub mod runner;
pub mod words;

pub use class::{EnvironmentClass, EnvironmentClassSpec};
pub use environment::{Environment, EnvironmentSpec, EnvironmentStatus};
pub use project::{Project, ProjectSpec, ProjectStatus};
pub use runner::{Runner, RunnerSpec, RunnerStatus};

/// The API group of every resource defined here.
pub const GROUP: &str = "boatyard.dev";
/// The one served version of [`GROUP`].
pub const VERSION: &str = "v1";
/// The namespace used when none is named.
pub const DEFAULT_NAMESPACE: &str = "default";

//! OCI and Docker images on this host: fetched, unpacked, shared, given back.
//!
//! Owns everything below `<state>/images`: the layers, unpacked once each and
//! shared by all environments; the local tags; the registry client; the making
//! of a base image straight from a distribution's mirror. It mounts nothing
//! and runs nothing on the host out of an image: steps of a build run in sandboxes of
//! `boatyard-sandbox` ([`build`]).
//!
//! Images and registries are untrusted. A layer is unpacked by root into a
//! directory of the host, so every path goes through the kernel's own
//! containment (see [`unpack`]), and nothing a layer says makes a device.
//!
//! Crash behaviour: what exists under its final name is whole and was flushed
//! to disk before it got that name. What a crash leaves is in `staging/` and
//! is removed by the next [`Images::open`]; half-fetched blobs are in
//! `partial/` and are continued by the next pull.
//!
//! Read next: [`images`] (the handle), `layers` (on disk), `unpack` (safety),
//! `pull` (the pipeline).

mod archive;
pub mod artifact;
mod bootstrap;
pub mod build;
pub mod collection;
mod compression;
mod config;
mod digest;
mod error;
mod export;
pub mod features;
mod garbage;
mod holds;
mod images;
mod import;
mod index;
mod layers;
mod options;
mod progress;
mod pull;
mod push;
mod recipe;
mod reference;
mod registry;
mod unpack;

pub use bootstrap::default_packages;
pub use config::Config;
pub use error::Error;
pub use export::Format;
pub use garbage::{BUILD_CACHE, CACHE_AGE, Pruned, Wanted};
pub use images::{Held, Image, Images, Layer, Listed, Policy, Removed};
pub use layers::LayerId;
pub use options::{Deadlines, Limits, Mirror, Options};
pub use progress::{LayerProgress, Phase, Progress, Quiet};
pub use reference::Reference;

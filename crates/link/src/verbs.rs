//! What a runner can be asked directly: images and their transport, logs, the state of its host.
//!
//! Travels in `wire`'s frames through a stream to [`crate::tunnel::TargetKind::Runner`]: one
//! [`Request`] from the caller, then any number of [`Reply`]s; archives travel as `Stdin`
//! (towards the runner, ended by an empty frame) or `Stdout` frames. `Done` or `Error` is last.

use boatyard_api::environment::EnvironmentSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of the longest request.
pub const LONGEST: usize = 8 << 20;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Request {
    /// Images the runner has: [`Reply::Images`].
    ImageList,
    /// Pulls an image even when a version of it is there.
    ImagePull {
        /// As a person writes it.
        reference: String,
    },
    /// What an image's configuration says; it is fetched if it is not there: [`Reply::ImageConfig`].
    ImageInspect {
        /// As a person writes it.
        reference: String,
    },
    /// Makes a base image from the distribution's mirror.
    ImageBootstrap {
        /// `debian:bookworm` and its like.
        reference: String,
        /// Packages beside the base.
        packages: Vec<String>,
    },
    /// Imports an archive sent as `Stdin` frames.
    ImageImport {
        /// Name to give it; the archive's own when absent.
        tag: Option<String>,
    },
    /// Exports an image as `Stdout` frames.
    ImageExport {
        /// Which.
        reference: String,
        /// In which form.
        format: ArchiveFormat,
    },
    /// Gives an image a further name.
    ImageTag {
        /// Which.
        reference: String,
        /// The further name.
        tag: String,
    },
    /// Removes a name of an image.
    ImageRemove {
        /// Which.
        reference: String,
    },
    /// Removes layers that no name and no environment uses, and what builds have kept for later:
    /// what was used last stays, up to so many bytes, when they are given.
    ImagePrune {
        /// At most so many.
        #[serde(default)]
        cache: Option<u64>,
    },
    /// Builds an image from a Dockerfile: any number of [`Reply::Build`], then [`Reply::Image`].
    Build(Box<Build>),
    /// Makes all images of an environment of a folder that the caller is about to make, to be seen
    /// meanwhile: answered as [`Request::Build`].
    Prepare(Box<Prepare>),
    /// Checks of the runner's host: [`Reply::Checks`].
    Doctor,
    /// What the environments use, as Prometheus reads it: [`Reply::Metrics`].
    Metrics,
    /// A request that fits into no frame: as JSON in the `Stdin` frames that follow.
    Long {
        /// Its length; at most [`LONGEST`].
        bytes: usize,
    },
}

/// A Dockerfile to build. Paths are absolute and read with the caller's credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Build {
    /// The Dockerfile.
    pub file: String,
    /// The folder it copies from, or a git repository's URL; then the file's path may be relative
    /// to that.
    pub context: String,
    /// The stage wanted; the last when absent.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Further contexts by name: a folder's path, a git repository's URL, or `docker-image://` and a
    /// reference.
    pub contexts: BTreeMap<String, String>,
    /// By id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Paths of SSH agents' sockets, by id.
    pub ssh: BTreeMap<String, String>,
    /// Names of the result; at least one.
    pub names: Vec<String>,
    /// Does every step again.
    pub no_cache: bool,
    /// Pushes the result under all its names.
    pub push: bool,
    /// Images in registries that serve as caches.
    pub cache_from: Vec<String>,
    /// Where the steps are kept as a cache.
    pub cache_to: Option<String>,
    /// The EnvironmentClass of the environment it is built for: its steps may connect to what that
    /// allows. Anywhere when absent.
    pub class_name: Option<String>,
}

/// An environment to be. Its folder is read with the caller's credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepare {
    /// As it will be.
    pub spec: EnvironmentSpec,
    /// Leaves out the images of the services beside the one that is opened.
    #[serde(default)]
    pub opened_only: bool,
    /// Does every step again.
    pub no_cache: bool,
    /// Images in registries whose steps are taken over.
    #[serde(default)]
    pub cache_from: Vec<String>,
    /// Image in a registry that the steps of the opened image are kept in.
    #[serde(default)]
    pub cache_to: Option<String>,
}

/// Something that happened in a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum BuildEvent {
    /// A line of work begins.
    Began {
        /// Its number, from 1.
        vertex: u32,
        /// As BuildKit names it.
        name: String,
    },
    /// It printed something; whole lines or not.
    Output {
        /// Whose.
        vertex: u32,
        /// What, as text.
        text: String,
    },
    /// It is over.
    Ended {
        /// Which.
        vertex: u32,
        /// `done`, `cached` or `failed`.
        outcome: String,
        /// After how many milliseconds.
        millis: u64,
    },
}

/// Form of an exported image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveFormat {
    /// Tar of an OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
    /// Tar of the image's files, without what says what it is.
    Files,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Reply {
    /// How a layer stands.
    Layer {
        /// Short name of the layer.
        id: String,
        /// `waiting`, `downloading`, `unpacking`, `verifying`, `done`, `cached`.
        phase: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// Of a build.
    Build(BuildEvent),
    /// A line for the user.
    Message {
        /// One line.
        text: String,
    },
    /// Answer to [`Request::ImageList`].
    Images {
        /// All.
        images: Vec<ImageLine>,
    },
    /// An image is there now.
    Image {
        /// Its familiar name.
        reference: String,
        /// Its digest.
        digest: String,
    },
    /// Answer to [`Request::ImageInspect`].
    ImageConfig {
        /// `NAME=VALUE` pairs.
        env: Vec<String>,
        /// Its user; the first when absent.
        user: Option<String>,
        /// Its labels.
        labels: std::collections::BTreeMap<String, String>,
    },
    /// Answer to [`Request::ImagePrune`].
    Pruned {
        /// Layers removed.
        layers: u64,
        /// Bytes freed.
        bytes: u64,
    },
    /// Answer to [`Request::Doctor`].
    Checks {
        /// All.
        checks: Vec<Check>,
    },
    /// Answer to [`Request::Metrics`].
    Metrics {
        /// OpenMetrics text.
        text: String,
    },
    /// All went well; the last one.
    Done,
    /// It failed; the last one.
    Error {
        /// Stable code.
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageLine {
    /// Familiar name.
    pub reference: String,
    /// Digest.
    pub digest: String,
    /// Bytes of its layers on disk.
    pub size_bytes: u64,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// Architecture in OCI's words.
    pub architecture: String,
}

/// One check of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is as needed.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not.
    pub remedy: Option<String>,
}

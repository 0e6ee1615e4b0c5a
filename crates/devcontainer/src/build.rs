//! The build plan: what makes an image, as data that a builder carries out without a choice of its
//! own.
//!
//! A Dockerfile and the Features of a devcontainer.json both become a [`BuildPlan`]: stages of
//! steps, each step naming everything it reads, so that a builder can key its layer by exactly
//! that. Variables are expanded, defaults filled in and paths absolute; what stands here is what
//! happens. Nothing is fetched or run by this crate: the caller brings the configurations of base
//! images and the contents of contexts.
//!
//! Read next: `dockerfile` (which makes stages), then boatyard-image's `build` (which runs them).

use crate::text::Location;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image says of how it is run: the part of an OCI configuration that a build changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageState {
    /// Name and value, in order of definition.
    pub env: Vec<(String, String)>,
    /// `USER`, as written: name or id, with an optional group; empty for root.
    pub user: String,
    /// `WORKDIR`, absolute; empty for `/`.
    pub working_dir: String,
    /// `SHELL`; empty for `/bin/sh -c`.
    pub shell: Vec<String>,
    /// `ENTRYPOINT`; None when none is set.
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    pub cmd: Option<Vec<String>>,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
    /// `EXPOSE`, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `VOLUME`.
    pub volumes: Vec<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `HEALTHCHECK`.
    pub healthcheck: Option<Healthcheck>,
    /// `ONBUILD` instructions for whoever builds on this image, as written.
    pub onbuild: Vec<String>,
    /// `MAINTAINER`.
    pub author: Option<String>,
}

/// How to tell whether a container works. Durations are in nanoseconds, as in the OCI configuration;
/// 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", script]`.
    pub test: Vec<String>,
    /// Between checks.
    pub interval: u64,
    /// Of one check.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// Between checks in the start period.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// Everything to do, in stages; the last stage is what is wanted. Only stages that the target
/// needs are in it, each after the stages it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// Stages.
    pub stages: Vec<Stage>,
}

/// One stage: a base and steps on it. Stages that do not read each other may run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// For people: the stage's name, or its number.
    pub name: String,
    /// What it begins with.
    pub base: Base,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// How the result is run.
    pub state: ImageState,
}

/// Where a stage begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Base {
    /// No files.
    Scratch,
    /// An image by reference.
    Image(String),
    /// An earlier stage, by its index in [`BuildPlan::stages`].
    Stage(usize),
    /// A named build context that replaces an image: its files are the root.
    Context(String),
}

/// One step; it makes one layer, or none where it changes no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The instruction as people know it, on one line: `RUN apt-get update`. Part of no key.
    pub text: String,
    /// Where it stands; part of no key.
    #[serde(skip)]
    pub location: Option<Location>,
    /// What it does.
    pub op: Op,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Runs a process.
    Run(Run),
    /// Copies files.
    Copy(Copy),
    /// Makes a directory where there is none, its parents as root's, mode 0755 (`WORKDIR`).
    MakeDirectory {
        /// Absolute.
        path: String,
        /// Whom a new directory belongs to: as [`Run::user`].
        user: String,
    },
}

/// A process of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Program and arguments, the shell included.
    pub argv: Vec<String>,
    /// All of its variables, in order; the builder adds `PATH`, `HOME` and proxies where they are
    /// missing.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; made when missing.
    pub cwd: String,
    /// Name or id, with an optional group; empty for root.
    pub user: String,
    /// Files that exist while it runs, as heredocs need them.
    pub files: Vec<InlineFile>,
    /// Mounts, in order.
    pub mounts: Vec<RunMount>,
    /// Its network.
    pub network: RunNetwork,
    /// More variables, part of no key and of no image: proxies that were given as build arguments.
    #[serde(skip)]
    pub unkeyed_env: Vec<(String, String)>,
}

/// Network of a [`Run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunNetwork {
    /// What the builder's policy gives.
    #[default]
    Default,
    /// Loopback only.
    None,
}

/// A file given in the plan itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Absolute path for [`Run::files`], a name for a [`CopySource::Inline`].
    pub path: String,
    /// Contents.
    pub contents: String,
    /// Permission bits.
    pub mode: u32,
}

/// `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMount {
    /// Absolute.
    pub target: String,
    /// What is mounted.
    pub kind: RunMountKind,
}

/// What a [`RunMount`] mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunMountKind {
    /// Files of a context, stage or image.
    Bind {
        /// Whose.
        from: Origin,
        /// Path in it; `/` is all.
        source: String,
        /// Writable; what is written is thrown away.
        writable: bool,
    },
    /// A directory kept between builds.
    Cache {
        /// Which.
        id: String,
        /// What a new one begins with, and the path in it.
        from: Option<(Origin, String)>,
        /// May not be written.
        read_only: bool,
        /// Who may use it at once.
        sharing: Sharing,
        /// Permission bits of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
    },
    /// Empty.
    Tmpfs {
        /// Bytes; None for the kernel's default.
        size: Option<u64>,
    },
    /// A secret of the caller's, in no layer and no key.
    Secret {
        /// Which.
        id: String,
        /// Given as this variable; then there is a file only if `as_file`.
        env: Option<String>,
        /// Given as a file at the target.
        as_file: bool,
        /// Whether the step fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// The caller's SSH agent, as a socket at the target.
    Ssh {
        /// Which.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Who may use a cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One after another.
    Locked,
    /// Each its own.
    Private,
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// A build context by name; the main one is the empty name.
    Context(String),
    /// An earlier stage, by its index.
    Stage(usize),
    /// An image by reference.
    Image(String),
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// What, in order.
    pub sources: Vec<CopySource>,
    /// Absolute; with a `/` at its end it is a directory, as it is for several sources.
    pub destination: String,
    /// `--chown`, as written: names are looked up in the stage's own files. None leaves root.
    pub chown: Option<String>,
    /// `--chmod`: octal bits, or symbolic as in chmod(1).
    pub chmod: Option<String>,
    /// `--link`: the layer depends on nothing below it.
    pub link: bool,
    /// `--parents`: keeps the sources' folders.
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `ADD`: archives among [`CopySource::Files`] are unpacked.
    pub unpack: bool,
}

/// One source of a [`Copy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopySource {
    /// Files by pattern, as Go's `filepath.Match` has them.
    Files {
        /// Of what.
        from: Origin,
        /// Relative to its root and without `..`; `.` is all of it. For [`Copy::parents`] the folders
        /// that are kept begin behind a `/./`, if there is one, and `**` is any number of folders.
        pattern: String,
    },
    /// A file of the plan itself.
    Inline(InlineFile),
    /// `ADD https://…`.
    Url {
        /// Where.
        url: String,
        /// What the file is called in a directory.
        name: String,
        /// `sha256:…`.
        checksum: Option<String>,
        /// A tar archive is unpacked.
        unpack: bool,
    },
    /// `ADD` of a git repository.
    Git {
        /// Its URL.
        url: String,
        /// Branch, tag or commit.
        reference: Option<String>,
        /// The part of it that is copied.
        subdirectory: Option<String>,
        /// Keeps `.git`.
        keep_git_dir: bool,
        /// With its submodules.
        submodules: bool,
        /// The commit it must be.
        checksum: Option<String>,
    },
}

//! The plan of a Compose project: what a runner needs to know of its services, as plain data.

use crate::document::DockerfileSource;
use crate::mounts::Mount;
use crate::plan::RunPlan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A project's services that run, and what they share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposePlan {
    /// The project's name, as the reference CLI makes it.
    pub project: String,
    /// The Compose files, in order.
    pub files: Vec<String>,
    /// The service that is the environment itself.
    pub service: String,
    /// What runs, in an order in which nothing comes before what it depends on.
    pub services: Vec<Service>,
    /// What was accepted but has no effect, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ComposePlan {
    /// The service that is the environment itself.
    pub fn main(&self) -> Option<&Service> {
        self.named(&self.service)
    }

    /// Lays the environment's service below what devcontainer.json says of it.
    pub fn apply(&self, run: &mut RunPlan) {
        let Some(service) = self.main() else { return };
        let mut env = service.environment.clone();
        env.append(&mut run.container_env);
        run.container_env = env;
        let mut mounts: Vec<Mount> = service.mounts.clone();
        mounts.retain(|mount| !run.mounts.iter().any(|over| over.target == mount.target));
        mounts.append(&mut run.mounts);
        run.mounts = mounts;
        if run.container_user.is_none() {
            run.container_user.clone_from(&service.user);
        }
        if run.hostname.is_none() {
            run.hostname.clone_from(&service.hostname);
        }
        run.init |= service.init;
        run.privileged |= service.privileged;
        run.notes.extend(self.notes.iter().cloned());
    }

    /// A service by its name.
    pub fn named(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Names of the services whose network a service uses, itself among them: the same for all
    /// of them, whoever names whom.
    pub fn network_group(&self, name: &str) -> BTreeSet<&str> {
        let own = self.named(name).map(|service| service.name.as_str());
        let mut group: BTreeSet<&str> = own.into_iter().collect();
        loop {
            let before = group.len();
            for service in &self.services {
                let shares = match &service.network {
                    ServiceNetwork::Service(other) => Some(other.as_str()),
                    ServiceNetwork::Environment => Some(self.service.as_str()),
                    ServiceNetwork::Own(_) | ServiceNetwork::None => None,
                };
                if let Some(other) = shares
                    && (group.contains(other) || group.contains(service.name.as_str()))
                {
                    group.insert(service.name.as_str());
                    if let Some(other) = self.named(other) {
                        group.insert(other.name.as_str());
                    }
                }
            }
            if group.len() == before {
                return group;
            }
        }
    }

    /// Networks a service is on, by those whose network it uses.
    fn networks(&self, name: &str) -> BTreeSet<&str> {
        let group = self.network_group(name);
        self.services
            .iter()
            .filter(|service| group.contains(service.name.as_str()))
            .flat_map(|service| match &service.network {
                ServiceNetwork::Own(networks) => networks.keys().map(String::as_str).collect(),
                _ => Vec::new(),
            })
            .collect()
    }

    /// Whether two services reach each other: they share a network or use one of them together.
    pub fn reach(&self, left: &str, right: &str) -> bool {
        self.network_group(left).contains(right)
            || !self.networks(left).is_disjoint(&self.networks(right))
    }

    /// Whether a service reaches what lies outside of the project: not on internal networks alone.
    pub fn reaches_outside(&self, name: &str) -> bool {
        let group = self.network_group(name);
        let mut members = self
            .services
            .iter()
            .filter(|service| group.contains(service.name.as_str()));
        members.any(|service| match &service.network {
            ServiceNetwork::Own(networks) => {
                networks.is_empty() || networks.values().any(|network| !network.internal)
            }
            ServiceNetwork::Environment => true,
            ServiceNetwork::None | ServiceNetwork::Service(_) => false,
        })
    }

    /// Names by which `from` knows `to`: its service's and container's name, and its aliases on
    /// networks they share; none when it does not reach it.
    pub fn names(&self, from: &str, to: &str) -> Vec<String> {
        let Some(service) = self.named(to).filter(|_| self.reach(from, to)) else {
            return Vec::new();
        };
        let mut names = vec![service.name.clone()];
        names.extend(service.container_name.clone());
        names.extend(service.hostname.clone());
        if let ServiceNetwork::Own(networks) = &service.network {
            let shared = self.networks(from);
            let aliases = networks
                .iter()
                .filter(|(name, _)| shared.contains(name.as_str()))
                .flat_map(|(_, network)| network.aliases.iter().cloned());
            names.extend(aliases);
        }
        if let Some(from) = self.named(from) {
            let links = from.links.iter().filter(|(of, _)| of == to);
            names.extend(links.map(|(_, alias)| alias.clone()));
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name in the project.
    pub name: String,
    /// `container_name`: another name to find it by.
    pub container_name: Option<String>,
    /// What its root filesystem is made from.
    pub origin: Origin,
    /// In place of the image's; an empty list clears it.
    pub command: Option<Vec<String>>,
    /// In place of the image's, whose command then counts no more.
    pub entrypoint: Option<Vec<String>>,
    /// Its variables, files' and the caller's taken in.
    pub environment: BTreeMap<String, String>,
    /// Mounts, one per target.
    pub mounts: Vec<Mount>,
    /// Files with contents of their own: secrets and configs.
    pub contents: Vec<Content>,
    /// Whose network.
    pub network: ServiceNetwork,
    /// `links`: service and the name it is known by.
    pub links: Vec<(String, String)>,
    /// `extra_hosts`: name and address.
    pub hosts: Vec<(String, String)>,
    /// What has to hold of others before it starts.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Its check; none takes the image's.
    pub healthcheck: Option<Healthcheck>,
    /// When it is started again.
    pub restart: Restart,
    /// Name or id of the user, `:group` with it; None takes the image's.
    pub user: Option<String>,
    /// Absolute; None takes the image's.
    pub working_dir: Option<String>,
    /// Name it knows itself by; None takes the service's.
    pub hostname: Option<String>,
    /// Recorded.
    pub labels: BTreeMap<String, String>,
    /// An init process is wanted; the agent always is one.
    pub init: bool,
    /// Recorded: root has all capabilities over what is the environment's own.
    pub privileged: bool,
    /// Recorded, as `privileged`.
    pub cap_add: Vec<String>,
    /// Recorded.
    pub security_opt: Vec<String>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// Resource limits by name: soft and hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Limits of it alone, below the environment's.
    pub limits: ServiceLimits,
    /// What ends it; SIGTERM when not given.
    pub stop_signal: Option<String>,
    /// Milliseconds between that and SIGKILL.
    pub stop_grace_millis: Option<u64>,
    /// Recorded, as written.
    pub ports: Vec<String>,
    /// Recorded.
    pub expose: Vec<String>,
    /// When its image is pulled.
    pub pull: Pull,
    /// What has to be built before its image, in order, by the images' names: other services that
    /// are its build contexts.
    #[serde(default)]
    pub built_first: Vec<(String, DockerfileSource)>,
}

impl Service {
    /// Its image by name, and what that is built from when it is; else a sentence on why not.
    pub fn image(&self) -> Result<(String, Option<DockerfileSource>), String> {
        let build = match &self.origin {
            Origin::Image(image) => return Ok((image.clone(), None)),
            Origin::Build(build) => build,
        };
        let file = match (&build.inline, &build.dockerfile) {
            (Some(_), _) => format!("dockerfile_inline of service {}", self.name),
            (None, Some(file)) => file.clone(),
            (None, None) => "Dockerfile".to_owned(),
        };
        let source = DockerfileSource {
            file,
            context: build.context.clone(),
            args: build.args.clone(),
            target: build.target.clone(),
            cache_from: Vec::new(),
            inline: build.inline.clone(),
            contexts: build.contexts.clone(),
        };
        Ok((source.name(), Some(source)))
    }
}

/// What a service's root filesystem is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// An image by reference.
    Image(String),
    /// A Dockerfile.
    Build(Box<Build>),
}

/// `build`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Absolute path of the caller's host, or a URL.
    pub context: String,
    /// Absolute, or relative to the context when that is a URL.
    pub dockerfile: Option<String>,
    /// The Dockerfile itself.
    pub inline: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage wanted.
    pub target: Option<String>,
    /// Further contexts: paths, URLs, `docker-image://…`.
    pub contexts: BTreeMap<String, String>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// `image` beside `build`: the result's name.
    pub tag: Option<String>,
}

/// Whose network a service uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceNetwork {
    /// Its own address on the project's networks.
    Own(BTreeMap<String, OnNetwork>),
    /// Loopback only.
    None,
    /// Another service's.
    Service(String),
    /// The environment's own: what `host` means inside of it.
    Environment,
}

/// A service on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnNetwork {
    /// Further names on it.
    pub aliases: Vec<String>,
    /// The network leads nowhere outside.
    pub internal: bool,
}

/// A file with a content of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Absolute path inside.
    pub target: String,
    /// What it holds.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// One `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// What has to hold.
    pub condition: Condition,
    /// Its failure is this one's.
    pub required: bool,
    /// Started again when that one is.
    pub restart: bool,
}

/// What has to hold of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// It was started.
    Started,
    /// Its check succeeds.
    Healthy,
    /// It ended with 0.
    Completed,
}

/// How a service's health is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Healthcheck {
    /// The program and its arguments; empty switches an image's check off, None keeps its test.
    pub test: Option<Vec<String>>,
    /// Milliseconds between checks.
    pub interval_millis: Option<u64>,
    /// Milliseconds a check may take.
    pub timeout_millis: Option<u64>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Milliseconds in which failures do not count.
    pub start_period_millis: Option<u64>,
    /// Milliseconds between checks in that time.
    pub start_interval_millis: Option<u64>,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whenever it ends.
    Always,
    /// The same: what is stopped here is the whole environment.
    UnlessStopped,
    /// When it ends with another code than 0, at most so often.
    OnFailure(Option<u32>),
}

/// Limits of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLimits {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

/// When a service's image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pull {
    /// When it is not there.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Never.
    Never,
    /// It is built even when there is one.
    Build,
}

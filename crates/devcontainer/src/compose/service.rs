//! One service, read from its merged tree.
//!
//! Everything a service may say is taken over, recorded with a note, or refused by name and place.

use super::load::{Loader, Stop};
use super::mounts;
use super::parts::{
    STARTED, depends_on, deploy, extra_hosts, healthcheck, host_name, one, ports, restart, signal,
    ulimits,
};
use super::plan::{
    Build, OnNetwork, Origin, Pull, Restart, Service, ServiceLimits, ServiceNetwork,
};
use super::read::Reader;
use super::yaml::{Entry, Node, Value};
use crate::error::Error;
use std::collections::BTreeMap;

/// What of the project a service refers to.
pub(super) struct Shared<'a> {
    /// The merged tree.
    pub(super) root: &'a Node,
    /// The project's name.
    pub(super) project: &'a str,
    /// The local workspace folder.
    pub(super) workspace: &'a str,
    /// The project's variables.
    pub(super) variables: &'a BTreeMap<String, String>,
}

/// What is refused, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "blkio_config",
        "remove it; the environment's class has its limits",
    ),
    (
        "cgroup_parent",
        "remove it; every service runs below the environment's cgroup",
    ),
    ("credential_spec", "remove it; it is for Windows"),
    ("cpu_rt_period", "remove it"),
    ("cpu_rt_runtime", "remove it"),
    ("develop", "remove it; work in the environment"),
    (
        "device_cgroup_rules",
        "remove it; devices are the environment's class's",
    ),
    (
        "devices",
        "remove it; devices are the environment's class's",
    ),
    ("external_links", "name the service in this project"),
    ("gpus", "remove it; environments have no GPU yet"),
    ("isolation", "remove it"),
    ("label_file", "write the labels here"),
    ("models", "remove it"),
    ("pid", "remove it; every service has processes of its own"),
    ("post_start", "use a lifecycle command of devcontainer.json"),
    ("pre_stop", "let the service end on its stop signal"),
    ("provider", "remove it"),
    ("runtime", "remove it"),
    ("use_api_socket", "remove it; there is no engine's socket"),
    (
        "userns_mode",
        "remove it; ids are the environment's own range",
    ),
    ("uts", "remove it; every service has a host name of its own"),
    ("volumes_from", "name the volumes under volumes"),
];

/// What has no effect, or is so already.
const NOTED: &[(&str, &str)] = &[
    (
        "attach",
        "attach has no effect: each service has a log of its own",
    ),
    (
        "logging",
        "logging has no effect: each service has a log of its own",
    ),
    (
        "cap_drop",
        "cap_drop has no effect: a service's root has power over its environment alone",
    ),
    (
        "cgroup",
        "cgroup has no effect: each service has a cgroup of its own",
    ),
    ("cpu_count", "cpu_count has no effect; use cpus"),
    ("cpu_percent", "cpu_percent has no effect; use cpus"),
    ("cpu_period", "cpu_period has no effect; use cpus"),
    ("cpu_quota", "cpu_quota has no effect; use cpus"),
    ("cpu_shares", "cpu_shares has no effect"),
    ("cpuset", "cpuset has no effect"),
    ("domainname", "domainname has no effect"),
    (
        "group_add",
        "group_add has no effect: groups are those of the user",
    ),
    (
        "ipc",
        "ipc has no effect: each service has memory of its own to share",
    ),
    ("mac_address", "mac_address has no effect"),
    ("mem_reservation", "mem_reservation has no effect"),
    ("mem_swappiness", "mem_swappiness has no effect"),
    ("memswap_limit", "memswap_limit has no effect"),
    ("oom_kill_disable", "oom_kill_disable has no effect"),
    ("oom_score_adj", "oom_score_adj has no effect"),
    (
        "platform",
        "platform has no effect: images are those of this machine's kind",
    ),
    (
        "read_only",
        "read_only has no effect: a service may write its root",
    ),
    ("storage_opt", "storage_opt has no effect"),
    ("sysctls", "sysctls have no effect"),
];

/// What needs no word.
const SILENT: &[&str] = &["stdin_open", "tty", "annotations", "profiles", "extends"];

const TAKEN: &[&str] = &[
    "build",
    "cap_add",
    "command",
    "configs",
    "container_name",
    "cpus",
    "depends_on",
    "deploy",
    "dns",
    "dns_opt",
    "dns_search",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "links",
    "mem_limit",
    "network_mode",
    "networks",
    "pids_limit",
    "ports",
    "privileged",
    "pull_policy",
    "restart",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// Reads a service. Files it needs are asked of the loader.
pub(super) fn read(
    loader: &mut Loader<'_>,
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    name: &str,
    node: &Node,
) -> Result<Service, Stop> {
    let at = format!("services.{name}");
    let environment = environment(loader, reader, shared, &at, node);
    let mut service = Service {
        name: name.to_owned(),
        container_name: None,
        origin: Origin::Image(String::new()),
        command: None,
        entrypoint: None,
        environment: BTreeMap::new(),
        mounts: Vec::new(),
        contents: Vec::new(),
        network: ServiceNetwork::Own(BTreeMap::new()),
        links: Vec::new(),
        hosts: Vec::new(),
        depends_on: BTreeMap::new(),
        healthcheck: None,
        restart: Restart::No,
        user: None,
        working_dir: None,
        hostname: None,
        labels: BTreeMap::new(),
        init: false,
        privileged: false,
        cap_add: Vec::new(),
        security_opt: Vec::new(),
        shm_size: None,
        ulimits: BTreeMap::new(),
        limits: ServiceLimits::default(),
        stop_signal: None,
        stop_grace_millis: None,
        ports: Vec::new(),
        expose: Vec::new(),
        pull: Pull::Missing,
        built_first: Vec::new(),
    };
    for entry in reader.map(&at, node)? {
        let path = format!("{at}.{}", entry.key);
        if entry.key.starts_with("x-") || entry.node.is_null() {
            continue;
        }
        property(reader, shared, &mut service, &path, entry)?;
    }
    service.origin = origin(reader, &at, node)?;
    mounts::all(reader, shared, &at, node, &mut service)?;
    network(reader, shared, &at, node, &mut service)?;
    service.environment = environment?;
    Ok(service)
}

fn property(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    service: &mut Service,
    path: &str,
    entry: &Entry,
) -> Result<(), Error> {
    let node = &entry.node;
    match entry.key.as_str() {
        // Read together with others.
        "image" | "build" | "environment" | "env_file" | "volumes" | "tmpfs" | "secrets"
        | "configs" | "networks" | "network_mode" => {}
        "container_name" => service.container_name = Some(host_name(reader, path, node)?),
        "hostname" => service.hostname = Some(host_name(reader, path, node)?),
        "command" => service.command = reader.command(path, node)?,
        "entrypoint" => service.entrypoint = reader.command(path, node)?,
        "user" => {
            let user = reader.filled(path, node)?;
            if user.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
                return Err(reader.invalid(path, node, "is no user name"));
            }
            service.user = Some(user);
        }
        "working_dir" => {
            let text = reader.filled(path, node)?;
            let absolute = crate::mounts::absolute(&text)
                .or_else(|| (text == "/").then(|| text.clone()))
                .ok_or_else(|| reader.invalid(path, node, "must be an absolute path"))?;
            service.working_dir = Some(absolute);
        }
        "labels" => service.labels = reader.pairs(path, node, |_| Some(String::new()))?,
        "init" => service.init = reader.bool(path, node)?,
        "privileged" => service.privileged = reader.bool(path, node)?,
        "cap_add" => service.cap_add = reader.texts(path, node)?,
        "security_opt" => service.security_opt = reader.texts(path, node)?,
        "shm_size" => service.shm_size = Some(reader.bytes(path, node)?),
        "ulimits" => service.ulimits = ulimits(reader, path, node)?,
        "stop_signal" => service.stop_signal = Some(signal(reader, path, node)?),
        "stop_grace_period" => service.stop_grace_millis = Some(reader.millis(path, node)?),
        "expose" => service.expose = reader.texts(path, node)?,
        "ports" => service.ports = ports(reader, path, node)?,
        "restart" => service.restart = restart(reader, path, node)?,
        "depends_on" => depends_on(reader, shared, service, path, node)?,
        "healthcheck" => service.healthcheck = Some(healthcheck(reader, path, node)?),
        "cpus" => service.limits.cpu_millis = Some(reader.cpus(path, node)?),
        "mem_limit" => service.limits.memory_bytes = Some(reader.bytes(path, node)?),
        "pids_limit" => {
            // -1 means none.
            if reader.text(path, node)? != "-1" {
                service.limits.pids = Some(reader.number(path, node)?);
            }
        }
        "deploy" => deploy(reader, service, path, node)?,
        "scale" => one(reader, path, node)?,
        "links" => {
            for link in reader.texts(path, node)? {
                let (of, alias) = link.split_once(':').unwrap_or((&link, &link));
                if shared
                    .root
                    .get("services")
                    .and_then(|all| all.get(of))
                    .is_none()
                {
                    return Err(reader.missing(node, format!("there is no service {of:?}")));
                }
                service.links.push((of.to_owned(), alias.to_owned()));
                service.depends_on.entry(of.to_owned()).or_insert(STARTED);
            }
        }
        "extra_hosts" => service.hosts = extra_hosts(reader, path, node)?,
        "dns" | "dns_search" | "dns_opt" => {
            reader.texts(path, node)?;
            reader.note(
                node,
                "dns settings have no effect: names are the host's resolvers'",
            );
        }
        "pull_policy" => {
            service.pull = match reader.text(path, node)?.as_str() {
                "always" | "daily" | "weekly" => Pull::Always,
                "never" => Pull::Never,
                "missing" | "if_not_present" => Pull::Missing,
                "build" => Pull::Build,
                other if other.starts_with("every_") => Pull::Always,
                _ => {
                    let what = "must be one of always, never, missing, build";
                    return Err(reader.invalid(path, node, what));
                }
            }
        }
        key => return other(reader, path, key, entry),
    }
    Ok(())
}

fn other(reader: &Reader<'_>, path: &str, key: &str, entry: &Entry) -> Result<(), Error> {
    if SILENT.contains(&key) {
        return Ok(());
    }
    if let Some((_, what)) = NOTED.iter().find(|(name, _)| *name == key) {
        // What asks for nothing needs no note.
        if !matches!(entry.node.value, Value::Bool(false)) {
            reader.note(&entry.node, what);
        }
        return Ok(());
    }
    if let Some((_, remedy)) = REFUSED.iter().find(|(name, _)| *name == key) {
        let nothing = match &entry.node.value {
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        };
        return if nothing {
            Ok(())
        } else {
            Err(reader.refuse(path, entry, remedy))
        };
    }
    let known: Vec<&str> = TAKEN
        .iter()
        .chain(SILENT)
        .copied()
        .chain(REFUSED.iter().chain(NOTED).map(|(name, _)| *name))
        .collect();
    Err(reader.unknown(path, entry, &known))
}

fn origin(reader: &Reader<'_>, at: &str, node: &Node) -> Result<Origin, Error> {
    let image = match node.get("image").filter(|image| !image.is_null()) {
        Some(image) => Some(reader.filled(&format!("{at}.image"), image)?),
        None => None,
    };
    let Some(build) = node.get("build").filter(|build| !build.is_null()) else {
        return image.map(Origin::Image).ok_or_else(|| {
            reader.invalid(at, node, "has neither an image nor a build; name an image")
        });
    };
    let mut made = Build {
        tag: image,
        ..Build::default()
    };
    for entry in reader.map(&format!("{at}.build"), build)? {
        let path = format!("{at}.build.{}", entry.key);
        let node = &entry.node;
        if node.is_null() {
            continue;
        }
        match entry.key.as_str() {
            "context" => made.context = reader.filled(&path, node)?,
            "dockerfile" => made.dockerfile = Some(reader.filled(&path, node)?),
            "dockerfile_inline" => made.inline = Some(reader.text(&path, node)?),
            "target" => made.target = Some(reader.filled(&path, node)?),
            "args" => made.args = reader.pairs(&path, node, |_| None)?,
            "labels" => made.labels = reader.pairs(&path, node, |_| Some(String::new()))?,
            "additional_contexts" => made.contexts = reader.pairs(&path, node, |_| None)?,
            "cache_from" | "cache_to" | "no_cache" | "no_cache_filter" | "pull" | "tags"
            | "platforms" | "provenance" | "sbom" | "shm_size" | "ulimits" | "isolation" => {
                reader.note(node, &format!("build.{} has no effect", entry.key))
            }
            "extra_hosts" | "network" | "privileged" | "entitlements" | "secrets" | "ssh" => {
                return Err(reader.refuse(&path, entry, "leave it out"));
            }
            key if key.starts_with("x-") => {}
            _ => {
                let known = [
                    "context",
                    "dockerfile",
                    "dockerfile_inline",
                    "target",
                    "args",
                    "labels",
                    "additional_contexts",
                ];
                return Err(reader.unknown(&path, entry, &known));
            }
        }
    }
    if made.dockerfile.is_some() && made.inline.is_some() {
        let what = "has a dockerfile and a dockerfile_inline; one of them is enough";
        return Err(reader.invalid(&format!("{at}.build"), build, what));
    }
    if made.context.is_empty() {
        let what = "has no context; write context: . for the file's folder";
        return Err(reader.invalid(&format!("{at}.build"), build, what));
    }
    if !super::canonical::remote(&made.context) && made.inline.is_none() {
        let file = made.dockerfile.as_deref().unwrap_or("Dockerfile");
        let joined = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{}/{file}", made.context)
        };
        made.dockerfile = crate::mounts::absolute(&joined);
    }
    Ok(Origin::Build(Box::new(made)))
}

/// `env_file`s in order, then `environment`; a name alone takes the project's value.
fn environment(
    loader: &mut Loader<'_>,
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    at: &str,
    node: &Node,
) -> Result<BTreeMap<String, String>, Stop> {
    let mut variables = BTreeMap::new();
    if let Some(files) = node.get("env_file").filter(|files| !files.is_null()) {
        let mut waiting = false;
        for (number, file) in reader
            .list(&format!("{at}.env_file"), files)?
            .iter()
            .enumerate()
        {
            let path = format!("{at}.env_file[{number}]");
            let part = |name: &str| file.get(name);
            let required = match part("required") {
                Some(required) => reader.bool(&format!("{path}.required"), required)?,
                None => true,
            };
            let raw = match part("format").and_then(Node::scalar).as_deref() {
                None => false,
                Some("raw") => true,
                Some(_) => {
                    return Err(reader
                        .invalid(&path, file, "has another format than raw")
                        .into());
                }
            };
            let Some(name) = part("path").and_then(Node::scalar) else {
                return Err(reader.wrong(&path, file, "a path").into());
            };
            let text = match loader.text(&name) {
                Ok(text) => text,
                Err(Stop::Needs) => {
                    waiting = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match text {
                Some(text) => {
                    let mut known = shared.variables.clone();
                    known.extend(variables.clone());
                    for (name, value) in loader.pairs(&name, text, &known, raw)? {
                        let value = value.or_else(|| shared.variables.get(&name).cloned());
                        variables.extend(value.map(|value| (name, value)));
                    }
                }
                None if required => {
                    let place = part("path").unwrap_or(file);
                    return Err(reader.missing(place, format!("{name} is not there")).into());
                }
                None => {}
            }
        }
        if waiting {
            return Err(Stop::Needs);
        }
    }
    if let Some(own) = node.get("environment").filter(|own| !own.is_null()) {
        let path = format!("{at}.environment");
        let own = reader.pairs(&path, own, |name| shared.variables.get(name).cloned())?;
        variables.extend(own);
    }
    Ok(variables)
}

fn network(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    at: &str,
    node: &Node,
    service: &mut Service,
) -> Result<(), Error> {
    let networks = node.get("networks").filter(|networks| !networks.is_null());
    if let Some(mode) = node.get("network_mode").filter(|mode| !mode.is_null()) {
        let path = format!("{at}.network_mode");
        let text = reader.filled(&path, mode)?;
        if networks.is_some() && text != "bridge" {
            let what = "and networks exclude each other; remove one of them";
            return Err(reader.invalid(&path, mode, what));
        }
        match text.split_once(':') {
            None if text == "none" => service.network = ServiceNetwork::None,
            None if text == "host" => {
                reader.note(mode, "network_mode host means the environment's own network: nothing of the host's is reachable");
                service.network = ServiceNetwork::Environment;
            }
            Some(("service", of)) => {
                if shared
                    .root
                    .get("services")
                    .and_then(|all| all.get(of))
                    .is_none()
                {
                    let what = format!("there is no service {:?}", crate::config::shown(of));
                    return Err(reader.missing(mode, what));
                }
                service.network = ServiceNetwork::Service(of.to_owned());
            }
            None if text == "bridge" || text == "default" => {}
            _ => {
                let what = format!(
                    "is {text:?}, but an environment has none, host, bridge and service:NAME"
                );
                return Err(reader.invalid(&path, mode, &what));
            }
        }
        if service.network != ServiceNetwork::Own(BTreeMap::new()) {
            return Ok(());
        }
    }
    let mut joined = BTreeMap::new();
    let defined = shared.root.get("networks");
    let internal = |name: &str| {
        let definition = defined.and_then(|all| all.get(name));
        let internal = definition.and_then(|network| network.get("internal"));
        internal.is_some_and(|internal| internal.scalar().as_deref() == Some("true"))
    };
    match networks {
        None => {
            let internal = internal("default");
            joined.insert(
                "default".to_owned(),
                OnNetwork {
                    aliases: Vec::new(),
                    internal,
                },
            );
        }
        Some(networks) => {
            for entry in reader.map(&format!("{at}.networks"), networks)? {
                let path = format!("{at}.networks.{}", entry.key);
                if entry.key != "default"
                    && defined.and_then(|all| all.get(&entry.key)).is_none()
                    && defined.and_then(|all| all.entry(&entry.key)).is_none()
                {
                    let what = format!(
                        "there is no network {:?}; name it under networks",
                        crate::config::shown(&entry.key)
                    );
                    return Err(reader.missing(&entry.node, what));
                }
                let mut on = OnNetwork {
                    aliases: Vec::new(),
                    internal: internal(&entry.key),
                };
                for part in reader.map(&path, &entry.node)? {
                    let path = format!("{path}.{}", part.key);
                    match part.key.as_str() {
                        "aliases" => {
                            for alias in reader.list(&path, &part.node)? {
                                on.aliases.push(host_name(reader, &path, alias)?);
                            }
                        }
                        "ipv4_address" | "ipv6_address" | "link_local_ips" => {
                            return Err(reader.refuse(&path, part, "use the service's name"));
                        }
                        "mac_address" | "priority" | "gw_priority" | "driver_opts"
                        | "interface_name" => {
                            reader.note(&part.node, &format!("{} has no effect", part.key))
                        }
                        key if key.starts_with("x-") => {}
                        _ => return Err(reader.unknown(&path, part, &["aliases"])),
                    }
                }
                joined.insert(entry.key.clone(), on);
            }
        }
    }
    service.network = ServiceNetwork::Own(joined);
    Ok(())
}

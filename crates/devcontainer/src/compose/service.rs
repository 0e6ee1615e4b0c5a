//! One service, read from its merged tree.
//!
//! Everything a service may say is taken over, recorded with a note, or refused by name and place.

use super::load::{Loader, Stop};
use super::mounts;
use super::plan::{
    Build, Condition, Dependency, Healthcheck, OnNetwork, Origin, Pull, Restart, Service,
    ServiceLimits, ServiceNetwork,
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

const STARTED: Dependency = Dependency {
    condition: Condition::Started,
    required: true,
    restart: false,
};

fn host_name(reader: &Reader<'_>, path: &str, node: &Node) -> Result<String, Error> {
    let name = reader.filled(path, node)?;
    if name.len() > 64
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return Err(reader.invalid(path, node, "is no name of a host"));
    }
    Ok(name)
}

fn one(reader: &Reader<'_>, path: &str, node: &Node) -> Result<(), Error> {
    match reader.number(path, node)? {
        1 => Ok(()),
        _ => Err(reader.invalid(
            path,
            node,
            "must be 1: a service runs once in an environment",
        )),
    }
}

fn signal(reader: &Reader<'_>, path: &str, node: &Node) -> Result<String, Error> {
    let text = reader.filled(path, node)?;
    let good = text.len() <= 16
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-');
    if good {
        Ok(text)
    } else {
        Err(reader.invalid(path, node, "is no signal, such as SIGINT"))
    }
}

fn ulimits(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<BTreeMap<String, (i64, i64)>, Error> {
    let mut limits = BTreeMap::new();
    for entry in reader.map(path, node)? {
        let path = format!("{path}.{}", entry.key);
        let part = |name: &str| {
            let value = entry.node.get(name).and_then(Node::scalar);
            value
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| reader.wrong(&path, &entry.node, "a whole number, or soft and hard"))
        };
        limits.insert(entry.key.clone(), (part("soft")?, part("hard")?));
    }
    Ok(limits)
}

fn ports(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Vec<String>, Error> {
    let one = |(at, item): (usize, &Node)| -> Result<String, Error> {
        let path = format!("{path}[{at}]");
        let Value::Map(entries) = &item.value else {
            return reader.filled(&path, item);
        };
        let part = |name: &str| item.get(name).and_then(Node::scalar);
        let known = [
            "target",
            "published",
            "host_ip",
            "protocol",
            "mode",
            "name",
            "app_protocol",
        ];
        if let Some(entry) = entries
            .iter()
            .find(|entry| !known.contains(&entry.key.as_str()) && !entry.key.starts_with("x-"))
        {
            return Err(reader.unknown(&format!("{path}.{}", entry.key), entry, &known));
        }
        let target = part("target").ok_or_else(|| reader.invalid(&path, item, "has no target"))?;
        let mut text = match (part("host_ip"), part("published")) {
            (Some(ip), published) => format!("{ip}:{}:{target}", published.unwrap_or_default()),
            (None, Some(published)) => format!("{published}:{target}"),
            (None, None) => target,
        };
        if let Some(protocol) = part("protocol").filter(|protocol| protocol != "tcp") {
            text = format!("{text}/{protocol}");
        }
        Ok(text)
    };
    reader
        .list(path, node)?
        .iter()
        .enumerate()
        .map(one)
        .collect()
}

fn restart(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Restart, Error> {
    // `no` is a word to some and false to others.
    let text = reader.text(path, node)?;
    match text.as_str() {
        "no" | "false" | "" => Ok(Restart::No),
        "always" => Ok(Restart::Always),
        "unless-stopped" => Ok(Restart::UnlessStopped),
        _ => match text.strip_prefix("on-failure") {
            Some("") => Ok(Restart::OnFailure(None)),
            Some(count) => {
                let count = count.strip_prefix(':').and_then(|count| count.parse().ok());
                count
                    .map(|count| Restart::OnFailure(Some(count)))
                    .ok_or_else(|| {
                        reader.invalid(path, node, "must be on-failure or on-failure:COUNT")
                    })
            }
            None => Err(reader.invalid(
                path,
                node,
                "must be no, always, unless-stopped or on-failure[:COUNT]",
            )),
        },
    }
}

fn depends_on(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    service: &mut Service,
    path: &str,
    node: &Node,
) -> Result<(), Error> {
    for entry in reader.map(path, node)? {
        let path = format!("{path}.{}", entry.key);
        let mut dependency = STARTED;
        for part in reader.map(&path, &entry.node)? {
            let path = format!("{path}.{}", part.key);
            match part.key.as_str() {
                "condition" => {
                    dependency.condition = match reader.text(&path, &part.node)?.as_str() {
                        "service_started" => Condition::Started,
                        "service_healthy" => Condition::Healthy,
                        "service_completed_successfully" => Condition::Completed,
                        _ => {
                            let what = "must be service_started, service_healthy or service_completed_successfully";
                            return Err(reader.invalid(&path, &part.node, what));
                        }
                    }
                }
                "required" => dependency.required = reader.bool(&path, &part.node)?,
                "restart" => dependency.restart = reader.bool(&path, &part.node)?,
                _ => {
                    let known = ["condition", "required", "restart"];
                    return Err(reader.unknown(&path, part, &known));
                }
            }
        }
        let there = shared
            .root
            .get("services")
            .and_then(|all| all.get(&entry.key));
        if there.is_none() && dependency.required {
            let what = format!("there is no service {:?}", crate::config::shown(&entry.key));
            return Err(reader.missing(&entry.node, what));
        }
        service.depends_on.insert(entry.key.clone(), dependency);
    }
    Ok(())
}

fn healthcheck(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Healthcheck, Error> {
    let mut check = Healthcheck {
        test: None,
        interval_millis: None,
        timeout_millis: None,
        retries: None,
        start_period_millis: None,
        start_interval_millis: None,
    };
    let mut disabled = false;
    for entry in reader.map(path, node)? {
        let path = format!("{path}.{}", entry.key);
        let node = &entry.node;
        if node.is_null() {
            continue;
        }
        match entry.key.as_str() {
            "test" => {
                check.test = Some(match &node.value {
                    Value::List(_) => {
                        let words = reader.texts(&path, node)?;
                        match words.split_first() {
                            Some((kind, _)) if kind == "NONE" => Vec::new(),
                            Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => {
                                rest.to_vec()
                            }
                            Some((kind, [line])) if kind == "CMD-SHELL" => shell(line),
                            _ => {
                                let what = "must begin with CMD, CMD-SHELL or NONE";
                                return Err(reader.invalid(&path, node, what));
                            }
                        }
                    }
                    _ => shell(&reader.filled(&path, node)?),
                });
            }
            "interval" => check.interval_millis = Some(reader.millis(&path, node)?),
            "timeout" => check.timeout_millis = Some(reader.millis(&path, node)?),
            "start_period" => check.start_period_millis = Some(reader.millis(&path, node)?),
            "start_interval" => check.start_interval_millis = Some(reader.millis(&path, node)?),
            "retries" => {
                let retries = u32::try_from(reader.number(&path, node)?);
                check.retries =
                    Some(retries.map_err(|_| reader.invalid(&path, node, "is too large"))?);
            }
            "disable" => disabled = reader.bool(&path, node)?,
            key if key.starts_with("x-") => {}
            _ => {
                let known = [
                    "test",
                    "interval",
                    "timeout",
                    "start_period",
                    "start_interval",
                    "retries",
                    "disable",
                ];
                return Err(reader.unknown(&path, entry, &known));
            }
        }
    }
    if disabled {
        check.test = Some(Vec::new());
    }
    Ok(check)
}

fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

fn deploy(
    reader: &Reader<'_>,
    service: &mut Service,
    path: &str,
    node: &Node,
) -> Result<(), Error> {
    for entry in reader.map(path, node)? {
        let path = format!("{path}.{}", entry.key);
        match entry.key.as_str() {
            "replicas" => one(reader, &path, &entry.node)?,
            "resources" => {
                for kind in reader.map(&path, &entry.node)? {
                    let path = format!("{path}.{}", kind.key);
                    for limit in reader.map(&path, &kind.node)? {
                        let path = format!("{path}.{}", limit.key);
                        match (kind.key.as_str(), limit.key.as_str()) {
                            ("limits", "cpus") => {
                                service.limits.cpu_millis = Some(reader.cpus(&path, &limit.node)?)
                            }
                            ("limits", "memory") => {
                                service.limits.memory_bytes =
                                    Some(reader.bytes(&path, &limit.node)?)
                            }
                            ("limits", "pids") => {
                                service.limits.pids = Some(reader.number(&path, &limit.node)?)
                            }
                            ("reservations", "devices" | "generic_resources") => {
                                let remedy = "remove it; devices are the environment's class's";
                                return Err(reader.refuse(&path, limit, remedy));
                            }
                            ("reservations", _) => {}
                            _ => {
                                let known = ["cpus", "memory", "pids"];
                                return Err(reader.unknown(&path, limit, &known));
                            }
                        }
                    }
                }
            }
            "restart_policy" => {
                let condition = entry.node.get("condition").and_then(Node::scalar);
                let attempts = entry
                    .node
                    .get("max_attempts")
                    .and_then(Node::scalar)
                    .and_then(|count| count.parse().ok());
                service.restart = match condition.as_deref() {
                    Some("none") => Restart::No,
                    Some("on-failure") => Restart::OnFailure(attempts),
                    Some("any") | None => Restart::Always,
                    Some(_) => {
                        let what = "has another condition than none, on-failure or any";
                        return Err(reader.invalid(&path, &entry.node, what));
                    }
                };
            }
            "mode" | "endpoint_mode" | "placement" | "update_config" | "rollback_config"
            | "labels" => reader.note(
                &entry.node,
                &format!("deploy.{} has no effect: there is no swarm", entry.key),
            ),
            key if key.starts_with("x-") => {}
            _ => {
                let known = [
                    "replicas",
                    "resources",
                    "restart_policy",
                    "mode",
                    "placement",
                ];
                return Err(reader.unknown(&path, entry, &known));
            }
        }
    }
    Ok(())
}

fn extra_hosts(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<Vec<(String, String)>, Error> {
    let mut hosts = Vec::new();
    for entry in reader.map(path, node)? {
        let path = format!("{path}.{}", entry.key);
        let addresses = match &entry.node.value {
            Value::List(_) => reader.texts(&path, &entry.node)?,
            _ => vec![reader.filled(&path, &entry.node)?],
        };
        for address in addresses {
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            if bare == "host-gateway" {
                reader.note(
                    &entry.node,
                    "host-gateway leads nowhere: the host's own services are not reachable from an environment",
                );
                continue;
            }
            if bare.parse::<std::net::IpAddr>().is_err() {
                return Err(reader.invalid(&path, &entry.node, "is no address"));
            }
            let name = &entry.key;
            if name.is_empty() || name.contains(|letter: char| !letter.is_ascii_graphic()) {
                return Err(reader.invalid(&path, &entry.node, "has no name of a host"));
            }
            hosts.push((name.clone(), bare.to_owned()));
        }
    }
    Ok(hosts)
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

//! The larger properties of a service, each by a function of its own.

use super::plan::{Condition, Dependency, Healthcheck, Restart, Service};
use super::read::Reader;
use super::service::Shared;
use super::yaml::{Node, Value};
use crate::error::Error;
use std::collections::BTreeMap;

pub(super) const STARTED: Dependency = Dependency {
    condition: Condition::Started,
    required: true,
    restart: false,
};

pub(super) fn host_name(reader: &Reader<'_>, path: &str, node: &Node) -> Result<String, Error> {
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

pub(super) fn one(reader: &Reader<'_>, path: &str, node: &Node) -> Result<(), Error> {
    match reader.number(path, node)? {
        1 => Ok(()),
        _ => Err(reader.invalid(
            path,
            node,
            "must be 1: a service runs once in an environment",
        )),
    }
}

pub(super) fn signal(reader: &Reader<'_>, path: &str, node: &Node) -> Result<String, Error> {
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

pub(super) fn ulimits(
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
        let wanted = (part("soft")?, part("hard")?);
        if let Some(why) = crate::ulimits::refusal(&entry.key, wanted) {
            return Err(reader.invalid(&path, &entry.node, &why));
        }
        limits.insert(entry.key.clone(), wanted);
    }
    Ok(limits)
}

pub(super) fn ports(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Vec<String>, Error> {
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

pub(super) fn restart(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Restart, Error> {
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

pub(super) fn depends_on(
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

pub(super) fn healthcheck(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<Healthcheck, Error> {
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

pub(super) fn deploy(
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

pub(super) fn extra_hosts(
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

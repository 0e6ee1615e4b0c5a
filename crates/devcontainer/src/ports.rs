//! `forwardPorts`, `portsAttributes` and `otherPortsAttributes`, recorded for whoever forwards.

use crate::config::Reader;
use crate::error::Error;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A port to forward.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The host as seen from inside; none means the environment itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port there.
    pub port: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

/// What happens when a port starts to be listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnAutoForward {
    /// Tell the user.
    #[default]
    Notify,
    /// Open a browser.
    OpenBrowser,
    /// Open a browser the first time.
    OpenBrowserOnce,
    /// Open a preview.
    OpenPreview,
    /// Forward without a word.
    Silent,
    /// Do not forward.
    Ignore,
}

/// How one port, range or pattern is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortAttributes {
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What happens on detection; none leaves the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_auto_forward: Option<OnAutoForward>,
    /// Fail rather than take another local port.
    #[serde(default)]
    pub require_local_port: bool,
    /// Ask for rights when the local port needs them.
    #[serde(default)]
    pub elevate_if_needed: bool,
}

/// A number, or `host:port`; `localhost:PORT` is the number.
pub(crate) fn port(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Port, Error> {
    let bad = || {
        reader.invalid(
            path,
            node,
            "is no port; write a number from 1 to 65535, or \"host:port\"",
        )
    };
    let valid = |port: u64| u16::try_from(port).ok().filter(|port| *port > 0);
    match &node.value {
        Value::Number(number) => {
            let port = number.as_u64().and_then(valid).ok_or_else(bad)?;
            Ok(Port { host: None, port })
        }
        Value::String(text) => {
            let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = Some(port)
                .filter(|_| digits)
                .and_then(|port| port.parse().ok())
                .and_then(valid)
                .ok_or_else(bad)?;
            if host.is_empty()
                || host.contains(|letter: char| {
                    letter.is_whitespace() || letter.is_control() || letter == '/'
                })
            {
                return Err(bad());
            }
            Ok(Port {
                host: Some(host.to_owned()).filter(|host| host != "localhost"),
                port,
            })
        }
        _ => Err(reader.wrong(path, node, "a number or a \"host:port\" string")),
    }
}

pub(crate) fn ports(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Vec<Port>, Error> {
    let items = reader.array(path, node)?;
    items
        .iter()
        .enumerate()
        .map(|(at, item)| port(reader, &format!("{path}[{at}]"), item))
        .collect()
}

/// The deprecated `appPort`: a number, `[[address:]host:]port`, or an array of those.
pub(crate) fn app_ports(reader: &Reader<'_>, path: &str, node: &Node) -> Result<Vec<Port>, Error> {
    let one = |path: &str, node: &Node| match &node.value {
        Value::String(text) => {
            let inner = text.rsplit(':').next().unwrap_or(text);
            let inner = inner.strip_suffix("/tcp").unwrap_or(inner);
            let number = Node {
                span: node.span,
                value: Value::String(inner.to_owned()),
            };
            port(reader, path, &number)
        }
        _ => port(reader, path, node),
    };
    match &node.value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| one(&format!("{path}[{at}]"), item))
            .collect(),
        _ => Ok(vec![one(path, node)?]),
    }
}

pub(crate) fn attributes(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<PortAttributes, Error> {
    let mut attributes = PortAttributes::default();
    for entry in reader.object(path, node)? {
        let path = format!("{path}.{}", entry.key);
        match entry.key.as_str() {
            "label" => attributes.label = Some(reader.string(&path, &entry.node)?),
            "protocol" => {
                attributes.protocol = Some(
                    reader
                        .choice(&path, &entry.node, &[("http", "http"), ("https", "https")])?
                        .to_owned(),
                )
            }
            "onAutoForward" => {
                let choices = [
                    ("notify", OnAutoForward::Notify),
                    ("openBrowser", OnAutoForward::OpenBrowser),
                    ("openBrowserOnce", OnAutoForward::OpenBrowserOnce),
                    ("openPreview", OnAutoForward::OpenPreview),
                    ("silent", OnAutoForward::Silent),
                    ("ignore", OnAutoForward::Ignore),
                ];
                attributes.on_auto_forward = Some(reader.choice(&path, &entry.node, &choices)?);
            }
            "requireLocalPort" => {
                attributes.require_local_port = reader.bool(&path, &entry.node)?
            }
            "elevateIfNeeded" => attributes.elevate_if_needed = reader.bool(&path, &entry.node)?,
            _ => reader.unknown(
                entry,
                &path,
                &[
                    "label",
                    "protocol",
                    "onAutoForward",
                    "requireLocalPort",
                    "elevateIfNeeded",
                ],
            ),
        }
    }
    Ok(attributes)
}

/// A port that a configuration names, and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// The port.
    pub port: Port,
    /// `forwardPorts` names it.
    pub forward: bool,
    /// Of the port, else of the range it is in, else those of all others.
    pub attributes: PortAttributes,
}

/// Every port that is named by its number, in order: those to forward, then those that only have
/// attributes. What is named by a pattern is known when it is listened on.
pub(crate) fn named(
    forward: &[Port],
    attributes: &BTreeMap<String, PortAttributes>,
    others: Option<&PortAttributes>,
) -> Vec<NamedPort> {
    let range = |key: &str| -> Option<(u16, u16)> {
        let (first, last) = key.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    let of = |port: &Port| {
        let exact = attributes.get(&port.to_string());
        let within = || {
            let mut ranges = attributes
                .iter()
                .filter_map(|(key, of)| Some((range(key)?, of)));
            let found = ranges.find(|((first, last), _)| {
                port.host.is_none() && (*first..=*last).contains(&port.port)
            });
            found.map(|(_, of)| of)
        };
        exact
            .or_else(within)
            .or(others)
            .cloned()
            .unwrap_or_default()
    };
    let mut all: Vec<NamedPort> = Vec::new();
    let numbers = attributes
        .keys()
        .filter_map(|key| match key.rsplit_once(':') {
            Some((host, port)) => Some(Port {
                host: Some(host.to_owned()).filter(|host| host != "localhost"),
                port: port.parse().ok()?,
            }),
            None => Some(Port {
                host: None,
                port: key.parse().ok()?,
            }),
        });
    let forward = forward.iter().map(|port| (port.clone(), true));
    for (port, forward) in forward.chain(numbers.map(|port| (port, false))) {
        if !all.iter().any(|known| known.port == port) {
            all.push(NamedPort {
                attributes: of(&port),
                port,
                forward,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    //! Whose attributes a port has.
    use super::*;

    #[test]
    fn a_port_has_its_own_attributes_else_its_ranges_else_all_others() {
        let label = |text: &str| PortAttributes {
            label: Some(text.to_owned()),
            ..PortAttributes::default()
        };
        let port = |host: Option<&str>, port| Port {
            host: host.map(str::to_owned),
            port,
        };
        let attributes = BTreeMap::from([
            ("3000".to_owned(), label("app")),
            ("3000-3010".to_owned(), label("range")),
            ("db:5432".to_owned(), label("database")),
            ("9000".to_owned(), label("debugger")),
            (".+/server.js".to_owned(), label("pattern")),
        ]);
        let forward = [
            port(None, 3000),
            port(None, 3005),
            port(None, 4000),
            port(Some("db"), 5432),
        ];
        let named = named(&forward, &attributes, Some(&label("other")));
        let told: Vec<String> = named
            .iter()
            .map(|one| {
                let label = one.attributes.label.as_deref().unwrap_or_default();
                format!("{} {label} {}", one.port, one.forward)
            })
            .collect();
        let wanted = [
            "3000 app true",
            "3005 range true",
            "4000 other true",
            "db:5432 database true",
            "9000 debugger false",
        ];
        assert_eq!(told, wanted);
    }
}

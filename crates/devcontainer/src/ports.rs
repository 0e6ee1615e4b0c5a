//! `forwardPorts`, `portsAttributes` and `otherPortsAttributes`, recorded for whoever forwards.

use crate::config::Reader;
use crate::error::Error;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};
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

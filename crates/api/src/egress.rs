//! Egress: where environments may connect to.
//!
//! The same words stand in a class and in an environment; what both together allow is decided in
//! `plan::egress`, and enforced by the runner. Shapes are here, on the fields.

use crate::rules::FieldError;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Where an environment may connect to. Never to its host, other environments or the metadata services
/// of clouds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'AllowList' || !has(self.allow) || size(self.allow) == 0")
        .message("only the mode AllowList has a list")
        .field_path(".allow")
)]
pub struct Egress {
    /// How much.
    pub mode: EgressMode,
    /// What may be reached, with the mode AllowList. Nothing else resolves or connects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub allow: Vec<EgressRule>,
}

/// How much may be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EgressMode {
    /// Everything.
    #[default]
    Open,
    /// What is listed.
    AllowList,
    /// Nothing.
    Closed,
}

/// Something that may be reached: exactly one of `domain` and `cidr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.domain) != has(self.cidr)")
        .message("give either domain or cidr"),
    validation = Rule::new("has(self.cidr) || !has(self.except) || size(self.except) == 0")
        .message("only a cidr has exceptions")
        .field_path(".except"),
)]
pub struct EgressRule {
    /// A name, `example.org`, or all names below one, `*.example.org` (not `example.org` itself). Only
    /// public addresses are reached by name: private ones are listed as `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^([*][.])?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?([.][a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$')")
            .message("must be a lower-case name such as example.org, or *.example.org")
    )]
    pub domain: Option<String>,
    /// A range of IPv4 addresses, `203.0.113.0/24`, or one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 18))]
    pub cidr: Option<String>,
    /// Ranges within `cidr` that are not meant, such as `10.0.0.0/8` in `0.0.0.0/0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 18)))]
    pub except: Vec<String>,
    /// Ports of TCP and UDP; every port and protocol when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1)))]
    pub ports: Vec<u16>,
}

/// First and last address of a range written as in [`EgressRule::cidr`].
///
/// # Errors
/// What is wrong with it.
pub fn range(cidr: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let (address, bits) = match cidr.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (cidr, None),
    };
    if address.contains(':') {
        return Err("must be of IPv4: environments do not speak IPv6 with the outside".to_owned());
    }
    let wrong = || "must be a range of addresses such as 203.0.113.0/24".to_owned();
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u32 = match bits {
        Some(bits) if !bits.starts_with('+') => bits.parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
        None => 32,
    };
    let host = match bits {
        0 => u32::MAX,
        1..=32 => !(u32::MAX << (32 - bits)),
        _ => return Err(wrong()),
    };
    let number = u32::from(address);
    if number & host != 0 {
        let first = Ipv4Addr::from(number & !host);
        return Err(format!("must begin at its first address, {first}/{bits}"));
    }
    Ok((address, Ipv4Addr::from(number | host)))
}

impl Egress {
    /// Everything wrong with it that the schema does not say.
    pub(crate) fn validate(&self, path: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (number, rule) in self.allow.iter().enumerate() {
            let path = format!("{path}.allow[{number}]");
            let within = rule.cidr.as_deref().and_then(|cidr| match range(cidr) {
                Ok(within) => Some(within),
                Err(wrong) => {
                    errors.push(FieldError::invalid(format!("{path}.cidr"), cidr, wrong));
                    None
                }
            });
            for (number, except) in rule.except.iter().enumerate() {
                let path = format!("{path}.except[{number}]");
                match (range(except), within) {
                    (Err(wrong), _) => {
                        errors.push(FieldError::invalid(path, except.as_str(), wrong));
                    }
                    (Ok((first, last)), Some(within)) if first < within.0 || last > within.1 => {
                        let wrong = "must lie within cidr";
                        errors.push(FieldError::invalid(path, except.as_str(), wrong));
                    }
                    _ => {}
                }
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests;

//! What a class and an environment together let through.
//!
//! An environment may only narrow what its class allows: what is in force is always what both allow,
//! whatever either says later, and what an environment asks for beyond that is named. A range is
//! compared address by address; a name only as a whole: `*.example.org` is not allowed by a class that
//! allows `www.example.org`.
//!
//! Read next: `boatyard_api::egress`.

use boatyard_api::egress::{Egress, EgressMode, EgressRule, range};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What is let through besides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Names.
    pub names: Vec<Name>,
    /// Addresses.
    pub ranges: Vec<Range>,
}

/// Names that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name.
    pub name: String,
    /// All names below this one, and not it itself.
    pub below: bool,
    /// Ports; all when empty.
    pub ports: Vec<u16>,
}

/// Addresses that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Lowest.
    pub first: Ipv4Addr,
    /// Highest.
    pub last: Ipv4Addr,
    /// Ports; all when empty.
    pub ports: Vec<u16>,
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// In one word.
    pub mode: EgressMode,
    /// None where everything is open.
    pub policy: Option<Policy>,
    /// What the environment asks for and its class does not allow, as the user wrote it.
    pub beyond: Vec<String>,
}

impl Decision {
    /// What to tell the user of what is not allowed; None when everything is.
    #[must_use]
    pub fn complaint(&self, class: &str) -> Option<String> {
        /// More would not be read.
        const SHOWN: usize = 8;
        let (first, rest) = self.beyond.split_at(self.beyond.len().min(SHOWN));
        if first.is_empty() {
            return None;
        }
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "spec.egress asks for {}{more}, which the class {class} does not allow; leave it out, or choose another class",
            first.join(", ")
        ))
    }
}

/// Decides what is in force.
#[must_use]
pub fn decide(class: Option<&Egress>, environment: Option<&Egress>) -> Decision {
    let Some(allowed) = policy(class) else {
        return Decision {
            mode: environment.map_or(EgressMode::Open, |own| own.mode),
            policy: policy(environment),
            beyond: Vec::new(),
        };
    };
    let class_mode = class.map_or(EgressMode::Open, |class| class.mode);
    let of_class = |beyond| Decision {
        mode: class_mode,
        policy: Some(allowed.clone()),
        beyond,
    };
    let Some(own) = environment else {
        return of_class(Vec::new());
    };
    match own.mode {
        EgressMode::Open => of_class(vec!["the mode Open".to_owned()]),
        EgressMode::Closed => Decision {
            mode: EgressMode::Closed,
            policy: Some(Policy::default()),
            beyond: Vec::new(),
        },
        EgressMode::AllowList => {
            let mut both = Policy::default();
            let mut beyond = Vec::new();
            for rule in &own.allow {
                if !narrow(rule, &allowed, &mut both) {
                    beyond.push(shown(rule));
                }
            }
            Decision {
                mode: if class_mode == EgressMode::Closed {
                    EgressMode::Closed
                } else {
                    EgressMode::AllowList
                },
                policy: Some(both),
                beyond,
            }
        }
    }
}

/// What a policy says; None for everything.
fn policy(egress: Option<&Egress>) -> Option<Policy> {
    let egress = egress.filter(|egress| egress.mode != EgressMode::Open)?;
    let mut policy = Policy::default();
    for rule in &egress.allow {
        policy.names.extend(name(rule));
        policy.ranges.extend(ranges(rule));
    }
    Some(policy)
}

fn name(rule: &EgressRule) -> Option<Name> {
    let domain = rule.domain.as_deref()?;
    let below = domain.strip_prefix("*.");
    Some(Name {
        name: below.unwrap_or(domain).to_owned(),
        below: below.is_some(),
        ports: rule.ports.clone(),
    })
}

/// What is left of a range when its exceptions are taken out.
fn ranges(rule: &EgressRule) -> Vec<Range> {
    let bounds = |cidr: &String| {
        let (first, last) = range(cidr).ok()?;
        Some((u64::from(u32::from(first)), u64::from(u32::from(last))))
    };
    let Some((first, last)) = rule.cidr.as_ref().and_then(bounds) else {
        return Vec::new();
    };
    let mut holes: Vec<_> = rule.except.iter().filter_map(bounds).collect();
    holes.sort_unstable();
    let mut found = Vec::new();
    let mut from = first;
    for (hole, end) in holes.into_iter().chain([(last + 1, last + 1)]) {
        if hole > from {
            found.push(numbered(from, hole.min(last + 1) - 1, &rule.ports));
        }
        from = from.max(end + 1);
    }
    found.into_iter().flatten().collect()
}

fn numbered(first: u64, last: u64, ports: &[u16]) -> Option<Range> {
    Some(Range {
        first: u32::try_from(first).ok()?.into(),
        last: u32::try_from(last).ok()?.into(),
        ports: ports.to_vec(),
    })
}

/// Adds what `allowed` allows of a rule; answers whether that is all of it.
fn narrow(rule: &EgressRule, allowed: &Policy, both: &mut Policy) -> bool {
    match name(rule) {
        Some(name) => narrow_name(name, allowed, both),
        None => narrow_ranges(&ranges(rule), allowed, both),
    }
}

fn narrow_name(mut name: Name, allowed: &Policy, both: &mut Policy) -> bool {
    let covering = allowed.names.iter().filter(|other| covers(other, &name));
    let mut ports: Option<BTreeSet<u16>> = Some(BTreeSet::new());
    let mut found = false;
    for other in covering {
        found = true;
        if other.ports.is_empty() {
            ports = None;
            break;
        }
        if let Some(ports) = &mut ports {
            ports.extend(&other.ports);
        }
    }
    let Some(ports) = ports else {
        both.names.push(name);
        return true;
    };
    if !found {
        return false;
    }
    let wanted = std::mem::take(&mut name.ports);
    let (within, beyond): (Vec<u16>, Vec<u16>) =
        wanted.iter().partition(|port| ports.contains(port));
    name.ports = if wanted.is_empty() {
        ports.into_iter().collect()
    } else {
        within
    };
    // No ports at all would mean all of them.
    if !name.ports.is_empty() {
        both.names.push(name);
    }
    beyond.is_empty() && !wanted.is_empty()
}

fn covers(allowed: &Name, name: &Name) -> bool {
    if !allowed.below {
        return allowed.name == name.name && !name.below;
    }
    let rest = name.name.strip_suffix(allowed.name.as_str());
    match rest {
        Some("") => name.below,
        Some(rest) => rest.ends_with('.'),
        None => false,
    }
}

/// By cutting each range with each that is allowed; whether nothing was lost is told by counting, for
/// every port, the addresses that are left.
fn narrow_ranges(wanted: &[Range], allowed: &Policy, both: &mut Policy) -> bool {
    let mut whole = true;
    for wanted in wanted {
        let mut kept: Vec<Range> = Vec::new();
        for other in &allowed.ranges {
            let (first, last) = (wanted.first.max(other.first), wanted.last.min(other.last));
            let ports = match (wanted.ports.is_empty(), other.ports.is_empty()) {
                (_, true) => Some(wanted.ports.clone()),
                (true, false) => Some(other.ports.clone()),
                (false, false) => {
                    let ports = wanted
                        .ports
                        .iter()
                        .filter(|port| other.ports.contains(port));
                    Some(ports.copied().collect()).filter(|ports: &Vec<u16>| !ports.is_empty())
                }
            };
            if let Some(ports) = ports.filter(|_| first <= last) {
                kept.push(Range { first, last, ports });
            }
        }
        let asked: Vec<Option<u16>> = if wanted.ports.is_empty() {
            vec![None]
        } else {
            wanted.ports.iter().copied().map(Some).collect()
        };
        let size = u64::from(u32::from(wanted.last)) - u64::from(u32::from(wanted.first)) + 1;
        whole &= asked.iter().all(|port| {
            let of = kept.iter().filter(|range| {
                range.ports.is_empty() || port.is_some_and(|port| range.ports.contains(&port))
            });
            count(of) == size
        });
        both.ranges.extend(kept);
    }
    whole
}

/// Addresses in all of them together.
fn count<'a>(ranges: impl Iterator<Item = &'a Range>) -> u64 {
    let mut bounds: Vec<(u64, u64)> = ranges
        .map(|range| (u32::from(range.first).into(), u32::from(range.last).into()))
        .collect();
    bounds.sort_unstable();
    let (mut counted, mut after) = (0, 0);
    for (first, last) in bounds {
        let first = first.max(after);
        if last >= first {
            counted += last - first + 1;
            after = last + 1;
        }
    }
    counted
}

/// A rule as its author knows it.
fn shown(rule: &EgressRule) -> String {
    let what = rule.domain.as_deref().or(rule.cidr.as_deref());
    let what = what.unwrap_or_default().to_owned();
    if rule.ports.is_empty() {
        return what;
    }
    let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
    format!("{what} (ports {})", ports.join(", "))
}

#[cfg(test)]
mod tests;

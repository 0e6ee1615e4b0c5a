//! Defaults and validation of each kind, beyond what its schema says.
//!
//! A rule stands in one place. Shapes, bounds and patterns stand in the schema, on the field; what
//! joins fields, or the object and its former self, is a CEL rule on the type
//! (`#[x_kube(validation = …)]`), so that clients can read it; here is what neither can say:
//! quantities, what this version does not support yet, defaults that depend on other objects.
//!
//! Pure: the server calls [`Rules::defaults`] on every write before [`Rules::validate`], with the spec
//! and the status as they are to be and of the metadata the name alone; what is to be said of changes
//! is said in CEL.
//!
//! Read next: [`error`](FieldError), then the types.

mod error;

pub use error::{FieldError, Reason};

use crate::class::{Bandwidth, Isolation, Requests, Resources};
use crate::egress::{Egress, EgressMode, EgressRule};
use crate::environment::{GitSource, Phase, Source, WantedState};
use crate::words::DEFAULT_CLASS;
use crate::{
    Environment, EnvironmentClass, EnvironmentClassSpec, EnvironmentSpec, EnvironmentStatus,
    Runner, RunnerSpec, RunnerStatus, quantity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// How a quantity is read.
type Measure = fn(&Quantity) -> Result<u64, quantity::BadQuantity>;

/// Defaults and validation of a kind.
pub trait Rules: Sized {
    /// Two good objects, of which the first may be changed to the second; the second has a status
    /// where the kind has one. The conventions of the API are tested with them.
    fn samples() -> [Self; 2];
    /// Fills in what the user left out.
    fn defaults(&mut self) {}
    /// Everything wrong with the object.
    fn validate(&self) -> Vec<FieldError> {
        Vec::new()
    }
}

impl Rules for Environment {
    fn samples() -> [Self; 2] {
        let spec = EnvironmentSpec {
            source: Source {
                git: Some(GitSource {
                    url: "https://git.example.org/boats/hull.git".to_owned(),
                    reference: None,
                }),
                folder: None,
            },
            class_name: Some(DEFAULT_CLASS.to_owned()),
            // Bound, so that nobody places it.
            runner_name: Some("elsewhere".to_owned()),
            egress: Some(Egress {
                mode: EgressMode::AllowList,
                allow: vec![EgressRule {
                    domain: Some("*.example.org".to_owned()),
                    ports: vec![443],
                    ..EgressRule::default()
                }],
            }),
            ..EnvironmentSpec::default()
        };
        let first = Self::new("hull", spec);
        let mut second = first.clone();
        second.spec.state = WantedState::Stopped;
        second.status = Some(EnvironmentStatus {
            phase: Phase::Stopped,
            message: Some("Stopped; everything written is kept.".to_owned()),
            ..EnvironmentStatus::default()
        });
        [first, second]
    }

    fn defaults(&mut self) {
        self.spec
            .class_name
            .get_or_insert_with(|| DEFAULT_CLASS.to_owned());
    }

    fn validate(&self) -> Vec<FieldError> {
        let egress = self.spec.egress.as_ref();
        egress.map_or_else(Vec::new, |egress| egress.validate("spec.egress"))
    }
}

impl Rules for EnvironmentClass {
    fn samples() -> [Self; 2] {
        let sized = |cpu: &str, pids| EnvironmentClassSpec {
            description: Some("For most".to_owned()),
            devices: vec!["boatyard.dev/kvm=kvm".to_owned()],
            resources: Resources {
                cpu: Some(Quantity(cpu.to_owned())),
                pids: Some(pids),
                requests: Some(Requests {
                    cpu: Some(Quantity("250m".to_owned())),
                    memory: None,
                }),
                network: Some(Bandwidth {
                    egress: Some(Quantity("100M".to_owned())),
                    ingress: None,
                }),
                ..Resources::default()
            },
            egress: Some(Egress {
                mode: EgressMode::AllowList,
                allow: vec![EgressRule {
                    cidr: Some("0.0.0.0/0".to_owned()),
                    except: vec!["10.0.0.0/8".to_owned()],
                    ..EgressRule::default()
                }],
            }),
            ..EnvironmentClassSpec::default()
        };
        [("2", 1024), ("500m", 2048)].map(|(cpu, pids)| Self::new("most", sized(cpu, pids)))
    }

    fn validate(&self) -> Vec<FieldError> {
        let egress = self.spec.egress.as_ref();
        let mut errors = egress.map_or_else(Vec::new, |egress| egress.validate("spec.egress"));
        let resources = &self.spec.resources;
        if self.spec.isolation == Isolation::VM {
            errors.push(FieldError::unsupported(
                "spec.isolation",
                "VM",
                &["Sandbox"],
            ));
        }
        let requests = resources.requests.clone().unwrap_or_default();
        let network = resources.network.clone().unwrap_or_default();
        let (cpu, bytes) = (quantity::cpu_millis as fn(&_) -> _, quantity::bytes);
        let mut measured = |field: &str, quantity: &Option<Quantity>, of: Measure, least, shown| {
            let quantity = quantity.as_ref()?;
            let path = format!("spec.resources.{field}");
            match of(quantity) {
                Err(bad) => errors.push(FieldError::invalid(path, quantity.0.as_str(), bad)),
                Ok(measured) if measured < least => {
                    let wanted = format!("must be at least {shown}");
                    errors.push(FieldError::invalid(path, quantity.0.as_str(), wanted));
                }
                Ok(measured) => return Some(measured),
            }
            None
        };
        let limits = [
            ("cpu", measured("cpu", &resources.cpu, cpu, 10, "10m")),
            (
                "memory",
                measured("memory", &resources.memory, bytes, 16 << 20, "16Mi"),
            ),
        ];
        let asked = [
            (
                "cpu",
                &requests.cpu,
                measured("requests.cpu", &requests.cpu, cpu, 0, "0"),
            ),
            (
                "memory",
                &requests.memory,
                measured("requests.memory", &requests.memory, bytes, 0, "0"),
            ),
        ];
        measured("disk", &resources.disk, bytes, 32 << 20, "32Mi");
        for (field, rate) in [
            ("network.egress", &network.egress),
            ("network.ingress", &network.ingress),
        ] {
            measured(field, rate, bytes, 64_000, "64k");
        }
        for ((field, limit), (_, quantity, request)) in limits.into_iter().zip(asked) {
            if let (Some(limit), Some(request), Some(quantity)) = (limit, request, quantity)
                && request > limit
            {
                let path = format!("spec.resources.requests.{field}");
                let wanted = format!("must be at most the limit in spec.resources.{field}");
                errors.push(FieldError::invalid(path, quantity.0.as_str(), wanted));
            }
        }
        errors
    }
}

impl Rules for Runner {
    fn samples() -> [Self; 2] {
        let spec = |unschedulable| RunnerSpec {
            unschedulable,
            region: Some("harbour".to_owned()),
        };
        let [first, mut second] = [false, true].map(|away| Self::new("quay", spec(away)));
        second.status = Some(RunnerStatus {
            version: "0.1.0".to_owned(),
            architecture: "amd64".to_owned(),
            ..RunnerStatus::default()
        });
        [first, second]
    }
}

/// Whether `name` is a DNS-1123 subdomain, as names of objects are.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether `label` is a DNS-1123 label, as names of namespaces and environments are.
#[must_use]
pub fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// Whether `value` may be the value of a label: empty, or up to 63 letters, digits, `-`, `_`, `.`,
/// beginning and ending with a letter or digit.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && ends(bytes.first())
        && ends(bytes.last())
}

/// Whether `key` may be the key of a label or annotation: a name, or `domain/name`.
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_name) && !name.is_empty() && is_label_value(name)
}

#[cfg(test)]
mod tests;

//! What a service's sandbox is made of, and its command.

use crate::context::Context;
use crate::failure::Failed;
use crate::layout::{EnvironmentPaths, private_directory};
use crate::record::{ImageRecord, Record, address, id_base, service_address};
use crate::volumes::Filling;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_devcontainer::compose::{ComposePlan, Healthcheck, Service, ServiceNetwork};
use boatyard_sandbox::spec::{
    Company, Id, Init, Limits, Mount, MountIds, MountSource, Network, Other, Peer, Root, Spec,
};
use boatyard_wire::{Class, Process};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{PermissionsExt, chown};

/// What a service gets where nothing says which PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A project in its environment.
pub(crate) struct Project<'a> {
    pub(crate) plan: &'a ComposePlan,
    pub(crate) record: &'a Record,
    pub(crate) paths: &'a EnvironmentPaths,
}

impl Project<'_> {
    /// A service's number; 0 is the environment's own.
    pub(crate) fn number(&self, name: &str) -> u32 {
        if name == self.plan.service {
            return 0;
        }
        self.record
            .services
            .get(name)
            .map_or(0, |service| service.number)
    }

    /// The service whose network namespace a service uses: the environment's own if it is among
    /// them, else the first in the order of starts.
    fn holder(&self, name: &str) -> String {
        let group = self.plan.network_group(name);
        if group.contains(self.plan.service.as_str()) {
            return self.plan.service.clone();
        }
        let mut order = self.plan.services.iter();
        let first = order.find(|service| group.contains(service.name.as_str()));
        first.map_or_else(|| name.to_owned(), |service| service.name.clone())
    }

    fn address(&self, name: &str) -> Result<Ipv4Addr, Failed> {
        match self.number(name) {
            0 => Ok(address(self.record.slot)),
            number => service_address(self.record.slot, number).ok_or_else(|| {
                Failed::lasting(
                    "ServiceAddresses",
                    "this runner has no addresses left for the services of further environments"
                        .to_owned(),
                )
            }),
        }
    }

    fn run(&self, name: &str) -> std::path::PathBuf {
        match self.number(name) {
            0 => self.paths.run(),
            number => self.paths.service_run(number),
        }
    }

    /// Whether it has loopback and nothing else.
    fn is_alone(&self, name: &str) -> bool {
        let group = self.plan.network_group(name);
        let mut members = self.plan.services.iter();
        members.all(|service| {
            !group.contains(service.name.as_str())
                || !matches!(
                    service.network,
                    ServiceNetwork::Own(_) | ServiceNetwork::Environment
                )
        })
    }

    /// The network of a service, and what it has to do with the others.
    pub(crate) fn network(&self, id: &Id, name: &str) -> Result<(Network, Company), Failed> {
        let holder = self.holder(name);
        let network = if holder != name {
            Network::Shared {
                state: self.run(&holder),
            }
        } else if self.is_alone(name) {
            Network::None
        } else if self.plan.reaches_outside(name) {
            Network::Routed {
                address: self.address(name)?,
            }
        } else {
            Network::Private {
                address: self.address(name)?,
            }
        };
        let mut peers = BTreeMap::new();
        let mut hosts: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for other in &self.plan.services {
            let at = self.holder(&other.name);
            if other.name != name && self.is_alone(&at) {
                continue;
            }
            let names = self.plan.names(name, &other.name);
            if names.is_empty() || self.is_alone(&at) {
                continue;
            }
            let address = self.address(&at)?;
            hosts.entry(address.into()).or_default().extend(names);
            if at != holder && holder == name {
                let number = self.number(&at);
                let peer = Peer {
                    state: self.run(&at),
                    number,
                    address,
                };
                peers.insert(number, peer);
            }
        }
        let own = self.plan.named(name);
        for (host, address) in own.iter().flat_map(|service| &service.hosts) {
            if let Ok(address) = address.parse() {
                hosts.entry(address).or_default().push(host.clone());
            }
        }
        let number = self.number(name);
        let company = Company {
            member_of: (number > 0).then(|| Other {
                id: id.clone(),
                state: self.paths.run(),
            }),
            number,
            peers: peers.into_values().collect(),
            hosts: hosts.into_iter().collect(),
            shm_bytes: own.and_then(|service| service.shm_size),
        };
        Ok((network, company))
    }

    /// Files of secrets and configs with contents of their own, as mounts.
    pub(crate) fn contents(&self, service: &Service) -> Result<Vec<Mount>, Failed> {
        let folder = self.paths.service_disk(&service.name).join("contents");
        let mut mounts = Vec::new();
        for (number, content) in service.contents.iter().enumerate() {
            private_directory(&folder).map_err(|error| Failed::disk(&folder, &error))?;
            let path = folder.join(number.to_string());
            let written = std::fs::write(&path, &content.text)
                .and_then(|()| chown(&path, Some(content.uid), Some(content.gid)))
                .and_then(|()| {
                    let mode = std::fs::Permissions::from_mode(content.mode & 0o777);
                    std::fs::set_permissions(&path, mode)
                });
            written.map_err(|error| Failed::disk(&path, &error))?;
            mounts.push(Mount {
                source: MountSource::Host {
                    path,
                    ids: MountIds::Unshifted,
                    open_as: None,
                },
                target: content.target.clone().into(),
                read_only: true,
            });
        }
        Ok(mounts)
    }

    /// The sandbox of a service beside the environment's own.
    pub(crate) fn spec(
        &self,
        context: &Context,
        id: &Id,
        object: &EnvironmentSpec,
        service: &Service,
    ) -> Result<Spec, Failed> {
        let name = &service.name;
        let image = self.image(name)?;
        let number = self.number(name);
        let disk = self.paths.service_disk(name);
        let (upper, work, state) = (
            disk.join("upper"),
            disk.join("work"),
            self.paths.service_run(number),
        );
        for directory in [&upper, &work, &state] {
            private_directory(directory).map_err(|error| Failed::disk(directory, &error))?;
        }
        std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| Failed::disk(&upper, &error))?;
        let resolved = self
            .record
            .resolved
            .as_ref()
            .ok_or_else(|| Failed::transient("Internal", "there is no run plan yet"))?;
        let mut mounts = crate::mounts::service(
            &context.layout,
            self.paths,
            ((&self.record.namespace, self.record.disk), name),
            object,
            resolved,
            &service.mounts,
        )?;
        mounts.extend(self.contents(service)?);
        let (network, company) = self.network(id, name)?;
        let mut env = crate::steps::parse_env(&image.env);
        env.extend(service.environment.clone());
        env.entry("PATH".into()).or_insert_with(|| PATH.to_owned());
        Ok(Spec {
            id: id
                .member(number)
                .map_err(|error| Failed::internal(&error))?,
            id_base: id_base(self.record.slot),
            state,
            hostname: service.hostname.clone().unwrap_or_else(|| name.clone()),
            root: Root::Overlay {
                layers: image.layers.clone(),
                upper,
                work,
            },
            mounts,
            network,
            limits: Limits {
                cpu_millis: service.limits.cpu_millis,
                memory_bytes: service.limits.memory_bytes,
                pids: service.limits.pids,
            },
            init: Init {
                executable: context.agent.clone(),
                argv: crate::container::agent_of([&service.ulimits]),
                env: env
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                listener: true,
            },
            nofile: None,
            rlimits: crate::container::limits(&service.ulimits),
            devices: Vec::new(),
            company: Some(Box::new(company)),
            swap: self
                .record
                .ids
                .as_ref()
                .map(|ids| ids.swap)
                .unwrap_or_default(),
            // What is in force when it starts is for whoever starts it to know.
            egress: None,
        })
    }

    /// The volumes of a service that begin with what its image has.
    pub(crate) fn filling(&self, spec: &Spec, service: &Service) -> Result<Filling, Failed> {
        let layers = &self.image(&service.name)?.layers;
        Ok(Filling::of(&spec.mounts, &service.mounts, layers))
    }

    fn image(&self, name: &str) -> Result<&ImageRecord, Failed> {
        let image = if name == self.plan.service {
            self.record.image.as_ref()
        } else {
            let service = self.record.services.get(name);
            service.and_then(|service| service.image.as_ref())
        };
        image.ok_or_else(|| {
            Failed::transient(
                "Internal",
                format!("the image of service {name} is not there yet"),
            )
        })
    }

    /// What a service runs; None when it has nothing to run.
    pub(crate) fn command(&self, service: &Service) -> Option<Process> {
        let image = self.image(&service.name).ok()?;
        let main = service.name == self.plan.service;
        let resolved = self.record.resolved.as_ref()?;
        if main && resolved.plan.override_command {
            return None;
        }
        // An empty string among them clears what the image has.
        let given = |words: &Vec<String>| -> Vec<String> {
            words
                .iter()
                .filter(|word| !word.is_empty())
                .cloned()
                .collect()
        };
        let mut argv = service
            .entrypoint
            .as_ref()
            .map_or_else(|| image.entrypoint.clone(), given);
        match (&service.command, &service.entrypoint) {
            (Some(command), _) => argv.extend(command.iter().cloned()),
            (None, Some(_)) => {}
            (None, None) => argv.extend(image.cmd.iter().cloned()),
        }
        if argv.is_empty() {
            return None;
        }
        let own = if main {
            resolved.plan.container_user.clone()
        } else {
            service.user.clone()
        };
        Some(Process {
            argv,
            cwd: service
                .working_dir
                .clone()
                .or_else(|| image.working_dir.clone())
                .filter(|folder| !folder.is_empty())
                .or_else(|| Some("/".to_owned())),
            user: own
                .or_else(|| image.user.clone())
                .filter(|user| !user.is_empty()),
            class: Class::Sessions,
            ..Process::default()
        })
    }

    /// How a service's health is checked: as the file says, for what it does not say as its image
    /// does; None when it is not.
    pub(crate) fn healthcheck(&self, service: &Service) -> Option<Healthcheck> {
        let image = self.image(&service.name).ok();
        let image = image.and_then(|image| image.healthcheck.as_ref());
        merged_check(service.healthcheck.as_ref(), image)
    }

    /// What checks a service's health.
    pub(crate) fn check(&self, service: &Service) -> Option<Process> {
        let test = self.healthcheck(service)?.test?;
        let user = service
            .user
            .clone()
            .or_else(|| self.image(&service.name).ok()?.user.clone());
        (!test.is_empty()).then(|| Process {
            argv: test,
            cwd: Some("/".to_owned()),
            user: user.filter(|user| !user.is_empty()),
            class: Class::Agent,
            ..Process::default()
        })
    }
}

/// A file's check over its image's.
fn merged_check(
    file: Option<&Healthcheck>,
    image: Option<&boatyard_devcontainer::build::Healthcheck>,
) -> Option<Healthcheck> {
    let of_image = image.map(|image| {
        let millis = |nanos: u64| Some(nanos / 1_000_000).filter(|millis| *millis > 0);
        let test = match image.test.as_slice() {
            [kind, rest @ ..] if kind == "CMD" => rest.to_vec(),
            [kind, line] if kind == "CMD-SHELL" => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
            }
            _ => Vec::new(),
        };
        Healthcheck {
            test: Some(test),
            interval_millis: millis(image.interval),
            timeout_millis: millis(image.timeout),
            retries: Some(image.retries).filter(|retries| *retries > 0),
            start_period_millis: millis(image.start_period),
            start_interval_millis: millis(image.start_interval),
        }
    });
    let merged = match (file.cloned(), of_image) {
        (Some(file), Some(image)) => Healthcheck {
            test: file.test.or(image.test),
            interval_millis: file.interval_millis.or(image.interval_millis),
            timeout_millis: file.timeout_millis.or(image.timeout_millis),
            retries: file.retries.or(image.retries),
            start_period_millis: file.start_period_millis.or(image.start_period_millis),
            start_interval_millis: file.start_interval_millis.or(image.start_interval_millis),
        },
        (one, other) => one.or(other)?,
    };
    merged
        .test
        .as_ref()
        .is_some_and(|test| !test.is_empty())
        .then_some(merged)
}

#[cfg(test)]
mod tests {
    //! Whose check counts.
    use super::*;

    #[test]
    fn a_files_check_lies_over_its_images() {
        let image = |words: &[&str]| boatyard_devcontainer::build::Healthcheck {
            test: words.iter().map(|word| (*word).to_owned()).collect(),
            interval: 2_000_000_000,
            retries: 7,
            ..Default::default()
        };
        let file = |test: Option<&[&str]>| Healthcheck {
            test: test.map(|words| words.iter().map(|word| (*word).to_owned()).collect()),
            interval_millis: None,
            timeout_millis: Some(5),
            retries: Some(1),
            start_period_millis: None,
            start_interval_millis: None,
        };
        let shell = image(&["CMD-SHELL", "true"]);
        let own = merged_check(None, Some(&shell)).map(|check| (check.test, check.retries));
        let words = ["/bin/sh", "-c", "true"].map(str::to_owned).to_vec();
        assert_eq!(own, Some((Some(words.clone()), Some(7))));
        let over = merged_check(Some(&file(None)), Some(&shell));
        let told = over.map(|check| (check.test, check.retries, check.interval_millis));
        assert_eq!(told, Some((Some(words), Some(1), Some(2000))));
        assert_eq!(merged_check(Some(&file(Some(&[]))), Some(&shell)), None);
        assert_eq!(merged_check(Some(&file(None)), None), None);
        assert_eq!(merged_check(None, Some(&image(&["NONE"]))), None);
    }
}

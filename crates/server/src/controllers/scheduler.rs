//! Binds environments without a runner to one.
//!
//! Keys are environments. The index (`scheduler/runners.rs`) knows who is bound where and which
//! runners may be chosen; a choice counts in it before it is written, so that many environments
//! are placed at once without all going to the same runner. Which runner is chosen is
//! `plan::placement`'s. Runners' leases run out without an event: the index is asked with the time
//! at hand.

mod runners;

use super::queue::Outcome;
use super::{Controller, Seen, found, kind, target};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::{NO_RUNNER, waiting};
use crate::objects::meta;
use crate::outlook::Expect;
use crate::resources::{Patch, Resources, Target, WriteOptions};
use boatyard_api::quantity;
use boatyard_api::words::{FINALIZER_RUNNER, NAMESPACE_RUNNERS, condition};
use boatyard_plan::placement::Amount;
use boatyard_store::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runners::{Index, LeaseFacts};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

const ENVIRONMENTS: &str = "environments.boatyard.dev";
const RUNNERS: &str = "runners.boatyard.dev";
const LEASES: &str = "leases.coordination.k8s.io";
const CLASSES: &str = "environmentclasses.boatyard.dev";

/// Environments written at once: the store commits them together.
const CONCURRENCY: usize = 64;
/// Lease of a runner that does not say how long it lasts.
const LEASE_SECONDS: u64 = 40;

/// Places environments.
pub(super) struct Scheduler {
    resources: Resources,
    caller: Caller,
    index: Arc<Mutex<Index>>,
}

/// Also whoever makes environments asks it.
impl Expect for Mutex<Index> {
    fn why_not(&self) -> Option<&'static str> {
        let mut index = self.lock().unwrap_or_else(PoisonError::into_inner);
        index.why_not(Instant::now())
    }
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    namespace: Box<str>,
    name: Box<str>,
}

impl Name {
    fn of(key: &Key) -> Self {
        Self {
            namespace: key.namespace.as_str().into(),
            name: key.name.as_str().into(),
        }
    }
}

/// What decides of an environment.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Environment {
    metadata: Metadata,
    spec: EnvironmentSpec,
    status: Option<Status>,
}

impl Environment {
    fn waits(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && self.spec.runner_name.is_none()
    }

    /// Whether it says already why it waits.
    fn says(&self, reason: &str, why: &str) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let is = |text: &Option<String>, wanted: &str| text.as_deref() == Some(wanted);
        let mut conditions = status.conditions.iter().flatten();
        let said = conditions.find(|one| is(&one.type_, condition::SCHEDULED));
        let said = said.is_some_and(|said| {
            is(&said.status, "False") && is(&said.reason, reason) && is(&said.message, why)
        });
        said && is(&status.phase, "Pending") && is(&status.message, why)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: Option<String>,
    message: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EnvironmentSpec {
    runner_name: Option<String>,
    class_name: Option<String>,
}

/// What decides of a runner.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Runner {
    spec: RunnerSpec,
    status: Option<RunnerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RunnerStatus {
    capacity: Sizes,
}

/// Processors and memory, as quantities.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Sizes {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

impl Sizes {
    /// As amounts; what is absent or cannot be read is `otherwise`.
    fn amount(&self, otherwise: u64) -> Amount {
        let read = |quantity: &Option<Quantity>, of: fn(&Quantity) -> Option<u64>| {
            quantity.as_ref().and_then(of).unwrap_or(otherwise)
        };
        Amount {
            cpu_millis: read(&self.cpu, |quantity| quantity::cpu_millis(quantity).ok()),
            memory: read(&self.memory, |quantity| quantity::bytes(quantity).ok()),
        }
    }
}

/// What decides of a class.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Class {
    spec: ClassSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ClassSpec {
    resources: ClassResources,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ClassResources {
    requests: Sizes,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RunnerSpec {
    unschedulable: bool,
}

/// What decides of a runner's lease.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Lease {
    spec: LeaseSpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct LeaseSpec {
    renew_time: Option<String>,
    lease_duration_seconds: Option<u64>,
}

/// Stored bytes as what of them decides; what cannot be read decides nothing.
fn read<T: for<'a> Deserialize<'a> + Default>(data: &[u8]) -> T {
    serde_json::from_slice(data).unwrap_or_default()
}

impl Scheduler {
    pub(super) fn new(resources: Resources) -> Self {
        Self {
            resources,
            caller: Caller::internal("scheduler"),
            index: Arc::default(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self, seen: &Seen<'_>) -> Option<LeaseFacts> {
        let lease: Lease = read(&seen.present()?.data);
        let renewed = lease.spec.renew_time?;
        let seconds = lease.spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS);
        let lasts = Duration::from_secs(seconds);
        // One that is renewed before our eyes lasts from now on, whatever its holder's clock says;
        // of one that was found only the clocks can tell.
        let left = match seen {
            Seen::Listed(_) => {
                let renewed: Option<Timestamp> = renewed.parse().ok();
                let age = self.resources.now().duration_since(renewed?);
                lasts.saturating_sub(age.try_into().unwrap_or_default())
            }
            _ => lasts,
        };
        Some(LeaseFacts {
            renewed,
            until: Instant::now() + left,
        })
    }

    async fn write(
        &self,
        environment: &Value,
        subresource: &str,
        patch: Value,
    ) -> Result<(), Failure> {
        let kind = kind(&self.resources, ENVIRONMENTS)?;
        let target = Target {
            subresource,
            ..target(
                kind,
                meta(environment, "namespace"),
                meta(environment, "name"),
            )
        };
        let (patch, options) = (Patch::Merge(patch), WriteOptions::default());
        let known = Some(environment.clone());
        let resources = &self.resources;
        let written = resources.patch_known(&self.caller, &target, known, &patch, &options);
        written.await.map(drop)
    }

    async fn bind(&self, environment: &Value, runner: &str) -> Result<(), Failure> {
        let metadata = &environment["metadata"];
        let finalizers = metadata["finalizers"].as_array().into_iter().flatten();
        let mut finalizers: Vec<Value> = finalizers.cloned().collect();
        if !finalizers.iter().any(|held| held == FINALIZER_RUNNER) {
            finalizers.push(json!(FINALIZER_RUNNER));
        }
        let patch = json!({
            "metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]},
            "spec": {"runnerName": runner},
        });
        self.write(environment, "", patch).await
    }

    /// Says on the environment why it waits.
    async fn wait(&self, environment: &Value, reason: &str, why: &str) -> Result<(), Failure> {
        let status = waiting(environment, reason, why, self.resources.now());
        let status = json!({"status": status});
        self.write(environment, "status", status).await
    }
}

impl Controller for Scheduler {
    type Key = Name;

    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn watched(&self) -> Vec<String> {
        [CLASSES, ENVIRONMENTS, RUNNERS, LEASES]
            .map(str::to_owned)
            .into()
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn begin(&self) {
        let knowing: Weak<Mutex<Index>> = Arc::downgrade(&self.index);
        self.resources.outlook.ask(knowing);
    }

    fn observe(&self, seen: &Seen<'_>, wake: &mut dyn FnMut(Name)) {
        let key = seen.key();
        match key.resource.as_str() {
            ENVIRONMENTS => {
                let environment: Option<Environment> =
                    seen.present().map(|stored| read(&stored.data));
                let name = Name::of(key);
                let waits = environment.as_ref().is_some_and(Environment::waits);
                let mut index = self.index();
                // One that waits and says why is woken by the runner it waits for.
                let told = waits
                    && index.why_not(Instant::now()).is_some_and(|why| {
                        environment
                            .as_ref()
                            .is_some_and(|environment| environment.says(NO_RUNNER, why))
                    });
                let spec = environment.map(|environment| environment.spec);
                let class = spec.as_ref().map(|spec| {
                    let named = spec.class_name.as_deref();
                    named.unwrap_or(boatyard_api::words::DEFAULT_CLASS)
                });
                index.asks(&name, class);
                let runner = spec.as_ref().and_then(|spec| spec.runner_name.as_deref());
                if index.note(&name, waits, runner) {
                    index.waiting().for_each(&mut *wake);
                }
                drop(index);
                if waits && !told {
                    wake(name);
                }
            }
            RUNNERS => {
                let runner: Option<Runner> = seen.present().map(|stored| read(&stored.data));
                let unschedulable = runner.as_ref().map(|runner| runner.spec.unschedulable);
                let status = runner.and_then(|runner| runner.status);
                let capacity = status.map(|status| status.capacity.amount(u64::MAX));
                let mut index = self.index();
                if index.provides(&key.name, capacity)
                    | index.register(&key.name, unschedulable, Instant::now())
                {
                    index.waiting().for_each(wake);
                }
            }
            CLASSES => {
                let class: Option<Class> = seen.present().map(|stored| read(&stored.data));
                let requests = class.map(|class| class.spec.resources.requests.amount(0));
                let mut index = self.index();
                if index.class(&key.name, requests) {
                    index.waiting().for_each(wake);
                }
            }
            LEASES if key.namespace == NAMESPACE_RUNNERS => {
                let lease = self.lease(seen);
                let mut index = self.index();
                if index.lease(&key.name, lease, Instant::now()) {
                    index.waiting().for_each(wake);
                }
            }
            _ => {}
        }
    }

    fn known(&self, resource: &str) -> Vec<Key> {
        let key = |namespace: &str, name: &str| Key {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let index = self.index();
        match resource {
            ENVIRONMENTS => index
                .environments()
                .map(|name| key(&name.namespace, &name.name))
                .collect(),
            RUNNERS => index.registered().map(|name| key("", name)).collect(),
            CLASSES => index.requesting().map(|name| key("", name)).collect(),
            LEASES => index
                .leased()
                .map(|name| key(NAMESPACE_RUNNERS, name))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn resync(&self, wake: &mut dyn FnMut(Name)) {
        self.index().waiting().for_each(wake);
    }

    async fn activate(&self, key: &Name) -> Result<Outcome, Failure> {
        let kind = kind(&self.resources, ENVIRONMENTS)?;
        let target = target(kind, &key.namespace, &key.name);
        let got = self.resources.get(&self.caller, "get", &target).await;
        let Some(environment) = found(got)? else {
            return Ok(Outcome::Done);
        };
        let known = Environment::deserialize(&environment).unwrap_or_default();
        if !known.waits() {
            return Ok(Outcome::Done);
        }
        let chosen = self.index().choose(key, Instant::now());
        let written = match chosen {
            Err(why) if known.says(NO_RUNNER, why) => Ok(()),
            Err(why) => self.wait(&environment, NO_RUNNER, why).await,
            Ok(runner) => {
                let bound = self.bind(&environment, &runner).await;
                if bound.is_err() {
                    self.index().take_back(key, &runner);
                }
                match bound {
                    Err(failure) if failure.reason == "RequestEntityTooLarge" => {
                        let why = "the environment is so large that its runner cannot be written into it; make its spec or its annotations smaller";
                        self.wait(&environment, "TooLarge", why).await
                    }
                    bound => bound,
                }
            }
        };
        match written {
            // Somebody was faster: that change wakes the next activation.
            Err(failure) if ["Conflict", "NotFound"].contains(&failure.reason) => Ok(Outcome::Done),
            written => written.map(|()| Outcome::Done),
        }
    }
}

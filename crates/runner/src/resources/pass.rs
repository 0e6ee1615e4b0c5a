//! One look at an environment's cgroups: what is written, and what is found. Blocks.

use super::{Fields, Job};
use boatyard_api::EnvironmentClassSpec;
use boatyard_api::environment::{Pending, ResourcesStatus, Slowed, Usage};
use boatyard_link::usage::Pressure;
use boatyard_plan::memory::{self, Host, Process, Role};
use boatyard_plan::resize::{self, Change, Held, Limits};
use boatyard_plan::slowed::{self, Sample, Told};
use boatyard_sandbox::group::sample::{IoLimit, Resource};
use boatyard_sandbox::group::{Candidate, Class, Error, Group};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    pub(super) status: ResourcesStatus,
    pub(super) figures: Told,
    /// When to look again.
    pub(super) next: Duration,
    /// For how long nothing has happened.
    pub(super) idle: Duration,
    /// Bytes set aside for it.
    pub(super) request: u64,
    /// Bytes it holds, with what can be dropped.
    pub(super) held: u64,
    pub(super) pressure: Option<Pressure>,
    /// Kills its cgroups counted since the last look.
    pub(super) uncounted_kills: u64,
}

/// What one look leaves for the next.
pub(super) struct Pass {
    group: Group,
    init: u32,
    began: Instant,
    before: Option<Sample>,
    last: Looked,
    /// The class that was applied, and when it was tried last.
    applied: Option<(Option<Arc<EnvironmentClassSpec>>, Instant)>,
    pending: Vec<Pending>,
    limits: Limits,
    memory_high: Option<u64>,
    memory_then: u64,
    busy_at: Instant,
    kills: Option<u64>,
}

/// Between two tries of what the kernel refused.
const RETRY: Duration = Duration::from_secs(5);
/// Over less than this, figures say nothing.
const WINDOW: Duration = Duration::from_millis(900);
/// Less than this use of a processor is none.
const IDLE_MILLIS: u64 = 10;
/// Less than this change of memory is none.
const IDLE_BYTES: u64 = 1 << 20;

impl Pass {
    pub(super) fn new(group: Group, init: u32) -> Self {
        let now = Instant::now();
        Self {
            group,
            init,
            began: now,
            before: None,
            last: Looked::default(),
            applied: None,
            pending: Vec::new(),
            limits: Limits::default(),
            memory_high: None,
            memory_then: 0,
            busy_at: now,
            kills: None,
        }
    }

    /// Applies what the class wants and does not hold, and takes figures.
    pub(super) fn look(
        &mut self,
        job: &Job,
        wanted: Option<&Arc<EnvironmentClassSpec>>,
    ) -> Result<Looked, Error> {
        self.apply(job, wanted)?;
        let host = host();
        let at = self.began.elapsed();
        let cpu = self.group.usage()?;
        let held = self.group.memory_usage()?.unwrap_or_default();
        let quick = Sample {
            at,
            cpu,
            ..Sample::default()
        };
        let used = self
            .before
            .as_ref()
            .map(|before| quick.cpu_millis_since(before));
        let still = used.is_some_and(|millis| millis < IDLE_MILLIS)
            && held.abs_diff(self.memory_then) < IDLE_BYTES;
        if !still {
            self.busy_at = Instant::now();
        }
        let close = memory::next_look(held, self.limits.memory, &host);
        let disk = self.disk()?;
        let sample = if still && self.memory_high.is_none() {
            Sample {
                at,
                cpu,
                disk,
                ..self.before.unwrap_or_default()
            }
        } else {
            self.memory_then = held;
            Sample {
                disk,
                ..self.sample(at, cpu)?
            }
        };
        let before = self.before.unwrap_or(sample);
        if close < RETRY && !still {
            self.score()?;
        }
        let millis = sample.cpu_millis_since(&before);
        let kills = if still {
            self.kills.unwrap_or_default()
        } else {
            self.group.memory_kills()?
        };
        let since = self
            .kills
            .replace(kills)
            .map_or(0, |then| kills.saturating_sub(then));
        let reasons = slowed::reasons(&before, &sample, &self.limits);
        let first = self.before.is_none();
        if first || sample.at.saturating_sub(before.at) >= WINDOW {
            self.before = Some(sample);
        }
        let resources = wanted.map(|class| &class.resources);
        let request = resources
            .and_then(|resources| resources.requests.as_ref()?.memory.as_ref())
            .and_then(|memory| boatyard_api::quantity::bytes(memory).ok());
        self.last = Looked {
            status: ResourcesStatus {
                cpu: self.limits.cpu_millis.map(processors),
                memory: self.limits.memory.map(bytes),
                // A start takes it, and holds to it.
                disk: job
                    .class
                    .as_ref()
                    .and_then(|class| serde_json::from_str(class.get("resources.disk")?).ok()),
                pids: self.limits.pids.and_then(|pids| pids.try_into().ok()),
                usage: Some(Usage {
                    cpu: processors(millis),
                    memory: coarse(sample.memory),
                    pids: u32::try_from(sample.pids).unwrap_or(u32::MAX),
                }),
                slowed: reasons
                    .into_iter()
                    .map(|one| Slowed {
                        reason: one.reason.to_owned(),
                        message: one.message,
                    })
                    .collect(),
                pending: self.pending.clone(),
                memory_kills: Vec::new(),
            },
            figures: Told {
                cpu_millis: millis,
                memory: sample.memory,
                pids: sample.pids,
            },
            next: if first || !self.pending.is_empty() {
                Duration::from_secs(1)
            } else {
                close
            },
            idle: self.busy_at.elapsed(),
            request: request.unwrap_or_default(),
            held,
            pressure: self.pressure(),
            uncounted_kills: since,
        };
        Ok(self.last.clone())
    }

    fn sample(&self, at: Duration, cpu: Duration) -> Result<Sample, Error> {
        let whole = self.group.throttling()?;
        let builds = self.group.class_throttling(Class::Builds)?;
        let quota = self.group.class_quota(Class::Builds)?;
        let memory = self.group.memory()?.unwrap_or_default();
        let cache = memory.file.saturating_sub(memory.shared);
        Ok(Sample {
            at,
            cpu,
            throttled: (whole.throttled, whole.periods),
            builds_throttled: (builds.throttled, builds.periods),
            builds_cpu_millis: quota.and_then(|quota| quota.limit_millis()),
            memory: memory.usage.saturating_sub(cache),
            memory_high: self.memory_high,
            pids: self.group.pids()?.unwrap_or_default(),
            disk: None,
        })
    }

    /// What the loop for fair shares holds it to.
    fn disk(&self) -> Result<Option<slowed::Disk>, Error> {
        let limits = self.group.io_limits()?;
        let least = |of: fn(&IoLimit) -> Option<u64>| limits.values().filter_map(of).min();
        Ok((!limits.is_empty()).then(|| slowed::Disk {
            read: least(|limit| limit.read),
            write: least(|limit| limit.written),
        }))
    }

    /// How much of the time something inside waited; None where the kernel does not tell.
    fn pressure(&self) -> Option<Pressure> {
        let of = |resource| {
            let pressure = self.group.pressure(resource).ok()??;
            Some(pressure.some.avg10)
        };
        Some(Pressure {
            cpu: of(Resource::Cpu)?,
            memory: of(Resource::Memory)?,
            io: of(Resource::Io)?,
        })
    }

    /// Makes what holds what the class says, as far as the kernel does now.
    fn apply(
        &mut self,
        job: &Job,
        wanted: Option<&Arc<EnvironmentClassSpec>>,
    ) -> Result<(), Error> {
        let done = self.applied.as_ref().is_some_and(|(class, at)| {
            class.as_ref() == wanted && (self.pending_waits() || at.elapsed() < RETRY)
        });
        if done {
            return Ok(());
        }
        let mut held = self.held()?;
        self.pending.clear();
        if let Some(class) = wanted {
            match crate::steps::limits(&class.resources) {
                Ok(limits) => {
                    let limits = Limits {
                        cpu_millis: limits.cpu_millis,
                        memory: limits.memory_bytes,
                        pids: limits.pids,
                    };
                    let changes = resize::changes(&limits, &held);
                    for change in &changes {
                        self.change(*change)?;
                    }
                    if !changes.is_empty() {
                        tracing::info!(sandbox = %self.group.id(), ?changes, "limits of what runs are changed");
                        held = self.held()?;
                    }
                    self.pending = resize::unmet(&limits, &held)
                        .into_iter()
                        .map(pending)
                        .collect();
                }
                // Validation keeps such a class out; what holds stays.
                Err(failed) => self.pending.push(Pending {
                    field: "resources".to_owned(),
                    needs_restart: false,
                    message: failed.message,
                }),
            }
            if let Some(started) = &job.class {
                let now: Fields = super::fields(class);
                let changed = resize::needs_restart(started, &now);
                self.pending.extend(changed.into_iter().map(pending));
            }
            let requests = class.resources.requests.as_ref();
            let request = requests.and_then(|requests| requests.memory.as_ref());
            let request = request.and_then(|memory| boatyard_api::quantity::bytes(memory).ok());
            self.group.set_memory_request(request)?;
        }
        (self.limits, self.memory_high) = (held.limits, held.memory_high);
        self.applied = Some((wanted.cloned(), Instant::now()));
        Ok(())
    }

    /// Nothing is to be tried again.
    fn pending_waits(&self) -> bool {
        self.pending.iter().all(|pending| pending.needs_restart)
    }

    fn held(&self) -> Result<Held, Error> {
        let limits = self.group.limits()?;
        Ok(Held {
            limits: Limits {
                cpu_millis: limits.cpu_millis,
                memory: limits.memory_bytes,
                pids: limits.pids,
            },
            memory_high: self.group.memory_high()?,
            memory_used: self.group.memory_usage()?.unwrap_or_default(),
            presses: self.group.is_unified(),
        })
    }

    fn change(&self, change: Change) -> Result<(), Error> {
        match change {
            Change::Cpu(millis) => self.group.set_cpu_limit(millis),
            Change::Pids(pids) => self.group.set_pids_limit(pids),
            Change::MemoryHigh(bytes) => self.group.set_memory_high(bytes),
            Change::Memory(bytes) => match self.group.set_memory_limit(bytes) {
                // What is in use does not fit; the status says so, and it is tried again.
                Err(error) if !error.is_gone() => {
                    tracing::debug!(%error, "the limit does not fit yet");
                    Ok(())
                }
                set => set,
            },
        }
    }

    /// Keeps the order in which processes would be killed.
    fn score(&self) -> Result<(), Error> {
        let role = |one: &Candidate| match one.class {
            _ if one.pid == self.init => Role::Init,
            Some(Class::Agent) => Role::Server,
            Some(Class::Sessions) if one.leads => Role::Shell,
            Some(Class::Sessions) => Role::Program,
            Some(Class::Builds | Class::Nested) | None => Role::Builder,
        };
        let processes: Vec<Process> = self
            .group
            .candidates()?
            .iter()
            .map(|one| Process {
                pid: one.pid,
                role: role(one),
                score: one.score,
            })
            .collect();
        for (pid, score) in memory::scores(&processes) {
            self.group.set_oom_score(pid, score);
        }
        Ok(())
    }
}

/// Memory of this host now.
pub(super) fn host() -> Host {
    Host::parse(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn pending(pending: resize::Pending) -> Pending {
    Pending {
        field: pending.field,
        needs_restart: pending.needs_restart,
        message: pending.message,
    }
}

/// As Kubernetes writes it: `2`, `1500m`.
pub(super) fn processors(millis: u64) -> Quantity {
    Quantity(if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    })
}

/// `512Mi` where it is whole.
pub(super) fn bytes(bytes: u64) -> Quantity {
    for (suffix, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return Quantity(format!("{}{suffix}", bytes >> shift));
        }
    }
    Quantity(bytes.to_string())
}

/// In whole mebibytes.
fn coarse(used: u64) -> Quantity {
    Quantity(format!("{}Mi", used.div_ceil(1 << 20)))
}

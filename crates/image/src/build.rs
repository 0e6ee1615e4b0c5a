//! Carries out a build plan: steps on layers, each layer kept under what its step read.
//!
//! Owns everything below `<images>/build` and the way from a [`BuildPlan`] to a local image. It
//! makes no choice: what happens is in the plan, whose rights read a context is in the
//! [`Context`], what a sandbox may do is in the [`Policy`]. Stages that do not read each other run
//! side by side.
//!
//! ```text
//! build/cache/<key>.json      which step made which layer (see `cache`)
//! build/digests/              digests of files that did not change (see `digests`)
//! build/mounts/               cache mounts (see `mounts`)
//! build/runs/<sandbox>/       states of running sandboxes
//! ```
//!
//! A plan comes of untrusted text and runs untrusted programs: they run in sandboxes as strict as
//! environments, and files are copied by calls that no link leads astray.
//!
//! Crash behaviour: a killed build leaves staging, which removes itself at the next start, and
//! sandboxes, which [`Builder::open`] removes; finished layers are found again by their keys.
//!
//! Read next: `stage` (steps in order), `run` (a process), `copy` (files), `snapshot` (a layer).

mod added;
mod agents;
mod arrange;
pub(crate) mod cache;
mod contents;
mod copy;
mod digests;
mod fetch;
mod merged;
pub(crate) mod mounts;
mod output;
mod owner;
mod progress;
mod remote;
mod run;
pub(crate) mod snapshot;
mod source;
mod stage;
mod tree;

pub use agents::Agent;
pub use contents::copy_out;
pub use progress::{BuildProgress, Event, Outcome};
pub use remote::{Caching, Steps};
pub use tree::{Context, Folder, Ignore, Kind, Meta, Tree};

use crate::images::{Inner, blocking};
use crate::layers::{LayerId, create_private};
use crate::{Error, Image, Images, Progress, Reference};
use boatyard_devcontainer::build::{
    Base, BuildPlan, CopySource, ImageState, Op, Origin, RunMountKind,
};
use boatyard_sandbox::Sandboxes;
use boatyard_sandbox::spec::{Egress, Id, Limits, Spec};
use digests::Digests;
use output::Made;
use progress::Outcome as Out;
use run::Cancel;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;

/// What the builder asks of its host. All calls block.
pub trait Host: Send + Sync {
    /// A name, id range and address that nobody else uses until it is dropped.
    ///
    /// # Errors
    /// When all are taken.
    fn seat(&self) -> Result<Seat, String>;
    /// As [`Sandboxes::start`].
    ///
    /// # Errors
    /// As there.
    fn start(&self, spec: &Spec) -> Result<(), boatyard_sandbox::Error>;
    /// As [`Sandboxes::remove`].
    ///
    /// # Errors
    /// As there.
    fn remove(&self, id: &Id, state: &Path) -> Result<(), boatyard_sandbox::Error>;
    /// The exit code of one that has ended, 255 when nobody saw it; None while it runs.
    ///
    /// # Errors
    /// When that cannot be told.
    fn ended(&self, id: &Id, state: &Path) -> Result<Option<i32>, boatyard_sandbox::Error>;
}

/// Where a sandbox may be. Given back when dropped.
pub struct Seat {
    /// Its name.
    pub id: Id,
    /// First host id of its range.
    pub id_base: u32,
    /// Its address; without one it has no network.
    pub address: Option<Ipv4Addr>,
    /// Dropped with the seat.
    pub held: Option<Box<dyn Send>>,
}

/// What every step may have, whatever the plan says.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Of each process.
    pub limits: Limits,
    /// Whether steps have a network at all.
    pub network: bool,
    /// Variables where a step sets none of the name: proxies.
    pub env: Vec<(String, String)>,
    /// Steps at one time.
    pub parallel: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            limits: Limits {
                cpu_millis: None,
                memory_bytes: Some(8 << 30),
                pids: Some(8192),
            },
            network: true,
            env: Vec::new(),
            parallel: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        }
    }
}

/// One build.
pub struct Request {
    /// What to do.
    pub plan: BuildPlan,
    /// Names of the result; the first is the image's. At least one.
    pub names: Vec<Reference>,
    /// By name; the main one is the empty name.
    pub contexts: BTreeMap<String, Context>,
    /// By id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// SSH agents by id.
    pub ssh: BTreeMap<String, Arc<dyn Agent>>,
    /// Does every step again.
    pub no_cache: bool,
}

/// Builds images into a store. Cheap to clone.
#[derive(Clone)]
pub struct Builder {
    inner: Arc<Shared>,
    /// Where steps may connect to; see [`Spec::egress`].
    egress: Option<Arc<Egress>>,
}

struct Shared {
    images: Images,
    host: Arc<dyn Host>,
    agent: PathBuf,
    policy: Policy,
    folder: PathBuf,
}

impl Builder {
    /// `agent` is the static executable that is PID 1 of steps. Removes what builds left that were
    /// killed; nobody else builds with this store and host meanwhile. Blocking.
    ///
    /// # Errors
    /// When the store's folder cannot be used.
    pub fn open(
        images: Images,
        host: Arc<dyn Host>,
        agent: PathBuf,
        policy: Policy,
    ) -> Result<Builder, Error> {
        let folder = images.inner.directory.join("build");
        for path in [&folder, &folder.join("runs"), &folder.join("empty")] {
            create_private(path)?;
        }
        let runs = folder.join("runs");
        for entry in std::fs::read_dir(&runs).map_err(Error::io("list", &runs))? {
            let path = entry.map_err(Error::io("list", &runs))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Ok(id) = Id::try_from(name.into_owned()) else {
                continue;
            };
            match host.remove(&id, &path) {
                Ok(()) => drop(std::fs::remove_dir_all(&path)),
                Err(error) => {
                    tracing::warn!(sandbox = %id, %error, "a killed build's sandbox cannot be removed");
                }
            }
        }
        mounts::sweep();
        Ok(Builder {
            inner: Arc::new(Shared {
                images,
                host,
                agent,
                policy,
                folder,
            }),
            egress: None,
        })
    }

    /// The same builder for steps that may connect to nothing else than this; anywhere when None.
    #[must_use]
    pub fn within(&self, egress: Option<Egress>) -> Builder {
        Builder {
            inner: Arc::clone(&self.inner),
            egress: egress.map(Arc::new),
        }
    }

    /// Carries the plan out. Dropping the future ends it.
    ///
    /// # Errors
    /// A step failed, a base image is not to be had, or the disk refused.
    pub async fn build(
        &self,
        request: Request,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<Image, Error> {
        self.build_with(request, Caching::default(), progress).await
    }

    /// The same with registries as caches.
    ///
    /// # Errors
    /// As [`Builder::build`]; a cache that cannot be written. One that cannot be read is told.
    pub async fn build_with(
        &self,
        request: Request,
        caching: Caching,
        progress: Arc<dyn BuildProgress>,
    ) -> Result<Image, Error> {
        check(&request)?;
        let cancel = Cancel::default();
        let _on_drop = OnDrop(cancel.clone());
        let vertices = Arc::new(AtomicU32::new(0));
        let mut bases = BTreeMap::new();
        for reference in images_of(&request.plan) {
            let made = self.base(&reference, &progress, &vertices).await?;
            bases.insert(reference, made);
        }
        let shared = Arc::clone(&self.inner);
        let names: Vec<(String, Option<String>)> = request
            .contexts
            .iter()
            .map(|(name, context)| (name.clone(), context.identity.clone()))
            .collect();
        let digests = blocking("read the digests of files", move || {
            let folder = shared.folder.join("digests");
            let mut all = BTreeMap::new();
            for (name, identity) in names {
                let identity = identity.unwrap_or_else(|| format!("unknown {name}"));
                all.insert(name, Arc::new(Digests::open(&folder, &identity)?));
            }
            let own = Arc::new(Digests::open(&folder, "layers of this store")?);
            Ok((all, own))
        })
        .await?;
        let mut remotes = Vec::new();
        for name in &caching.from {
            match remote::Remote::open(&self.inner.images.inner, name).await {
                Ok(remote) => remotes.push(remote),
                Err(error) => progress.event(Event::Note {
                    vertex: 0,
                    text: format!("no cache: {}", crate::error::chain(&error)),
                }),
            }
        }
        let teller: Arc<dyn Progress> = Arc::new(Teller {
            progress: Arc::clone(&progress),
            vertex: 0,
        });
        let build = Arc::new(Build {
            remotes,
            made: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            shared: Arc::clone(&self.inner),
            egress: self.egress.clone(),
            stages: Mutex::new(vec![None; request.plan.stages.len()]),
            request,
            bases,
            digests: digests.0,
            layer_digests: digests.1,
            progress,
            vertices,
            cancel,
            holds: Mutex::new(Vec::new()),
        });
        build.stages().await?;
        let last = Arc::clone(&build);
        let image = blocking("enter the image", move || last.enter()).await?;
        if let Some(name) = &caching.to {
            let steps = {
                let made = build.made.lock().unwrap_or_else(PoisonError::into_inner);
                caching.steps.add(&made)
            };
            remote::write(&self.inner.images.inner, name, steps, &teller).await?;
        }
        Ok(image)
    }

    /// Fetches a repository to build of, by a process as strictly isolated as a step's; what was
    /// fetched is removed with the context. Dropping the future ends it.
    ///
    /// # Errors
    /// It cannot be fetched, or the disk refused.
    pub async fn fetch(&self, source: CopySource) -> Result<Context, Error> {
        let (shared, egress) = (Arc::clone(&self.inner), self.egress.clone());
        let cancel = Cancel::default();
        let _on_drop = OnDrop(cancel.clone());
        blocking("fetch a build context", move || {
            stage::fetch_context(&shared, egress.as_deref(), &source, &cancel)
        })
        .await
    }

    async fn base(
        &self,
        reference: &str,
        progress: &Arc<dyn BuildProgress>,
        vertices: &AtomicU32,
    ) -> Result<Based, Error> {
        let name = Reference::parse(reference)?;
        let vertex = vertices.fetch_add(1, Ordering::Relaxed) + 1;
        let began = Instant::now();
        progress.event(Event::Began {
            vertex,
            name: format!("[internal] load image {name}"),
        });
        let teller = Arc::new(Teller {
            progress: Arc::clone(progress),
            vertex,
        });
        let ensured = self.inner.images.ensure(&name, teller).await;
        progress.event(Event::Ended {
            vertex,
            outcome: if ensured.is_ok() {
                Out::Done
            } else {
                Out::Failed
            },
            took: began.elapsed(),
        });
        ensured?;
        let images = Arc::clone(&self.inner.images.inner);
        blocking("read a base image", move || based(&images, &name)).await
    }
}

impl Images {
    /// What an image says of how it is run, as plans need it. Blocking, briefly.
    ///
    /// # Errors
    /// The image is not here.
    pub fn state(&self, reference: &Reference) -> Result<ImageState, Error> {
        self.inner.note_use(reference)?;
        let tag = self
            .inner
            .index
            .get(reference)?
            .ok_or_else(|| crate::images::missing(reference))?;
        let bytes = self.inner.index.document(&tag.config)?;
        let config = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(output::state(&config))
    }
}

/// A base image, held while it is built upon.
struct Based {
    made: Made,
    _hold: crate::holds::Hold,
}

fn based(images: &Inner, name: &Reference) -> Result<Based, Error> {
    let missing = || crate::images::missing(name);
    images.note_use(name)?;
    let tag = images.index.get(name)?.ok_or_else(missing)?;
    let digests: Vec<_> = tag.layers.iter().map(|id| id.digest().clone()).collect();
    let hold = images.holds.hold(&digests)?;
    if !tag.layers.iter().all(|id| images.store.has(id)) {
        return Err(missing());
    }
    let bytes = images.index.document(&tag.config)?;
    let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(Based {
        made: Made {
            layers: tag.layers,
            inherited: config["history"].as_array().cloned().unwrap_or_default(),
            past: Vec::new(),
            created: config["created"].as_str().map(str::to_owned),
        },
        _hold: hold,
    })
}

/// Tells of a pull in the words of a build.
struct Teller {
    progress: Arc<dyn BuildProgress>,
    vertex: u32,
}

impl Progress for Teller {
    fn layer(&self, id: &str, state: crate::LayerProgress) {
        if state.phase == crate::Phase::Done {
            self.message(&format!("{id} {} bytes", state.bytes_total));
        }
    }
    fn message(&self, text: &str) {
        self.progress.event(Event::Note {
            vertex: self.vertex,
            text: text.to_owned(),
        });
    }
}

struct OnDrop(Cancel);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A build under way.
struct Build {
    remotes: Vec<remote::Remote>,
    /// Every step's key and what it made, as they were done or found.
    made: Mutex<Vec<(crate::digest::Digest, cache::Made)>>,
    runtime: tokio::runtime::Handle,
    shared: Arc<Shared>,
    egress: Option<Arc<Egress>>,
    request: Request,
    bases: BTreeMap<String, Based>,
    /// Those that are finished.
    stages: Mutex<Vec<Option<Arc<Made>>>>,
    digests: BTreeMap<String, Arc<Digests>>,
    layer_digests: Arc<Digests>,
    progress: Arc<dyn BuildProgress>,
    vertices: Arc<AtomicU32>,
    cancel: Cancel,
    holds: Mutex<Vec<crate::holds::Hold>>,
}

impl Build {
    fn finished(&self, stage: usize) -> Option<Arc<Made>> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.get(stage).cloned().flatten()
    }

    fn hold(&self, layer: &LayerId) -> Result<(), Error> {
        let hold = self
            .shared
            .images
            .inner
            .holds
            .hold(std::slice::from_ref(layer.digest()))?;
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.push(hold);
        Ok(())
    }

    /// Runs the stages, each once those it reads are finished.
    async fn stages(self: &Arc<Self>) -> Result<(), Error> {
        let count = self.request.plan.stages.len();
        let reads: Vec<BTreeSet<usize>> = self.request.plan.stages.iter().map(reads).collect();
        let mut waiting: BTreeSet<usize> = (0..count).collect();
        let mut running = JoinSet::new();
        let mut first = None;
        loop {
            if first.is_none() {
                let ready: Vec<usize> = waiting
                    .iter()
                    .copied()
                    .filter(|stage| {
                        reads[*stage]
                            .iter()
                            .all(|read| self.finished(*read).is_some())
                    })
                    .take(self.shared.policy.parallel.saturating_sub(running.len()))
                    .collect();
                for stage in ready {
                    waiting.remove(&stage);
                    let build = Arc::clone(self);
                    running.spawn_blocking(move || (stage, stage::run(&build, stage)));
                }
            }
            let Some(ended) = running.join_next().await else {
                break;
            };
            let (stage, outcome) = ended.map_err(|_| Error::Ended {
                doing: "build a stage",
            })?;
            match outcome {
                Ok(made) => {
                    let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
                    stages[stage] = Some(Arc::new(made));
                }
                Err(error) => {
                    // What fails next does so because of this.
                    self.cancel.cancel();
                    first.get_or_insert(error);
                }
            }
        }
        for digests in self.digests.values().chain([&self.layer_digests]) {
            digests.save();
        }
        first.map_or(Ok(()), Err)
    }

    fn enter(&self) -> Result<Image, Error> {
        let inner = &self.shared.images.inner;
        let last = self.request.plan.stages.len().saturating_sub(1);
        let (Some(made), Some(stage)) = (self.finished(last), self.request.plan.stages.get(last))
        else {
            return Err(invalid("it has no stage"));
        };
        let config = output::config(&made, &stage.state, &inner.options.architecture);
        let mut sizes = Vec::new();
        for layer in &made.layers {
            let facts = inner.store.facts(layer)?;
            sizes.push((layer.digest().clone(), facts.tar_bytes));
        }
        let unwritable = |error: serde_json::Error| invalid(&error.to_string());
        let manifest = crate::config::plain_manifest(&config, &sizes).map_err(unwritable)?;
        let raw: crate::config::RawConfig = serde_json::from_slice(&config).map_err(unwritable)?;
        let held = [
            crate::digest::Digest::of(&config),
            crate::digest::Digest::of(&manifest),
        ];
        let _hold = inner.holds.hold(&held)?;
        let mut image = None;
        for name in self.request.names.iter().rev() {
            image = Some(inner.enter(name, &manifest, &config, &raw, false)?);
        }
        image.ok_or_else(|| invalid("its result has no name"))
    }
}

fn invalid(problem: &str) -> Error {
    Error::Plan {
        problem: problem.to_owned(),
    }
}

/// What a builder relies on.
fn check(request: &Request) -> Result<(), Error> {
    if request.names.is_empty() {
        return Err(invalid("its result has no name"));
    }
    if request.plan.stages.is_empty() {
        return Err(invalid("it has no stage"));
    }
    for (number, stage) in request.plan.stages.iter().enumerate() {
        if reads(stage).iter().any(|read| *read >= number) {
            return Err(invalid(&format!(
                "stage {} reads a stage that does not come before it",
                stage.name
            )));
        }
    }
    Ok(())
}

/// Origins a stage reads, its base aside.
fn origins(stage: &boatyard_devcontainer::build::Stage) -> Vec<&Origin> {
    let mut origins = Vec::new();
    for step in &stage.steps {
        match &step.op {
            Op::Copy(copy) => {
                for source in &copy.sources {
                    if let CopySource::Files { from, .. } = source {
                        origins.push(from);
                    }
                }
            }
            Op::Run(run) => {
                for mount in &run.mounts {
                    match &mount.kind {
                        RunMountKind::Bind { from, .. } => origins.push(from),
                        RunMountKind::Cache {
                            from: Some((from, _)),
                            ..
                        } => origins.push(from),
                        _ => {}
                    }
                }
            }
            Op::MakeDirectory { .. } => {}
        }
    }
    origins
}

/// Stages a stage reads.
fn reads(stage: &boatyard_devcontainer::build::Stage) -> BTreeSet<usize> {
    let base = match &stage.base {
        Base::Stage(number) => Some(*number),
        _ => None,
    };
    let read = origins(stage)
        .into_iter()
        .filter_map(|origin| match origin {
            Origin::Stage(number) => Some(*number),
            _ => None,
        });
    base.into_iter().chain(read).collect()
}

fn images_of(plan: &BuildPlan) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for stage in &plan.stages {
        if let Base::Image(reference) = &stage.base {
            images.insert(reference.clone());
        }
        for origin in origins(stage) {
            if let Origin::Image(reference) = origin {
                images.insert(reference.clone());
            }
        }
    }
    images
}

/// Sandboxes with names and ranges of their own: for programs that run nothing else.
pub struct Alone {
    sandboxes: Sandboxes,
    id_base: u32,
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

impl Alone {
    /// Ranges are taken from `id_base` upwards.
    #[must_use]
    pub fn new(sandboxes: Sandboxes, id_base: u32) -> Alone {
        Alone {
            sandboxes,
            id_base,
            taken: Arc::default(),
        }
    }
}

struct Taken(Arc<Mutex<BTreeSet<u32>>>, u32);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.1);
    }
}

impl Host for Alone {
    fn seat(&self) -> Result<Seat, String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..1024)
            .find(|number| !taken.contains(number))
            .ok_or("too many steps at once")?;
        taken.insert(number);
        Ok(Seat {
            id: Id::try_from(format!("build-{number}")).map_err(|error| error.to_string())?,
            id_base: self.id_base + number * boatyard_sandbox::spec::ID_RANGE,
            address: None,
            held: Some(Box::new(Taken(Arc::clone(&self.taken), number))),
        })
    }
    fn start(&self, spec: &Spec) -> Result<(), boatyard_sandbox::Error> {
        self.sandboxes.start(spec).map(drop)
    }
    fn remove(&self, id: &Id, state: &Path) -> Result<(), boatyard_sandbox::Error> {
        self.sandboxes.remove(id, state)
    }
    fn ended(&self, id: &Id, state: &Path) -> Result<Option<i32>, boatyard_sandbox::Error> {
        Ok(exit_code(self.sandboxes.observe(id, state)?))
    }
}

/// What [`Host::ended`] answers.
#[must_use]
pub fn exit_code(observed: boatyard_sandbox::Observed) -> Option<i32> {
    use boatyard_sandbox::Observed;
    match observed {
        Observed::Running { .. } => None,
        Observed::Exited { code, .. } => Some(code.unwrap_or(255)),
        Observed::Absent => Some(255),
    }
}

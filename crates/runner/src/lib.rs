//! Realises the environments bound to this host.
//!
//! Owns the runner process: it watches the Environments whose `spec.runnerName` is its own, runs
//! one control loop per environment ([`worker`]), keeps what it decided in [`record`]s, proves it
//! is alive by a Lease, and carries streams from the server to agents ([`doors`]). What to do is
//! decided by `plan`; how a process tree is isolated by `sandbox`. It listens on nothing.
//!
//! Crash behaviour: environments outlive it. At start it adopts what runs, finishes or removes
//! what was half made, and empties the trash.
//!
//! Read next: [`layout`], `record`, `worker`, `steps`.

pub mod agent;
mod beneath;
mod build;
pub mod cdi;
mod classes;
mod configuration;
mod container;
mod context;
mod disk;
mod doors;
mod dotfiles;
mod egress;
mod failure;
mod features;
mod garbage;
mod hooks;
pub mod ids;
mod images;
mod isolation;
mod kernel_log;
pub mod layout;
mod lifecycle;
mod mounts;
mod objects;
mod passwd;
pub mod record;
mod registration;
mod resources;
mod services;
mod session;
mod shares;
mod source;
mod status;
mod steps;
mod verbs;
mod volumes;
mod worker;

pub use boatyard_plan::garbage::Settings as Garbage;
pub use configuration::DEFAULT_IMAGE;
pub use failure::Failed;
pub use isolation::Sandbox;

use boatyard_api::Environment;
use boatyard_image::Images;
use boatyard_image::build::Builder;
use boatyard_link::client::Endpoint;
use boatyard_link::tunnel::Neighbour;
use boatyard_sandbox::Sandboxes;
use boatyard_sandbox::spec::Bandwidth;
use context::Context;
use futures::TryStreamExt;
use kube::api::Api;
use kube::runtime::watcher;
use layout::Layout;
use record::{Slots, Uid};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// What a runner is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of its Runner object.
    pub name: String,
    /// State directory.
    pub state_dir: PathBuf,
    /// The server, with this runner's token.
    pub endpoint: Endpoint,
    /// The `boatyard` executable, re-executed as the sandboxes' spawner.
    pub executable: PathBuf,
    /// How images are fetched.
    pub images: boatyard_image::Options,
    /// Name of the cgroups, links and tables on this host.
    pub host_name_prefix: String,
    /// First slot (address and id range) this runner may use; differs only where two share a host.
    pub first_slot: u32,
    /// Move processes between the shares of the processor by what they do.
    pub fair_shares: bool,
    /// Swap in compressed memory for so many bytes; what is there stays.
    pub zram: Option<u64>,
    /// What the host's way to the outside carries, in bits a second: in a direction that is known,
    /// environments share it fairly.
    pub uplink: Bandwidth,
    /// Where devices are described; see [`cdi::DIRECTORIES`].
    pub device_directories: Vec<PathBuf>,
    /// When unused cache goes.
    pub garbage: Garbage,
}

/// Why a runner cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// Its contents.
    #[error("cannot read the state directory {path}")]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Taken down with environments left.
    #[error("there are environments left in {path}; remove them first (boatyard rm)")]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// Images.
    #[error("cannot open the image store")]
    Images(#[from] boatyard_image::Error),
    /// Sandboxes.
    #[error("cannot prepare this host for sandboxes")]
    Sandbox(#[from] boatyard_sandbox::Error),
}

/// A runner, ready to run.
pub struct Service {
    context: Context,
    classes: watch::Sender<classes::Known>,
    kills: watch::Sender<Arc<VecDeque<kernel_log::Kill>>>,
    endpoint: Endpoint,
    fair_shares: bool,
    garbage: Garbage,
}

/// A worker's end as the dispatcher holds it.
struct Held {
    latest: watch::Sender<Option<Arc<Environment>>>,
}

impl Service {
    /// Opens the state directory, the image store and the host's sandboxes.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::assemble(options, |options| {
            let sandboxes = sandboxes(
                &options.state_dir,
                options.executable.clone(),
                options.host_name_prefix.clone(),
                options.uplink,
            )?;
            // Where that is refused, shells are slower beside builds and nothing else is.
            if let Err(error) = sandboxes.join_system() {
                tracing::info!(
                    error = failure::chain(&error),
                    "this process shares the processor with everything else"
                );
            }
            match options
                .zram
                .map(boatyard_sandbox::swap::in_compressed_memory)
            {
                Some(Ok(device)) => {
                    tracing::info!(device = %device.display(), "memory is swapped out compressed");
                }
                Some(Err(error)) => tracing::error!(
                    error = failure::chain(&error),
                    "there is no swap in compressed memory"
                ),
                None => {}
            }
            Ok(Arc::new(sandboxes))
        })
    }

    /// The same with process trees of another make.
    ///
    /// # Errors
    /// When the state directory or the image store cannot be used.
    pub fn open_with(options: Options, sandbox: Arc<dyn Sandbox>) -> Result<Self, Error> {
        Self::assemble(options, |_| Ok(sandbox))
    }

    fn assemble(
        options: Options,
        sandboxes: impl FnOnce(&Options) -> Result<Arc<dyn Sandbox>, Error>,
    ) -> Result<Self, Error> {
        let layout = Layout::open(&options.state_dir)?;
        let state = |source| Error::State {
            path: options.state_dir.clone(),
            source,
        };
        empty_trash(&layout).map_err(state)?;
        let slots = Slots::read(&layout, options.first_slot).map_err(state)?;
        let agent = agent::install(&layout.agent()).map_err(state)?;
        let images = Images::open(&layout.images(), options.images.clone())?;
        let sandboxes = sandboxes(&options)?;
        let client = options.endpoint.kube();
        let host = build::Host::new(sandboxes.clone(), slots.clone());
        let policy = boatyard_image::build::Policy::default();
        let builder = Builder::open(images.clone(), Arc::new(host), agent.clone(), policy)?;
        let (classes, known_classes) = watch::channel(None);
        let (kills, known_kills) = watch::channel(Arc::default());
        let context = Context {
            runner: options.name,
            layout,
            slots,
            sandboxes,
            starting: Arc::default(),
            images,
            builder,
            agent,
            calls: lifecycle::Calls::default(),
            device_directories: options.device_directories.into(),
            shares_uplink: options.uplink != Bandwidth::default(),
            classes: known_classes,
            questions: classes::Questions::default(),
            kills: known_kills,
            board: resources::board::Board::default(),
            garbage: garbage::Collector::default(),
            turns: objects::Turns::of(options.endpoint.token.clone()),
            client,
            server: options.endpoint.place(),
            token: options.endpoint.token.clone(),
        };
        Ok(Self {
            context,
            classes,
            kills,
            endpoint: options.endpoint,
            fair_shares: options.fair_shares,
            garbage: options.garbage,
        })
    }

    /// How a server in this process reaches its environments.
    #[must_use]
    pub fn neighbour(&self) -> Neighbour {
        let layout = self.context.layout.clone();
        Neighbour {
            runner: self.context.runner.clone(),
            agents: Box::new(move |uid| {
                let uid = Uid::try_from(uid.to_owned()).ok()?;
                Some(layout.environment(&uid).agent_socket())
            }),
        }
    }

    /// Runs until shutdown; environments go on.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            context,
            classes,
            kills,
            endpoint,
            fair_shares,
            garbage,
        } = self;
        let shares = fair_shares.then(|| shares::Shares::start(context.sandboxes.clone()));
        if let Some(Err(error)) = &shares {
            tracing::error!(%error, "the loop for fair shares was not started; restart the runner");
        }
        if !fair_shares {
            let sandboxes = context.sandboxes.clone();
            context.blocking(move || shares::lift(&*sandboxes)).await;
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(doors::run(context.clone(), endpoint, shutdown.clone()));
        let until = shutdown.clone();
        let own = context.clone();
        tasks.spawn(async move {
            let clock = own.clone();
            let work = async {
                tokio::join!(
                    registration::keep(own.clone()),
                    classes::follow(own.clone(), classes),
                    kernel_log::follow(kills, move || clock.now()),
                    resources::board::take_back(own.clone()),
                    garbage::run(own.clone(), garbage),
                )
            };
            Box::pin(until.run_until_cancelled(work)).await;
        });
        dispatch(context, shutdown).await;
        while tasks.join_next().await.is_some() {}
        // Waits for the end of its round: milliseconds.
        drop(shares);
    }
}

/// Undoes what runners of `state_dir` changed on the host: firewall, forwarding, cgroups. The caller
/// holds the directory's lock. `executable` and `host_name_prefix` as in [`Options`].
///
/// # Errors
/// When environments are left, or the host refuses.
pub fn teardown(
    state_dir: &Path,
    executable: PathBuf,
    host_name_prefix: String,
) -> Result<(), Error> {
    let layout = Layout::open(state_dir)?;
    let path = layout.environments();
    let state = |source| Error::State {
        path: path.clone(),
        source,
    };
    if std::fs::read_dir(&path).map_err(state)?.next().is_some() {
        return Err(Error::Occupied { path });
    }
    empty_trash(&layout).map_err(state)?;
    disk::volumes::release_all(&layout.volumes()).map_err(state)?;
    let uplink = Bandwidth::default();
    let sandboxes = sandboxes(state_dir, executable, host_name_prefix, uplink)?;
    Ok(sandboxes.teardown_host()?)
}

fn sandboxes(
    state_dir: &Path,
    executable: PathBuf,
    host_name_prefix: String,
    uplink: Bandwidth,
) -> Result<Sandboxes, boatyard_sandbox::Error> {
    Sandboxes::open(boatyard_sandbox::Options {
        executable,
        state_dir: state_dir.join("host"),
        cgroup_root: host_name_prefix.clone(),
        table: host_name_prefix,
        uplink,
        ..boatyard_sandbox::Options::default()
    })
}

/// What a kill left in the trash goes first: its slots are free only then.
fn empty_trash(layout: &Layout) -> std::io::Result<()> {
    for entry in std::fs::read_dir(layout.trash())? {
        let path = entry?.path();
        disk::release_all(&path)?;
        std::fs::remove_dir_all(path)?;
    }
    for entry in std::fs::read_dir(layout.cache())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Gives each bound environment a worker and each worker the newest version of its object.
async fn dispatch(context: Context, shutdown: CancellationToken) {
    let environments: Api<Environment> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.runnerName={}", context.runner));
    let mut held: HashMap<Uid, Held> = HashMap::new();
    let mut workers: JoinSet<Uid> = JoinSet::new();
    let mut listed: Vec<Uid> = Vec::new();
    let stream = watcher::watcher(environments, config);
    tokio::pin!(stream);
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                if let Ok(uid) = ended {
                    held.remove(&uid);
                }
                continue;
            }
            event = stream.try_next() => event,
        };
        match event {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(object))) => {
                listed.extend(assign(&context, &mut held, &mut workers, object));
            }
            Ok(Some(watcher::Event::Apply(object))) => {
                drop(assign(&context, &mut held, &mut workers, object))
            }
            Ok(Some(watcher::Event::InitDone)) => {
                for (uid, worker) in &held {
                    if !listed.contains(uid) {
                        worker.latest.send_replace(None);
                    }
                }
                report_orphans(&context, &listed);
            }
            Ok(Some(watcher::Event::Delete(object))) => {
                let uid = object
                    .metadata
                    .uid
                    .clone()
                    .and_then(|uid| Uid::try_from(uid).ok());
                if let Some(worker) = uid.and_then(|uid| held.get(&uid)) {
                    worker.latest.send_replace(None);
                }
            }
            Ok(None) => break,
            Err(error) => {
                if !context.is_refused() {
                    tracing::info!(
                        error = failure::chain(&error),
                        "the watch ended; watching again"
                    );
                }
                let pause = context.pause(std::time::Duration::from_millis(500));
                shutdown.run_until_cancelled(pause).await;
            }
        }
    }
    // Dropping a worker at any point is like killing it: the next start adopts.
    workers.shutdown().await;
}

fn assign(
    context: &Context,
    held: &mut HashMap<Uid, Held>,
    workers: &mut JoinSet<Uid>,
    object: Environment,
) -> Option<Uid> {
    let uid = Uid::try_from(object.metadata.uid.clone()?).ok()?;
    let object = Arc::new(object);
    if let Some(worker) = held.get(&uid)
        && worker.latest.receiver_count() > 0
    {
        worker.latest.send_replace(Some(object));
        return Some(uid);
    }
    let (latest, receiver) = watch::channel(Some(object.clone()));
    let (status, newest) = watch::channel(object.status.clone().unwrap_or_default());
    let known = object.status.as_ref();
    let (resources, used) = watch::channel(known.and_then(|known| known.resources.clone()));
    let worker = match Worker::new(context.clone(), uid.clone(), receiver, status, resources) {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(environment = %uid, %error, "the environment cannot be taken up");
            return Some(uid);
        }
    };
    held.insert(uid.clone(), Held { latest });
    let (client, turns) = (context.client.clone(), context.turns.clone());
    let ended = uid.clone();
    workers.spawn(async move {
        if let Err(error) = objects::hold(&client, &object).await {
            tracing::info!(%error, "the finalizer was not set; the next start will");
        }
        let writing = objects::write_status(client, turns, object.as_ref().clone(), newest, used);
        tokio::join!(worker.run(), writing);
        ended
    });
    Some(uid)
}

/// State on disk that the API does not know is never deleted: it may be all that is left.
fn report_orphans(context: &Context, listed: &[Uid]) {
    let Ok(entries) = std::fs::read_dir(context.layout.environments()) else {
        return;
    };
    for entry in entries.flatten() {
        let known = entry
            .file_name()
            .to_str()
            .is_some_and(|name| listed.iter().any(|uid| uid.as_str() == name));
        if !known {
            tracing::info!(path = %entry.path().display(), "state of an environment that the server does not know; it is kept");
        }
    }
}

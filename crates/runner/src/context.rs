//! What every part of the runner shares: its disk, its sandboxes, its images, its API client.

use crate::failure::Failed;
use crate::isolation::Sandbox;
use crate::layout::Layout;
use crate::record::Slots;
use boatyard_api::EnvironmentClassSpec;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_api::words::DEFAULT_CLASS;
use boatyard_image::Images;
use boatyard_image::build::Builder;
use boatyard_link::token::Token;
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::{Id, Spec};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Shared by all workers.
#[derive(Clone)]
pub(crate) struct Context {
    /// Name of the Runner object.
    pub(crate) runner: String,
    /// State directory.
    pub(crate) layout: Layout,
    /// Who has which slot.
    pub(crate) slots: Slots,
    /// Isolated process trees.
    pub(crate) sandboxes: Arc<dyn Sandbox>,
    /// Held for reading by starts that [`Context::end_run`] waits for.
    pub(crate) starting: Arc<tokio::sync::RwLock<()>>,
    /// Images.
    pub(crate) images: Images,
    /// Builds into them.
    pub(crate) builder: Builder,
    /// The agent's executable.
    pub(crate) agent: PathBuf,
    /// Calls for lifecycle commands, on their way to the environments' workers.
    pub(crate) calls: crate::lifecycle::Calls,
    /// Where devices are described.
    pub(crate) device_directories: Arc<[PathBuf]>,
    /// Whether environments share the host's way out.
    pub(crate) shares_uplink: bool,
    /// The classes as they are now.
    pub(crate) classes: tokio::sync::watch::Receiver<crate::classes::Known>,
    /// What is being asked about them.
    pub(crate) questions: crate::classes::Questions,
    /// Processes that were killed because memory ran out.
    pub(crate) kills: crate::kernel_log::Kills,
    /// Live figures.
    pub(crate) board: crate::resources::board::Board,
    /// What clears the disk of unused cache.
    pub(crate) garbage: crate::garbage::Collector,
    /// Whose status is written next.
    pub(crate) turns: crate::objects::Turns,
    /// The API, as this runner.
    pub(crate) client: kube::Client,
    /// Where that is, for messages.
    pub(crate) server: String,
    /// What it knows this runner by.
    pub(crate) token: Option<Token>,
}

impl Context {
    /// The one place where the runner reads the wall clock.
    #[allow(clippy::disallowed_methods, reason = "the runner's clock")]
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Whether the server said last that it does not know this runner; `registration` tells people.
    pub(crate) fn is_refused(&self) -> bool {
        self.token.as_ref().is_some_and(Token::is_refused)
    }

    /// Waits before the server is asked again after it failed to answer or refused to, and for as
    /// long as it does not know this runner.
    pub(crate) async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        if let Some(token) = &self.token {
            token.good().await;
        }
    }

    /// The class of an environment as the server has it now.
    pub(crate) async fn class(
        &self,
        spec: &EnvironmentSpec,
    ) -> Result<EnvironmentClassSpec, Failed> {
        let name = spec.class_name.as_deref().unwrap_or(DEFAULT_CLASS);
        let asking = crate::objects::class(&self.client, name);
        self.questions.ask(name, asking).await
    }

    /// Runs blocking work on a thread for that.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What these devices of a class take of this host.
    pub(crate) async fn devices(&self, names: Vec<String>) -> Result<crate::cdi::Given, Failed> {
        if names.is_empty() {
            return Ok(crate::cdi::Given::default());
        }
        let directories = Arc::clone(&self.device_directories);
        self.blocking(move || crate::cdi::find(&directories, &names))
            .await
    }

    /// What there is of a sandbox.
    pub(crate) async fn observe(&self, id: &Id, state: &Path) -> Result<Observed, Failed> {
        let (sandboxes, id, state) = (self.sandboxes.clone(), id.clone(), state.to_owned());
        self.blocking(move || sandboxes.observe(&id, &state))
            .await
            .map_err(|error| Failed::internal(&error))
    }

    /// Starts a sandbox.
    pub(crate) async fn start(&self, spec: Spec) -> Result<boatyard_sandbox::Running, Failed> {
        self.start_holding(spec, ()).await
    }

    /// The same; lets go of something when the start has come to its end, whoever waits for it.
    async fn start_holding(
        &self,
        spec: Spec,
        held: impl Send + 'static,
    ) -> Result<boatyard_sandbox::Running, Failed> {
        let sandboxes = self.sandboxes.clone();
        let start = move || {
            let started = sandboxes.start(&spec);
            drop(held);
            started
        };
        let started = self.blocking(start).await;
        started.map_err(|error| {
            let text = crate::failure::chain(&error);
            if text.contains("No space left on device") {
                return Failed::full(self.layout.root(), &text);
            }
            Failed::transient("SandboxFailed", text)
        })
    }

    /// Removes every trace of a sandbox.
    pub(crate) async fn remove(&self, id: &Id, state: &Path) -> Result<(), Failed> {
        let (sandboxes, id, state) = (self.sandboxes.clone(), id.clone(), state.to_owned());
        self.blocking(move || sandboxes.remove(&id, &state))
            .await
            .map_err(|error| Failed::internal(&error))
    }

    /// Ends what [`Self::run_to_end`] left when it was not waited for, and removes its traces.
    pub(crate) async fn end_run(&self, id: &Id, state: &Path) -> Result<(), Failed> {
        // A start that nobody waits for comes to its end first.
        drop(self.starting.write().await);
        self.remove(id, state).await
    }

    /// Runs a sandbox to its end and removes its traces; says how it ended. When this is dropped before,
    /// the sandbox runs on until [`Self::end_run`].
    pub(crate) async fn run_to_end(&self, spec: Spec) -> Result<Observed, Failed> {
        let (id, state) = (spec.id.clone(), spec.state.clone());
        let under_way = Arc::clone(&self.starting).read_owned().await;
        let running = self.start_holding(spec, under_way).await?;
        ended(pid(running.init_pid)).await;
        let mut observed = self.observe(&id, &state).await?;
        // The monitor writes how it ended just after it ended.
        for _ in 0..200 {
            if matches!(observed, Observed::Exited { .. }) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            observed = self.observe(&id, &state).await?;
        }
        self.remove(&id, &state).await?;
        Ok(observed)
    }
}

/// A process id as system calls take it.
pub(crate) fn pid(number: u32) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

/// Waits until the process is gone; at once when it is already.
#[allow(
    deprecated,
    reason = "an owned descriptor cannot change under the reactor, and the replacement is unsafe"
)]
pub(crate) async fn ended(pid: i32) {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        return;
    };
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let Ok(process) = AsyncFd::with_interest(process, Interest::READABLE) else {
        return;
    };
    // An error means the reactor is shutting down; then nobody waits any more.
    let _ = process.readable().await;
}

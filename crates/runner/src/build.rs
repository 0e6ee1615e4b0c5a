//! Builds Dockerfiles for callers and environments: reads them with their rights, plans, and hands
//! the plan to the builder.
//!
//! A caller's folders are read by processes with the caller's credentials; a clone, which this
//! runner made, is read as it is and never left. What a build does is `boatyard-image`'s
//! business, what a Dockerfile means `boatyard-devcontainer`'s.
//!
//! Crash behaviour: a build dies with the runner; its finished steps are found again.

use crate::beneath;
use crate::context::Context;
use crate::failure::Failed;
use crate::isolation::Sandbox;
use crate::layout::private_directory;
use crate::record::{Slots, Uid, address, id_base};
use crate::source::{Files, is_lost};
use crate::verbs::Caller;
use boatyard_devcontainer::DockerfileSource;
use boatyard_devcontainer::dockerfile::{self, Answer, Dockerfile, Ignore, NamedContext};
use boatyard_image::build::{self as image_build, BuildProgress, Caching, Event, Outcome, Seat};
use boatyard_image::{Image, LayerProgress, Progress, Reference};
use boatyard_link::verbs::{Build, BuildEvent};
use boatyard_sandbox::spec::{Egress, Id, Spec, User};
use rustix::fs::OFlags;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::Notify;

/// Events under way to a caller that does not read, above which processes wait.
const BACKLOG: usize = 256;
/// Output is sent in pieces of this many bytes: as JSON it may be six times that.
const PIECE: usize = 8 << 10;
/// Bytes of an environment's build log.
const LOG_LIMIT: u64 = 16 << 20;
/// Rounds of planning: each brings an image that the one before asked for.
const ROUNDS: usize = 64;

/// What the builder has of this host.
pub(crate) struct Host {
    sandboxes: Arc<dyn Sandbox>,
    slots: Slots,
}

impl Host {
    pub(crate) fn new(sandboxes: Arc<dyn Sandbox>, slots: Slots) -> Self {
        Self { sandboxes, slots }
    }
}

impl image_build::Host for Host {
    fn seat(&self) -> Result<Seat, String> {
        let borrowed = self.slots.borrow().map_err(|error| error.to_string())?;
        let slot = borrowed.slot;
        Ok(Seat {
            id: Id::try_from(format!("build-{slot}")).map_err(|error| error.to_string())?,
            id_base: id_base(slot),
            address: Some(address(slot)),
            held: Some(Box::new(borrowed)),
        })
    }

    fn start(&self, spec: &Spec) -> Result<(), boatyard_sandbox::Error> {
        self.sandboxes.start(spec).map(drop)
    }

    fn remove(&self, id: &Id, state: &Path) -> Result<(), boatyard_sandbox::Error> {
        self.sandboxes.remove(id, state)
    }

    fn ended(&self, id: &Id, state: &Path) -> Result<Option<i32>, boatyard_sandbox::Error> {
        Ok(image_build::exit_code(self.sandboxes.observe(id, state)?))
    }
}

/// Whose files are read: of a clone, paths begin with the prefix.
struct Place<'a> {
    files: &'a Files,
    prefix: &'a str,
}

impl Place<'_> {
    fn within<'p>(path: &'p str, prefix: &str) -> Result<&'p str, Failed> {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        match rest {
            Some("") => Ok("."),
            Some(rest) if rest.starts_with('/') => Ok(rest.trim_start_matches('/')),
            _ => Err(Failed::lasting(
                "SourceUnreadable",
                format!("{path} lies outside of the repository, and only that was cloned"),
            )),
        }
    }

    async fn text(&self, path: &str) -> Result<Option<String>, Failed> {
        match self.files.clone_root() {
            Some(_) => self.files.read(Self::within(path, self.prefix)?).await,
            None => self.files.read(path).await,
        }
    }

    async fn folder(&self, path: &str) -> Result<image_build::Context, Failed> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Failed::lasting(
                "SourceUnreadable",
                format!("the folder {path} cannot be read: {error}"),
            )
        };
        let context = self.files.context();
        match (self.files.owner(), self.files.clone_root()) {
            (Some(user), _) => {
                let (sandboxes, folder) = (context.sandboxes.clone(), PathBuf::from(path));
                let view = context
                    .blocking(move || sandboxes.view(user, &folder))
                    .await
                    .map_err(|error| match error {
                        boatyard_sandbox::Error::OpenAs { .. } => unreadable(&error),
                        error => Failed::internal(&error),
                    })?;
                Ok(image_build::Context::view(view, user.uid))
            }
            (None, root) => {
                let root = root.unwrap_or(Path::new("/nowhere"));
                let relative = Self::within(path, self.prefix)?;
                let open = || {
                    let folder = beneath::open(File::open(root)?, relative, OFlags::DIRECTORY)?;
                    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
                    image_build::Context::folder(Path::new(&path))
                };
                let mut context = open().map_err(|error| unreadable(&error))?;
                context.identity = Some(root.join(relative).display().to_string());
                Ok(context)
            }
        }
    }
}

/// Builds what a caller of this host asks for.
pub(crate) async fn for_caller(
    context: &Context,
    mut request: Build,
    caller: Caller,
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let user = caller.local.ok_or_else(|| {
        Failed::lasting(
            "SourceNotLocal",
            "folders can be built only for callers on this host's unix socket",
        )
    })?;
    if !caller.admin {
        bounded(&request, user)?;
    }
    let names = request
        .names
        .iter()
        .map(|name| {
            Reference::parse(name)
                .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let egress = match request.class_name.take() {
        Some(name) => crate::egress::of_class(context, name).await?,
        None => None,
    };
    // Paths of it are absolute.
    let files = Files::folder(context, PathBuf::from("/"), user).await?;
    let place = Place {
        files: &files,
        prefix: "",
    };
    let reference = |name: &String| {
        Reference::parse(name)
            .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))
    };
    let caching = Caching {
        from: request
            .cache_from
            .iter()
            .map(reference)
            .collect::<Result<_, _>>()?,
        to: request.cache_to.as_ref().map(reference).transpose()?,
        ..Caching::default()
    };
    let source = DockerfileSource {
        file: request.file,
        context: request.context,
        args: request.args,
        target: request.target,
        cache_from: Vec::new(),
        inline: None,
        contexts: request.contexts,
    };
    let ssh = agents(&files, &request.ssh)?;
    let wanted = Wanted {
        egress,
        source: &source,
        ssh,
        secrets: request.secrets,
        names,
        no_cache: request.no_cache,
        caching,
    };
    let pushed = if request.push {
        wanted.names.clone()
    } else {
        Vec::new()
    };
    let image = carry_out(&place, wanted, Arc::clone(&progress)).await?;
    for name in pushed {
        push(context, &name, &progress).await?;
    }
    Ok(image)
}

/// Holds somebody who is no administrator to what harms nobody: a name is everybody's on this
/// runner, and its credentials for registries are root's.
fn bounded(request: &Build, user: User) -> Result<(), Failed> {
    let own = format!("boatyard.local/u{}/", user.uid);
    let foreign = request.names.iter().find(|name| !name.starts_with(&own));
    let refused = match foreign {
        Some(name) => format!(
            "only administrators name images for everybody on this machine: call yours {own}{name}, or use sudo"
        ),
        None if request.push || request.cache_to.is_some() => return Err(no_credentials()),
        None => return Ok(()),
    };
    Err(Failed::lasting("Forbidden", refused))
}

/// Of somebody who may not use this machine's credentials.
pub(crate) fn no_credentials() -> Failed {
    Failed::lasting(
        "Forbidden",
        "pushing uses this machine's credentials for registries, which are root's: use sudo",
    )
}

async fn push(
    context: &Context,
    name: &Reference,
    progress: &Arc<dyn BuildProgress>,
) -> Result<(), Failed> {
    /// Above those of every build's own work.
    const VERTEX: u32 = 1_000_000;
    let began = std::time::Instant::now();
    progress.event(Event::Began {
        vertex: VERTEX,
        name: format!("[internal] push {name}"),
    });
    let noting = Arc::new(Noting(Arc::clone(progress), VERTEX));
    let pushed = context.images.push(name, noting).await;
    progress.event(Event::Ended {
        vertex: VERTEX,
        outcome: if pushed.is_ok() {
            Outcome::Done
        } else {
            Outcome::Failed
        },
        took: began.elapsed(),
    });
    pushed.map(drop).map_err(|error| Failed::image(&error))
}

/// The log of an environment's builds, begun anew.
pub(crate) fn log(context: &Context, uid: &Uid) -> Result<Arc<dyn BuildProgress>, Failed> {
    let logs = context.layout.environment(uid).logs();
    private_directory(&logs).map_err(|error| Failed::disk(&logs, &error))?;
    // Root inside owns this folder while the environment runs: nothing there is written through.
    let path = logs.join("build.log");
    let _ = std::fs::remove_file(&path);
    let log = File::create_new(&path).map_err(|error| Failed::disk(&path, &error))?;
    Ok(Arc::new(Log(Mutex::new((log, 0)))))
}

/// Builds an image of an environment, of whose files those of a clone begin with the prefix.
pub(crate) async fn of_files(
    (files, prefix): (&Files, &str),
    source: &DockerfileSource,
    (name, egress): (&Reference, Option<Egress>),
    (no_cache, caching): (bool, Caching),
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let wanted = Wanted {
        egress,
        source,
        ssh: BTreeMap::new(),
        secrets: BTreeMap::new(),
        names: vec![name.clone()],
        no_cache,
        caching: Caching {
            // What is no name is no cache: the configuration's author meant docker's.
            from: source
                .cache_from
                .iter()
                .filter_map(|name| Reference::parse(name).ok())
                .chain(caching.from)
                .collect(),
            to: caching.to,
            steps: caching.steps,
        },
    };
    carry_out(&Place { files, prefix }, wanted, progress).await
}

struct Wanted<'a> {
    egress: Option<Egress>,
    source: &'a DockerfileSource,
    ssh: BTreeMap<String, Arc<dyn image_build::Agent>>,
    secrets: BTreeMap<String, Vec<u8>>,
    names: Vec<Reference>,
    no_cache: bool,
    caching: Caching,
}

fn wrong(error: &dyn std::fmt::Display) -> Failed {
    Failed::lasting("BuildFailed", error.to_string())
}

/// An SSH agent's socket, as its user may connect to it.
struct SshAgent(Files, PathBuf);

impl image_build::Agent for SshAgent {
    fn connect(&self) -> std::io::Result<std::os::unix::net::UnixStream> {
        self.0.connect(&self.1)
    }
}

fn agents(
    files: &Files,
    asked: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Arc<dyn image_build::Agent>>, Failed> {
    let mut agents: BTreeMap<String, Arc<dyn image_build::Agent>> = BTreeMap::new();
    for (id, socket) in asked {
        let agent = SshAgent(files.clone(), PathBuf::from(socket));
        agents.insert(id.clone(), Arc::new(agent));
    }
    Ok(agents)
}

/// A context by where it lies: a folder, or a repository that is fetched.
async fn located(
    place: &Place<'_>,
    egress: Option<&Egress>,
    location: &str,
    progress: &Arc<dyn BuildProgress>,
) -> Result<image_build::Context, Failed> {
    let source = dockerfile::repository(location);
    let source = source.map_err(|problem| wrong(&format!("the context {location} {problem}")))?;
    let Some(source) = source else {
        return place.folder(location).await;
    };
    progress.event(Event::Note {
        vertex: 0,
        text: format!("fetching {location}"),
    });
    let builder = place.files.context().builder.within(egress.cloned());
    let fetched = builder.fetch(source).await;
    fetched.map_err(|error| Failed::image(&error))
}

/// The Dockerfile of a context that was fetched.
async fn text_of(
    place: &Place<'_>,
    context: &image_build::Context,
    path: &str,
) -> Result<Option<String>, Failed> {
    let (tree, wanted) = (Arc::clone(&context.tree), PathBuf::from(path));
    let read = move || match tree.stat(&wanted, true)? {
        Some(_) => beneath::text(tree.open(&wanted)?).map(Some),
        None => Ok(None),
    };
    let read = place.files.context().blocking(read).await;
    read.map_err(|error| {
        let message = format!("{path} cannot be read: {error}");
        if is_lost(&error) {
            return Failed::transient("Internal", message);
        }
        Failed::lasting("SourceUnreadable", message)
    })
}

async fn carry_out(
    place: &Place<'_>,
    wanted: Wanted<'_>,
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let Wanted {
        egress,
        source,
        ssh,
        secrets,
        names,
        no_cache,
        caching,
    } = wanted;
    let is_fetched = !source.context.starts_with('/');
    let mut main = match is_fetched {
        true => Some(located(place, egress.as_ref(), &source.context, &progress).await?),
        false => None,
    };
    let text = match (&source.inline, &main) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(main)) if !source.file.starts_with('/') => {
            text_of(place, main, &source.file).await?
        }
        (None, _) => place.text(&source.file).await?,
    };
    let text = text.ok_or_else(|| {
        Failed::lasting(
            "BuildFailed",
            format!(
                "there is no {}; write a Dockerfile, or name another with -f",
                source.file
            ),
        )
    })?;
    let below = source
        .file
        .strip_prefix(source.context.trim_end_matches('/'))
        .and_then(|rest| rest.strip_prefix('/'));
    let file = below.unwrap_or(&source.file);
    let dockerfile = Dockerfile::parse(file, &text).map_err(|error| wrong(&error))?;
    let mut request = dockerfile::Request::new(&format!("linux/{}", architecture()));
    request.target.clone_from(&source.target);
    request.build_args.clone_from(&source.args);
    let mut contexts = BTreeMap::new();
    for (name, location) in &source.contexts {
        let kind = match location.strip_prefix("docker-image://") {
            Some(image) => NamedContext::Image(image.to_owned()),
            None => {
                let context = located(place, egress.as_ref(), location, &progress).await?;
                contexts.insert(name.clone(), context);
                NamedContext::Files
            }
        };
        request.contexts.insert(name.clone(), kind);
    }
    let plan = plan(place.files.context(), &dockerfile, &request, &progress).await?;
    if plan.needs.contexts.contains("") {
        let main = match main.take() {
            Some(main) => main,
            None => place.folder(&source.context).await?,
        };
        contexts.insert(String::new(), ignoring(place, source, main).await?);
    }
    for warning in &plan.warnings {
        progress.event(Event::Note {
            vertex: 0,
            text: warning.to_string(),
        });
    }
    let request = image_build::Request {
        plan: plan.plan,
        names,
        contexts,
        secrets,
        ssh,
        no_cache,
    };
    let builder = place.files.context().builder.within(egress);
    let built = builder.build_with(request, caching, progress).await;
    let collector = &place.files.context().garbage;
    collector.built();
    if let Err(boatyard_image::Error::NoSpace { .. }) = &built {
        collector.full();
    }
    built.map_err(|error| Failed::image(&error))
}

/// As images name it.
fn architecture() -> String {
    boatyard_image::Options::default().architecture
}

/// Plans, fetching the images whose configurations take part.
async fn plan(
    context: &Context,
    dockerfile: &Dockerfile,
    request: &dockerfile::Request,
    progress: &Arc<dyn BuildProgress>,
) -> Result<dockerfile::Planned, Failed> {
    let mut wanted = dockerfile
        .needs(request)
        .map_err(|error| wrong(&error))?
        .images;
    let mut images = BTreeMap::new();
    for _ in 0..ROUNDS {
        for name in std::mem::take(&mut wanted) {
            let reference = Reference::parse(&name)
                .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))?;
            let noting = Arc::new(Noting(Arc::clone(progress), 0));
            let ensured = context.images.ensure(&reference, noting).await;
            ensured.map_err(|error| Failed::image(&error))?;
            let state = context.images.state(&reference);
            images.insert(name, state.map_err(|error| Failed::image(&error))?);
        }
        match dockerfile
            .plan(request, &images)
            .map_err(|error| wrong(&error))?
        {
            Answer::Plan(planned) => return Ok(planned),
            Answer::NeedsMore(more) => wanted = more,
        }
    }
    Err(wrong(&"images ask for further images without end"))
}

/// The main context without what its `.dockerignore` leaves out.
async fn ignoring(
    place: &Place<'_>,
    source: &DockerfileSource,
    main: image_build::Context,
) -> Result<image_build::Context, Failed> {
    let [beside, root] = Ignore::candidates(&source.file);
    let own = match source.inline {
        Some(_) => None,
        None if beside.starts_with('/') => place.text(&beside).await?,
        None => text_of(place, &main, &beside).await?,
    };
    let (name, text) = match own {
        Some(text) => (beside, text),
        None => match text_of(place, &main, &root).await? {
            Some(text) => (root, text),
            None => return Ok(main),
        },
    };
    let ignore = Ignore::parse(&name, &text).map_err(|error| wrong(&error))?;
    if ignore.is_empty() {
        return Ok(main);
    }
    let hides = move |path: &Path, folder| ignore.hides(&path.to_string_lossy(), folder);
    Ok(main.ignoring(Arc::new(hides)))
}

/// A pull's or push's lines as notes of a build's vertex.
pub(crate) struct Noting(pub(crate) Arc<dyn BuildProgress>, pub(crate) u32);

impl Progress for Noting {
    fn layer(&self, id: &str, state: LayerProgress) {
        if state.phase == boatyard_image::Phase::Done {
            self.message(&format!("layer {id}: {} bytes", state.bytes_total));
        }
    }
    fn message(&self, text: &str) {
        self.0.event(Event::Note {
            vertex: self.1,
            text: text.to_owned(),
        });
    }
}

/// Several builds one after another, their work numbered on.
pub(crate) struct Numbered {
    progress: Arc<dyn BuildProgress>,
    last: Arc<AtomicU32>,
}

impl Numbered {
    pub(crate) fn new(progress: Arc<dyn BuildProgress>) -> Self {
        Self {
            progress,
            last: Arc::default(),
        }
    }

    /// For the next build, when the one before is over.
    pub(crate) fn next(&self) -> Arc<dyn BuildProgress> {
        Arc::new(Shifted {
            progress: Arc::clone(&self.progress),
            by: self.last.load(Ordering::Relaxed),
            last: Arc::clone(&self.last),
        })
    }
}

struct Shifted {
    progress: Arc<dyn BuildProgress>,
    by: u32,
    last: Arc<AtomicU32>,
}

impl BuildProgress for Shifted {
    fn event(&self, mut event: Event) {
        let (Event::Began { vertex, .. }
        | Event::Output { vertex, .. }
        | Event::Note { vertex, .. }
        | Event::Ended { vertex, .. }) = &mut event;
        if *vertex > 0 {
            *vertex += self.by;
            self.last.fetch_max(*vertex, Ordering::Relaxed);
        }
        self.progress.event(event);
    }
}

/// Events on their way to a caller. Dropped, it lets go whoever waits.
#[derive(Default)]
pub(crate) struct Events(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    room: Condvar,
    ready: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<BuildEvent>,
    closed: bool,
}

impl Events {
    pub(crate) fn sender(&self) -> Arc<dyn BuildProgress> {
        Arc::new(Sender(Arc::clone(&self.0)))
    }

    pub(crate) fn left(&self) -> Option<BuildEvent> {
        let event = self.0.state().events.pop_front();
        self.0.room.notify_all();
        event
    }

    pub(crate) async fn next(&self) -> BuildEvent {
        loop {
            let ready = self.0.ready.notified();
            if let Some(event) = self.left() {
                return event;
            }
            ready.await;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.room.notify_all();
    }
}

impl Queue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: BuildEvent, waits: bool) {
        let mut state = self.state();
        while waits && state.events.len() >= BACKLOG && !state.closed {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closed {
            state.events.push_back(event);
            self.ready.notify_one();
        }
    }
}

struct Sender(Arc<Queue>);

impl BuildProgress for Sender {
    fn event(&self, event: Event) {
        match event {
            Event::Began { vertex, name } => {
                self.0.push(BuildEvent::Began { vertex, name }, false);
            }
            Event::Note { vertex, text } => {
                let text = format!("{text}\n");
                // Pulls say little; a caller that reads none of it has no use for more.
                if self.0.state().events.len() < 4 * BACKLOG {
                    self.0.push(BuildEvent::Output { vertex, text }, false);
                }
            }
            Event::Output { vertex, bytes } => {
                for piece in bytes.chunks(PIECE) {
                    let text = String::from_utf8_lossy(piece).into_owned();
                    self.0.push(BuildEvent::Output { vertex, text }, true);
                }
            }
            Event::Ended {
                vertex,
                outcome,
                took,
            } => {
                let event = BuildEvent::Ended {
                    vertex,
                    outcome: word(outcome).to_owned(),
                    millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                };
                self.0.push(event, false);
            }
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Cached => "cached",
        Outcome::Failed => "failed",
    }
}

/// Everything a build says, in a file, up to a bound.
struct Log(Mutex<(File, u64)>);

impl BuildProgress for Log {
    fn event(&self, event: Event) {
        let text = match event {
            Event::Began { vertex, name } => format!("#{vertex} {name}\n").into_bytes(),
            Event::Note { vertex, text } => format!("#{vertex} {text}\n").into_bytes(),
            Event::Output { bytes, .. } => bytes,
            Event::Ended {
                vertex,
                outcome,
                took,
            } => format!("#{vertex} {} {:.1}s\n", word(outcome), took.as_secs_f64()).into_bytes(),
        };
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.1 < LOG_LIMIT {
            // A full disk loses the log, not the build.
            let _ = log.0.write_all(&text);
            log.1 += text.len() as u64;
        }
    }
}

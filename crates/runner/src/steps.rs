//! How each action is done. Makes no choice: what to do was decided by `plan`.
//!
//! Every function here may be killed or dropped at any point and done again: what it makes is
//! either complete under its final name or removed at the next attempt.

use crate::configuration;
use crate::failure::Failed;
use crate::ids::{self, Ids, Question};
use crate::images::Making;
use crate::layout::private_directory;
use crate::passwd;
use crate::record::{HookRun, ImageRecord, Record, Resolved, address, id_base};
use crate::services::Project;
use crate::source::{self, Files};
use crate::volumes::Filling;
use crate::worker::{Worker, want};
use crate::{agent, container, disk, hooks, session};
use boatyard_api::Environment;
use boatyard_devcontainer::{Gpu, ImageMetadata, LocalContext};
use boatyard_plan::classes::{Allowed, Required, lacks};
use boatyard_plan::environment::{Action, Hook, Want};
use boatyard_sandbox::spec::{Init, Limits, Network, Root, Spec, Swap};
use std::path::Path;
use std::time::Duration;

/// How long processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Performs one action; on success, one sentence about it.
pub(crate) async fn apply(
    worker: &mut Worker,
    object: &Environment,
    action: &Action,
) -> Result<Option<String>, Failed> {
    if matches!(
        action,
        Action::Allocate | Action::FetchSource | Action::StartSandbox
    ) {
        crate::failure::require_room(worker.context.layout.root())?;
    }
    if matches!(
        action,
        Action::FetchSource
            | Action::Configure
            | Action::FetchImage
            | Action::Resolve
            | Action::StartSandbox
    ) {
        disk::ready(&worker.context, worker.disk()).await?;
    }
    match action {
        Action::Allocate => allocate(worker, object).await.map(|()| None),
        Action::FetchSource => {
            let slot = record(worker)?.slot;
            let message = source::fetch(&worker.context, &worker.uid, &object.spec, slot).await?;
            record(worker)?.source = true;
            Ok(Some(message))
        }
        Action::Configure => configure(worker, object).await.map(Some),
        Action::FetchImage => fetch_image(worker, object).await.map(Some),
        Action::Resolve => resolve(worker, object).map(Some),
        Action::StartSandbox => start(worker, object).await,
        Action::AwaitAgent => await_agent(worker).await.map(|()| None),
        Action::RaiseServices => crate::services::raise(worker, object).await.map(Some),
        Action::PrepareSession => session::prepare(worker, object).await.map(|()| None),
        Action::RunHook(hook) => run_hook(worker, object, *hook).await.map(Some),
        Action::StopSandbox => stop(worker).await.map(|()| None),
        Action::CleanSandbox => {
            crate::services::stop(worker, false).await?;
            // What lost its monitor still runs.
            if worker.init_pid.is_some() {
                stop(worker).await?;
            }
            let state = worker.context.layout.environment(&worker.uid).run();
            worker.context.remove(&worker.id, &state).await?;
            let _ = std::fs::remove_dir_all(&state);
            disk::release(&worker.context, worker.disk()).await?;
            Ok(None)
        }
        Action::Forget => {
            if let (Want::Running { restart }, Some(record)) = (want(object), &mut worker.record) {
                record.restarted_at = restart;
                record.failure = None;
                // What was read of the folder may be what has to change.
                (record.configured, record.image, record.resolved) = (None, None, None);
                record.compose = None;
                record.steps.clear();
            }
            Ok(None)
        }
        Action::Remove => remove(worker).await.map(|()| None),
        Action::Release | Action::WaitUntil(_) | Action::Idle => Ok(None),
    }
}

/// The record, which every action after Allocate has.
pub(crate) fn record(worker: &mut Worker) -> Result<&mut Record, Failed> {
    worker
        .record
        .as_mut()
        .ok_or_else(|| Failed::transient("Internal", "the environment has no record yet"))
}

async fn allocate(worker: &mut Worker, object: &Environment) -> Result<(), Failed> {
    let class = crate::classes::of_start(worker, object).await?;
    let (namespace, name) = (
        object.metadata.namespace.as_deref().unwrap_or_default(),
        object.metadata.name.as_deref().unwrap_or_default(),
    );
    let allocated = worker.context.slots.allocate(
        &worker.context.layout,
        &worker.uid,
        namespace,
        name,
        disk_of(&class.resources)?,
    );
    let mut record = allocated.map_err(|error| {
        Failed::disk(
            worker.context.layout.environment(&worker.uid).root(),
            &error,
        )
    })?;
    record.restarted_at.clone_from(&object.spec.restarted_at);
    worker.record = Some(record);
    Ok(())
}

async fn configure(worker: &mut Worker, object: &Environment) -> Result<String, Failed> {
    let files = Files::of(&worker.context, &worker.uid, &object.spec).await?;
    let read = configuration::read(&files, &object.spec, &local_context(object)).await?;
    let record = record(worker)?;
    record.compose = read.compose;
    record.configured = Some(read.configured);
    Ok(read.message)
}

fn local_context(object: &Environment) -> LocalContext {
    configuration::local(&object.spec, object.metadata.name.as_deref())
}

async fn fetch_image(worker: &mut Worker, object: &Environment) -> Result<String, Failed> {
    let configured = record(worker)?
        .configured
        .clone()
        .ok_or_else(|| Failed::transient("Internal", "no configuration"))?;
    let (document, local) = (configuration::document(&configured)?, local_context(object));
    let progress = crate::build::log(&worker.context, &worker.uid)?;
    let files = Files::of(&worker.context, &worker.uid, &object.spec).await?;
    let class = crate::classes::of_start(worker, object).await?;
    let egress = crate::egress::allowed(&object.spec, &class)?;
    let making = Making::new(&files, &local, egress, false, progress);
    let compose = record(worker)?.compose.clone();
    if let Some(main) = compose.as_ref().and_then(|plan| plan.main()) {
        crate::services::build_first(&making, main).await?;
    }
    let (image, verb) = making.opened(&configured, &document, &local).await?;
    let layers = image.layers.len();
    let message = format!("{verb}{} ({layers} layers)", image.reference);
    record(worker)?.image = Some(ImageRecord::of(configured.image, &image));
    let others = crate::services::fetch_images(worker, &making).await?;
    // Before what is held is let go: a collector reads the record then.
    worker.save(false);
    drop(making);
    match others {
        Some(others) => Ok(format!("{message}; {others}")),
        None => Ok(message),
    }
}

fn resolve(worker: &mut Worker, object: &Environment) -> Result<String, Failed> {
    let context = local_context(object);
    let upper = worker.context.layout.environment(&worker.uid).upper();
    let record = record(worker)?;
    let (Some(configured), Some(image)) = (&record.configured, &record.image) else {
        return Err(Failed::transient(
            "Internal",
            "configuration or image are not there yet",
        ));
    };
    let document = configuration::document(configured)?;
    let metadata = ImageMetadata {
        env: image.env.clone(),
        user: image.user.clone(),
        labels: image.labels.clone(),
    };
    let mut plan = document
        .run_plan(&context, &metadata)
        .map_err(|error| Failed::lasting("ConfigurationInvalid", error.to_string()))?;
    if let Some(compose) = &record.compose {
        compose.apply(&mut plan);
    }
    let mut container_env = parse_env(&image.env);
    container_env.extend(plan.container_env.clone());
    plan.bind_container_env(&container_env);
    let named = |user: &Option<String>| user.clone().filter(|user| !user.is_empty());
    let container = named(&plan.container_user)
        .or_else(|| named(&image.user))
        .unwrap_or_else(|| "root".into());
    let remote = named(&plan.remote_user).unwrap_or_else(|| container.clone());
    let other = record.ids.take_if(|ids| ids.image != image.digest);
    if let Some(other) = other
        && !ids::take_back(&upper, &other)
    {
        // Whoever changed them keeps the ids that go with them.
        let image = image.digest.clone();
        record.ids = Some(Ids { image, ..other });
    }
    let own = ids::has_own(&upper);
    let swap = record.ids.as_ref().map(|ids| ids.swap);
    let mut roots: Vec<&Path> = vec![&upper];
    roots.extend(image.layers.iter().map(std::path::PathBuf::as_path));
    let find = |name: &str, property: &str| {
        let mut user = passwd::find(&roots, name).ok_or_else(|| {
            Failed::lasting(
                "UnknownUser",
                format!(
                    "the image {} has no user {name}; name one of its users as {property}",
                    image.reference
                ),
            )
        })?;
        if let Some(swap) = swap.filter(|_| own) {
            user.uid = Swap::other(swap.uid, user.uid);
            user.gid = Swap::other(swap.gid, user.gid);
        }
        Ok::<_, Failed>(user)
    };
    let user = find(&remote, "remoteUser")?;
    let container = find(&container, "containerUser")?;
    if record.incarnation == 0 || record.ids.is_none() && !own {
        let folder = object.spec.source.folder.is_some();
        let developer = source::owner(&object.spec).ok();
        let developer = developer.filter(|_| folder && plan.update_remote_user_uid && !own);
        let swap = developer.and_then(|developer| {
            ids::decide(&Question {
                name: &user.name,
                image: (user.uid, user.gid),
                developer: (developer.uid, developer.gid),
                passwd: &ids::of_image(&image.layers, "etc/passwd"),
                group: &ids::of_image(&image.layers, "etc/group"),
            })
        });
        record.ids = swap.map(|swap| Ids {
            swap,
            image: image.digest.clone(),
            written: Vec::new(),
        });
    }
    let mut message = format!("user {}, folder {}", user.name, plan.workspace_folder);
    let warnings = document.warnings().iter().map(ToString::to_string);
    for note in warnings.chain(plan.notes.iter().cloned()) {
        message.push_str("; note: ");
        message.push_str(&note);
    }
    record.resolved = Some(Resolved {
        plan,
        remote_user: user.name,
        remote_uid: user.uid,
        remote_gid: user.gid,
        container_user: Some(container.name),
        container_ids: (container.uid, container.gid),
    });
    Ok(message)
}

pub(crate) fn parse_env(env: &[String]) -> std::collections::BTreeMap<String, String> {
    env.iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn start(worker: &mut Worker, object: &Environment) -> Result<Option<String>, Failed> {
    let class = crate::classes::of_start(worker, object).await?;
    let egress = crate::egress::allowed(&object.spec, &class)?;
    worker.services.set_egress(egress.clone());
    let limits = limits(&class.resources)?;
    let disk = disk_of(&class.resources)?;
    large_enough(worker, object, &limits, disk, class.has_gpu())?;
    let devices = worker.context.devices(class.devices.clone()).await?;
    let kept = disk_again(worker, &class.resources).await?;
    let paths = worker.context.layout.environment(&worker.uid);
    for directory in [
        paths.disk(),
        paths.upper(),
        paths.work(),
        paths.logs(),
        paths.run(),
        paths.nested("docker"),
        paths.nested("containers"),
    ] {
        private_directory(&directory).map_err(|error| Failed::disk(&directory, &error))?;
    }
    // The root of the root filesystem is what everybody inside sees as `/`.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(paths.upper(), open)
        .map_err(|error| Failed::disk(&paths.upper(), &error))?;
    let current = record(worker)?;
    current.incarnation += 1;
    current.class = Some(crate::resources::fields(&class));
    (current.session_of, current.started_at, current.hook_run) = (None, None, None);
    if let (Some(ids), Some(image)) = (&mut current.ids, &current.image) {
        ids::write(&paths.upper(), &image.layers, ids)?;
    }
    let record = current.clone();
    let (Some(image), Some(resolved)) = (&record.image, &record.resolved) else {
        return Err(Failed::transient("Internal", "there is no run plan yet"));
    };
    let swap = record.ids.as_ref().map(|ids| ids.swap).unwrap_or_default();
    let mut env = parse_env(&image.env);
    env.extend(devices.env);
    env.extend(resolved.plan.container_env.clone());
    env.entry("PATH".into())
        .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let project = record.compose.as_ref().map(|plan| Project {
        plan,
        record: &record,
        paths: &paths,
    });
    let mut network = Network::Routed {
        address: address(record.slot),
    };
    let mut company = None;
    let mut contents = Vec::new();
    let mut ulimits = vec![&resolved.plan.ulimits];
    if let Some(project) = &project {
        let (of, with) = project.network(&worker.id, &project.plan.service)?;
        (network, company) = (of, Some(Box::new(with)));
        if let Some(service) = project.plan.main() {
            contents = project.contents(service)?;
            ulimits.push(&service.ulimits);
        }
    }
    let mut spec = Spec {
        id: worker.id.clone(),
        id_base: id_base(record.slot),
        state: paths.run(),
        hostname: resolved
            .plan
            .hostname
            .clone()
            .unwrap_or_else(|| record.name.clone()),
        root: Root::Overlay {
            layers: image.layers.clone(),
            upper: paths.upper(),
            work: paths.work(),
        },
        mounts: crate::mounts::plan(
            &worker.context.layout,
            &paths,
            (&record.namespace, record.disk),
            &object.spec,
            resolved,
        )?,
        network,
        limits,
        init: Init {
            executable: worker.context.agent.clone(),
            argv: container::agent(resolved, swap, ulimits.iter().copied()),
            env: env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            listener: true,
        },
        nofile: None,
        rlimits: ulimits.into_iter().flat_map(container::limits).collect(),
        devices: devices.devices,
        company,
        swap,
        egress: egress.map(Box::new),
    };
    let filling = Filling::of(&spec.mounts, &resolved.plan.mounts, &image.layers);
    spec.mounts.extend(contents);
    spec.mounts.extend(devices.mounts);
    worker.save(false);
    worker.context.blocking(move || filling.fill()).await?;
    crate::services::stop(worker, false).await?;
    worker.context.remove(&worker.id, &spec.state).await?;
    let running = worker.context.start(spec).await?;
    worker.init_pid = Some(crate::context::pid(running.init_pid));
    worker.egress.started();
    Ok(kept)
}

/// Bytes that the class lets an environment write.
fn disk_of(resources: &boatyard_api::class::Resources) -> Result<Option<u64>, Failed> {
    let disk = resources.disk.as_ref().map(boatyard_api::quantity::bytes);
    disk.transpose().map_err(|error| bad_class(&error))
}

/// Makes the disk what the class says now; answers why it is not that.
async fn disk_again(
    worker: &mut Worker,
    class: &boatyard_api::class::Resources,
) -> Result<Option<String>, Failed> {
    let wanted = disk_of(class)?;
    let record = record(worker)?;
    let sized = boatyard_plan::disk::sized(record.disk, wanted);
    if record.disk != sized.bytes {
        record.disk = sized.bytes;
        worker.save(true);
        // It is made larger while nobody uses it, and mounted again.
        disk::release(&worker.context, worker.disk()).await?;
        disk::ready(&worker.context, worker.disk()).await?;
    }
    if let Some(disk) = worker.disk() {
        worker.context.blocking(move || disk.let_go()).await;
    }
    Ok(sized.kept)
}

/// Whether the class gives what the configuration asks of its host.
fn large_enough(
    worker: &mut Worker,
    object: &Environment,
    limits: &Limits,
    disk: Option<u64>,
    gpu: bool,
) -> Result<(), Failed> {
    let resolved = record(worker)?.resolved.as_ref();
    let wanted = resolved.map(|resolved| &resolved.plan.host_requirements);
    let required = Required {
        cpus: wanted.and_then(|wanted| wanted.cpus),
        memory: wanted.and_then(|wanted| wanted.memory),
        storage: wanted.and_then(|wanted| wanted.storage),
        gpu: wanted.is_some_and(|wanted| wanted.gpu == Gpu::Required),
    };
    let allowed = Allowed {
        cpu_millis: limits.cpu_millis,
        memory: limits.memory_bytes,
        disk,
        gpu,
    };
    let Some(lacking) = lacks(&required, &allowed) else {
        return Ok(());
    };
    let class = object.spec.class_name.as_deref();
    let class = class.unwrap_or(boatyard_api::words::DEFAULT_CLASS);
    Err(Failed::lasting(
        "HostRequirementsNotMet",
        format!(
            "the class {class} is too small: hostRequirements asks for {lacking}; make the environment with another class (boatyard up --class)"
        ),
    ))
}

/// Limits as a class says them.
pub(crate) fn limits(resources: &boatyard_api::class::Resources) -> Result<Limits, Failed> {
    let cpu = resources
        .cpu
        .as_ref()
        .map(boatyard_api::quantity::cpu_millis)
        .transpose()
        .map_err(|error| bad_class(&error))?;
    let memory = resources
        .memory
        .as_ref()
        .map(boatyard_api::quantity::bytes)
        .transpose()
        .map_err(|error| bad_class(&error))?;
    Ok(Limits {
        cpu_millis: cpu,
        memory_bytes: memory,
        pids: resources.pids.map(u64::from),
    })
}

fn bad_class(error: &dyn std::fmt::Display) -> Failed {
    Failed::lasting(
        "ClassInvalid",
        format!("the environment's class has an unreadable quantity: {error}"),
    )
}

async fn await_agent(worker: &mut Worker) -> Result<(), Failed> {
    let socket = worker
        .context
        .layout
        .environment(&worker.uid)
        .agent_socket();
    agent::ping(&socket)
        .await
        .map_err(|error| Failed::transient("AgentSilent", crate::failure::chain(&error)))?;
    worker.agent_answered();
    let now = worker.context.now();
    record(worker)?.started_at.get_or_insert(now);
    if let Some(disk) = worker.disk() {
        worker.context.blocking(move || disk.keep()).await;
    }
    Ok(())
}

async fn run_hook(worker: &mut Worker, object: &Environment, hook: Hook) -> Result<String, Failed> {
    let socket = worker
        .context
        .layout
        .environment(&worker.uid)
        .agent_socket();
    let mut env = session::variables(worker);
    let mut output = crate::lifecycle::Output::default();
    let (mut dotfiles, mut masked) = (None, Vec::new());
    if let Some(active) = &worker.active {
        let request = active.request();
        let added = request.remote_env.iter().chain(&request.secrets);
        env.extend(added.map(|(name, value)| (name.clone(), Some(value.clone()))));
        masked = request.secrets.keys().cloned().collect();
        output = active.output();
        dotfiles.clone_from(&request.dotfiles);
    }
    let record = record(worker)?;
    let Some(resolved) = record.resolved.clone() else {
        return Err(Failed::transient("Internal", "there is no run plan yet"));
    };
    // A command that a killed runner began is found again, any other is a new run.
    let begun = record.hook_run.take();
    let run = begun.filter(|begun| begun.hook == hook.name());
    let run = run.map_or(record.hook_runs + 1, |begun| begun.run);
    record.hook_runs = record.hook_runs.max(run);
    record.hook_run = Some(HookRun {
        hook: hook.name().to_owned(),
        run,
    });
    worker.save(false);
    let hooks = hooks::Runner {
        socket: &socket,
        plan: &resolved.plan,
        user: &resolved.remote_user,
        env: &env,
        masked,
        run,
        output,
    };
    let ended = match hook {
        Hook::Dotfiles => {
            let dotfiles = dotfiles.or_else(|| dotfiles_of(object));
            hooks.dotfiles(&dotfiles.unwrap_or_default()).await
        }
        hook => hooks.run(hook).await,
    };
    let record = self::record(worker)?;
    record.hook_run = None;
    let incarnation = record.incarnation;
    if hook == Hook::Dotfiles {
        record.dotfiles_tried = Some(incarnation);
        if let Err(failed) = ended {
            return Ok(failed.message);
        }
    }
    let message = ended?;
    record.hooks.insert(hook.name().to_owned(), incarnation);
    Ok(message)
}

/// The dotfiles that the object itself names.
fn dotfiles_of(object: &Environment) -> Option<boatyard_link::lifecycle::Dotfiles> {
    let wanted = object.spec.devcontainer.as_ref()?.dotfiles.clone()?;
    Some(boatyard_link::lifecycle::Dotfiles {
        repository: wanted.repository,
        install_command: wanted.install_command,
        target_path: wanted.target_path,
    })
}

async fn stop(worker: &mut Worker) -> Result<(), Failed> {
    crate::services::stop(worker, true).await?;
    let paths = worker.context.layout.environment(&worker.uid);
    if let Err(error) = agent::shutdown(&paths.agent_socket(), GRACE).await {
        tracing::info!(environment = %worker.uid, %error, "the agent did not end its processes; killing them");
    }
    let (sandboxes, id, state) = (
        worker.context.sandboxes.clone(),
        worker.id.clone(),
        paths.run(),
    );
    worker
        .context
        .blocking(move || sandboxes.kill(&id, &state))
        .await
        .map_err(|error| Failed::internal(&error))?;
    if let Some(record) = &mut worker.record {
        record.failure = None;
        record.steps.clear();
        (record.session_of, record.started_at) = (None, None);
    }
    Ok(())
}

/// Moves the environment to the trash in one step, then empties it; the slot is freed last.
async fn remove(worker: &mut Worker) -> Result<(), Failed> {
    crate::services::stop(worker, false).await?;
    source::end_clone(&worker.context, &worker.uid).await?;
    let paths = worker.context.layout.environment(&worker.uid);
    worker.context.remove(&worker.id, &paths.run()).await?;
    let disk = worker.disk();
    disk::release(&worker.context, disk.clone()).await?;
    let trash = worker.context.layout.trash().join(worker.uid.as_str());
    std::fs::rename(paths.root(), &trash).map_err(|error| Failed::disk(&trash, &error))?;
    let slot = worker.record.take().map(|record| record.slot);
    let emptied = trash.clone();
    worker
        .context
        .blocking(move || std::fs::remove_dir_all(&emptied))
        .await
        .map_err(|error| Failed::disk(&trash, &error))?;
    if let Some(slot) = slot {
        if let Some(disk) = disk {
            let trash = worker.context.layout.trash();
            worker.context.blocking(move || disk.forget(&trash)).await;
        }
        worker.context.slots.free(slot);
    }
    Ok(())
}

//! `up`: from a configuration to an environment whose lifecycle commands have run.
//!
//! One that is there is used as it is; its lifecycle commands go on where they were. What is made
//! and does not come up is deleted again.

use super::args::Up;
use super::configuration::{self, Located};
use super::environment::{self, Engine, Identity, id};
use super::log::Log;
use super::result::{self, Problem};
use super::{build, commands, exec, features, lock, read};
use crate::args::Global;
use crate::failure::Failure;
use boatyard_api::Environment;
use boatyard_api::environment::{
    Additional, Devcontainer, DevcontainerDefaults, EnvironmentSpec, FolderSource, Lifecycle,
    Source, UpdateRemoteUserUid, UserEnvProbe,
};
use boatyard_devcontainer::devcontainer_id;
use boatyard_link::lifecycle::Request;
use boatyard_link::verbs::Prepare;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// Runs the verb.
pub(crate) async fn run(global: &Global, up: &Up) -> Result<ExitCode, Failure> {
    let log = Log::begin(&up.logging);
    let outcome = brought_up(global, up, &log).await;
    result::print(&log, outcome)
}

async fn brought_up(global: &Global, up: &Up, log: &Log) -> Result<Map<String, Value>, Problem> {
    let secrets = commands::secrets(up.secrets_file.as_deref())?;
    let named = !up.chosen.id_label.is_empty() || up.chosen.override_config.is_some();
    let folder = configuration::folder(&up.chosen, named)?;
    let located = configuration::locate(&up.chosen, folder)?;
    for warning in located.document.warnings() {
        log.warn(&warning.to_string());
    }
    let identity = Identity::of(&up.chosen.id_label, Some(&located));
    let engine = Engine::reach(global).await?;
    let mut existing = engine.find(&identity).await?;
    // Gone only when what takes its place is built.
    let replaced = existing.take_if(|_| up.remove_existing_container);
    if existing.is_none() && up.expect_existing_container {
        return Err(Problem::told("The expected container does not exist."));
    }
    if existing.is_none() {
        let additional = up.additional_features.as_deref();
        lock::settle(&located, additional, &up.lock).await?;
    }
    initialize(&located)?;
    // Its files may be what initializeCommand wrote.
    let project = crate::compose::project(&located.document, &located.context)?;
    let object = match existing {
        Some(object) => engine.started(&object).await?,
        None => {
            let spec = spec(up, &located, &identity)?;
            let additional = up.additional_features.as_deref();
            if project.is_some()
                || build::base(&located)?.1.is_some()
                || !features::request(&located, additional)?.features.is_empty()
            {
                let (cache_from, cache_to) =
                    crate::build::registry_caches(&up.cache_from, up.cache_to.as_deref())?;
                let wanted = Prepare {
                    spec: spec.clone(),
                    opened_only: false,
                    no_cache: up.build_no_cache,
                    cache_from,
                    cache_to,
                };
                let described = "An error occurred setting up the container.";
                let prepared = crate::up::prepare(global, wanted).await;
                prepared.map_err(|failure| Problem::from(failure).described(described))?;
            }
            if let Some(replaced) = replaced {
                engine.delete(&replaced).await?;
            }
            let mut annotations =
                BTreeMap::from([exec::annotation(&located, &up.default_user_env_probe)]);
            let named = project.as_ref().map(|project| project.plan.project.clone());
            annotations.extend(named.map(|name| (environment::PROJECT.to_owned(), name)));
            create(&engine, spec, &identity, annotations, log).await?
        }
    };
    if !up.skip_post_create {
        let request = Request {
            prebuild: up.prebuild,
            skip_non_blocking: up.skip_non_blocking_commands,
            skip_post_attach: up.skip_post_attach,
            secrets,
            remote_env: configuration::pairs(&up.remote_env),
            dotfiles: commands::dotfiles(&up.dotfiles),
            ..Request::default()
        };
        commands::run(&engine, log, &object, &request).await?;
    }
    let status = object.status.clone().unwrap_or_default();
    let mut answer = Map::new();
    answer.insert("containerId".into(), id(&object).into());
    let made_as = object.annotations().get(environment::PROJECT).cloned();
    if let Some(name) = made_as.or(project.map(|project| project.plan.project)) {
        answer.insert("composeProjectName".into(), name.into());
    }
    answer.insert("remoteUser".into(), status.remote_user.into());
    answer.insert(
        "remoteWorkspaceFolder".into(),
        status.workspace_folder.into(),
    );
    answer.insert("ociAuthDiagnostics".into(), read::diagnostics());
    if up.include_configuration || up.include_merged_configuration {
        let reading = read::reading(&located)?;
        if up.include_configuration {
            answer.insert("configuration".into(), read::shown(&located, &reading));
        }
        if up.include_merged_configuration {
            let merged = read::merged(
                global,
                &located,
                &reading,
                up.additional_features.as_deref(),
            )
            .await?;
            answer.insert("mergedConfiguration".into(), merged);
        }
    }
    Ok(answer)
}

/// Runs `initializeCommand` here, as the caller.
fn initialize(located: &Located) -> Result<(), Problem> {
    let folder = located.folder.clone().unwrap_or_else(|| ".".into());
    let context = &located.context;
    let root = context.repository_root.clone();
    let ran = crate::up::initialize(&folder, root, &located.document, &context.local_env);
    let described = "initializeCommand from devcontainer.json failed.";
    ran.map_err(|failure| Problem::from(failure).described(described))
}

/// Makes an environment and waits until it can be used; what cannot be used is deleted again, its
/// output shown.
pub(crate) async fn create(
    engine: &Engine,
    spec: EnvironmentSpec,
    identity: &Identity,
    annotations: BTreeMap<String, String>,
    log: &Log,
) -> Result<Environment, Problem> {
    let wanted = crate::up::default_name(&spec.source);
    let hash = devcontainer_id(&identity.labels);
    let mut made = None;
    for number in 1..100 {
        let name = if number == 1 {
            wanted.clone()
        } else {
            format!("{wanted}-{number}")
        };
        let mut object = Environment::new(&name, spec.clone());
        let labels = object.metadata.labels.get_or_insert_default();
        labels.insert(environment::ID.to_owned(), hash.clone());
        object.metadata.annotations = Some(annotations.clone());
        match engine.api.create(&PostParams::default(), &object).await {
            Ok(object) => {
                made = Some(object);
                break;
            }
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(Failure::from(error).into()),
        }
    }
    let Some(made) = made else {
        let message = format!("the name {wanted} and ninety-nine more are taken");
        return Err(Problem::told(&message));
    };
    match engine.started(&made).await {
        Ok(object) => Ok(object),
        Err(failure) => {
            engine.show_logs(&made, log).await;
            engine.delete(&made).await?;
            let described = "An error occurred setting up the container.";
            Err(Problem::from(failure).described(described))
        }
    }
}

/// What is asked for.
fn spec(up: &Up, located: &Located, identity: &Identity) -> Result<EnvironmentSpec, Problem> {
    let mut spec = plain_spec(located, up.additional_features.as_deref(), identity)?;
    let devcontainer = spec.devcontainer.get_or_insert_default();
    if up.chosen.override_config.is_some() {
        devcontainer.content = Some(located.text.clone());
    }
    if !up.mount.is_empty() {
        let additional = devcontainer.additional.get_or_insert_default();
        additional.mounts = up.mount.iter().map(|mount| plain_mount(mount)).collect();
    }
    devcontainer.defaults = Some(DevcontainerDefaults {
        user_env_probe: Some(match up.default_user_env_probe.as_str() {
            "none" => UserEnvProbe::None,
            "loginShell" => UserEnvProbe::LoginShell,
            "interactiveShell" => UserEnvProbe::InteractiveShell,
            _ => UserEnvProbe::LoginInteractiveShell,
        }),
        update_remote_user_uid: Some(match up.update_remote_user_uid_default.as_str() {
            "never" => UpdateRemoteUserUid::Never,
            "off" => UpdateRemoteUserUid::Off,
            _ => UpdateRemoteUserUid::On,
        }),
    });
    Ok(spec)
}

/// An environment of a configuration whose lifecycle commands somebody runs.
pub(crate) fn plain_spec(
    located: &Located,
    additional_features: Option<&str>,
    identity: &Identity,
) -> Result<EnvironmentSpec, Problem> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let root = located.context.repository_root.as_deref();
    let folder = located.folder.as_deref().map(|folder| {
        let below = root.and_then(|root| folder.strip_prefix(root).ok());
        let below = below.map(text).filter(|below| !below.is_empty());
        FolderSource {
            path: match (&below, root) {
                (Some(_), Some(root)) => root.to_owned(),
                _ => text(folder),
            },
            subfolder: below,
        }
    });
    let path = match &located.folder {
        Some(folder) => located.file.strip_prefix(folder).unwrap_or(&located.file),
        None => &located.file,
    };
    let features = match additional_features {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Problem::told(&format!(
                "--additional-features is no JSON object of Features: {error}"
            ))
        })?,
        None => Default::default(),
    };
    let additional = Additional {
        features,
        ..Additional::default()
    };
    let mut local_env = located.context.local_env.clone();
    if let Some(project) = crate::compose::project(&located.document, &located.context)? {
        local_env.extend(project.variables);
    }
    let devcontainer = Devcontainer {
        path: Some(text(path)),
        content: path.is_absolute().then(|| located.text.clone()),
        id_labels: identity.labels.clone(),
        additional: (additional != Additional::default()).then_some(additional),
        lifecycle: Lifecycle::OnRequest,
        local_env,
        ..Devcontainer::default()
    };
    Ok(EnvironmentSpec {
        source: Source { folder, git: None },
        devcontainer: Some(devcontainer),
        ..EnvironmentSpec::default()
    })
}

/// A mount without `external`, which says of a volume who makes it.
fn plain_mount(mount: &str) -> String {
    let fields = mount
        .split(',')
        .filter(|field| !field.starts_with("external="));
    fields.collect::<Vec<_>>().join(",")
}

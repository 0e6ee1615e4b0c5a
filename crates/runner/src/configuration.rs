//! The configuration of an environment: which devcontainer.json, with what substituted, and the
//! image or project it names.
//!
//! Reads through [`Files`] and writes nothing. What the text means is `boatyard-devcontainer`'s.

use crate::failure::Failed;
use crate::record::Configured;
use crate::source::Files;
use boatyard_api::environment::{self as api, EnvironmentSpec};
use boatyard_devcontainer::compose::ComposePlan;
use boatyard_devcontainer::{Document, LocalContext, UidUpdate, UserEnvProbe};

/// Image used when there is no devcontainer.json and none is asked for.
pub const DEFAULT_IMAGE: &str = "debian:bookworm";

/// What substitution may know of the caller's side; an environment without a source goes by its
/// name.
pub(crate) fn local(spec: &EnvironmentSpec, name: Option<&str>) -> LocalContext {
    let devcontainer = spec.devcontainer.clone().unwrap_or_default();
    let folder = match (&spec.source.folder, &spec.source.git) {
        (Some(folder), _) => folder.opened(),
        (None, Some(git)) => format!("/{}", repository_name(&git.url)),
        (None, None) => format!("/{}", name.unwrap_or("workspace")),
    };
    let mut context = LocalContext::new(&folder);
    if let Some(root) = spec.source.folder.as_ref() {
        context.repository_root = root.subfolder.as_ref().map(|_| root.path.clone());
    }
    context.local_env = devcontainer.local_env;
    context.image_override = devcontainer.image;
    context.id_labels = (!devcontainer.id_labels.is_empty()).then_some(devcontainer.id_labels);
    let additional = devcontainer.additional.unwrap_or_default();
    context.additional_mounts = additional.mounts;
    context.additional_remote_env = additional.remote_env;
    context.additional_features = additional.features;
    let defaults = devcontainer.defaults.unwrap_or_default();
    context.default_user_env_probe = defaults.user_env_probe.map(|probe| match probe {
        api::UserEnvProbe::None => UserEnvProbe::None,
        api::UserEnvProbe::LoginShell => UserEnvProbe::LoginShell,
        api::UserEnvProbe::LoginInteractiveShell => UserEnvProbe::LoginInteractiveShell,
        api::UserEnvProbe::InteractiveShell => UserEnvProbe::InteractiveShell,
    });
    context.update_remote_user_uid = match defaults.update_remote_user_uid {
        Some(api::UpdateRemoteUserUid::Never) => UidUpdate::Never,
        Some(api::UpdateRemoteUserUid::Off) => UidUpdate::Off,
        Some(api::UpdateRemoteUserUid::On) | None => UidUpdate::On,
    };
    context
}

/// `https://host/owner/name.git` → `name`.
fn repository_name(url: &str) -> &str {
    let last = url
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .unwrap_or("repository");
    let name = last.strip_suffix(".git").unwrap_or(last);
    if name.is_empty() { "repository" } else { name }
}

/// What was read, parsed.
pub(crate) fn document(configured: &Configured) -> Result<Document, Failed> {
    match (&configured.path, &configured.text) {
        (Some(path), Some(text)) => Document::parse(path, text)
            .map_err(|error| Failed::lasting("ConfigurationInvalid", error.to_string())),
        _ => Ok(Document::default_configuration(DEFAULT_IMAGE)),
    }
}

/// What was found.
pub(crate) struct Read {
    pub(crate) configured: Configured,
    /// The project it names.
    pub(crate) compose: Option<ComposePlan>,
    /// One sentence about it.
    pub(crate) message: String,
}

/// Finds and reads the configuration among the files of a source that is in place.
pub(crate) async fn read(
    files: &Files,
    spec: &EnvironmentSpec,
    local: &LocalContext,
) -> Result<Read, Failed> {
    let wanted = spec
        .devcontainer
        .as_ref()
        .and_then(|devcontainer| devcontainer.path.as_deref());
    let mut candidates = files.candidates().await?;
    if let Some(wanted) = wanted
        && !candidates.iter().any(|candidate| candidate == wanted)
        && files.read(wanted).await?.is_some()
    {
        candidates.push(wanted.to_owned());
    }
    let content = spec
        .devcontainer
        .as_ref()
        .and_then(|devcontainer| devcontainer.content.clone());
    let found = match (&content, wanted) {
        // The text is given: a path only says where it would stand.
        (Some(_), Some(wanted)) => Ok(Some(wanted.to_owned())),
        _ => boatyard_devcontainer::discover(&candidates, wanted),
    };
    let mut path =
        found.map_err(|error| Failed::lasting("ConfigurationNotFound", error.to_string()))?;
    let text = match (&path, content) {
        (_, Some(content)) => {
            path.get_or_insert_with(|| boatyard_devcontainer::FIXED_CANDIDATES[0].to_owned());
            Some(content)
        }
        (Some(path), None) => files.read(path).await?,
        (None, None) => None,
    };
    let mut configured = Configured {
        path,
        text,
        image: String::new(),
        dockerfile: None,
    };
    let document = document(&configured)?;
    let invalid = |error: boatyard_devcontainer::Error| {
        Failed::lasting("ConfigurationInvalid", error.to_string())
    };
    let compose = crate::services::plan(files, &document, local).await?;
    let main = compose.as_ref().and_then(|plan| plan.main());
    (configured.image, configured.dockerfile) = match main {
        Some(service) => crate::services::origin(service)?,
        None => match document.dockerfile(local).map_err(invalid)? {
            Some(dockerfile) => (dockerfile.name(), Some(dockerfile)),
            None => (document.image(local).map_err(invalid)?, None),
        },
    };
    let message = match (&compose, &configured.path) {
        (Some(plan), Some(path)) => format!(
            "{path}: service {} of {} in project {}, image {}",
            plan.service,
            plan.services.len(),
            plan.project,
            configured.image
        ),
        (None, Some(path)) => match &configured.dockerfile {
            Some(dockerfile) => format!("{path}: Dockerfile {}", dockerfile.file),
            None => format!("{path}: image {}", configured.image),
        },
        (_, None) => format!("no devcontainer.json; default image {}", configured.image),
    };
    Ok(Read {
        configured,
        compose,
        message,
    })
}

#[cfg(test)]
mod tests {
    //! Names derived from URLs.
    use super::*;

    #[test]
    fn repositories_are_named_by_their_last_component() {
        for (url, name) in [
            ("https://example.org/a/tool.git", "tool"),
            ("git@example.org:a/tool", "tool"),
            ("file:///srv/git/tool.git/", "tool"),
            ("https://example.org/", "example.org"),
        ] {
            assert_eq!(repository_name(url), name, "{url}");
        }
    }
}

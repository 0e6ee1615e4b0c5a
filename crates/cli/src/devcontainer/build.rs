//! `build`: a configuration's image, with its Features and everything it says in its label, so
//! that using the image needs no repetition.
//!
//! The runner makes the image as for an environment of the configuration, and none is made of it.
//! The label is a last step on top.

use super::args::Build;
use super::configuration::{self, Located};
use super::environment::Identity;
use super::log::Log;
use super::result::{self, Problem};
use super::{lock, read, up};
use crate::args::Global;
use crate::build::output;
use crate::failure::Failure;
use crate::images::{Transfer, ask};
use crate::up::prepare;
use boatyard_devcontainer::DockerfileSource;
use boatyard_devcontainer::features::metadata_label;
use boatyard_link::verbs::{self, Prepare, Reply, Request};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Label of an image that its users read.
const METADATA: &str = "devcontainer.metadata";

const NOT_ALLOWED: &str = "you may not use this runner's images; ask an administrator";

/// Runs the verb.
pub(crate) async fn run(global: &Global, asked: &Build) -> Result<ExitCode, Failure> {
    let log = Log::begin(&asked.logging);
    let outcome = built(global, asked).await;
    let described =
        |problem: Problem| problem.described("An error occurred building the container.");
    result::print(&log, outcome.map_err(described))
}

async fn built(global: &Global, asked: &Build) -> Result<Map<String, serde_json::Value>, Problem> {
    output::platform(asked.platform.as_deref())?;
    let output = asked.output.as_deref().map(output::output).transpose()?;
    let folder = configuration::absolute(asked.workspace_folder.as_deref().unwrap_or("."))?;
    let located = configuration::of_folder_by(folder, asked.config.as_deref())?;
    let additional = asked.additional_features.as_deref();
    lock::settle(&located, additional, &asked.lock).await?;
    let (base, _) = base(&located)?;
    if base.is_none() {
        let told = "No image information specified in devcontainer.json.";
        return Err(Problem::told(told));
    }
    let spec = up::plain_spec(&located, additional, &Identity::of(&[], Some(&located)))?;
    let (cache_from, cache_to) =
        crate::build::registry_caches(&asked.cache_from, asked.cache_to.as_deref())?;
    let wanted = Prepare {
        spec,
        opened_only: true,
        no_cache: asked.no_cache,
        cache_from,
        cache_to,
    };
    let made = prepare(global, wanted).await?;
    let base = made.ok_or_else(|| Problem::told(NOT_ALLOWED))?;
    let names = match asked.image_name.as_slice() {
        [] => vec![default_name(&located)],
        names => names.to_vec(),
    };
    labelled(global, asked, &located, &base, &names).await?;
    if let (Some(output), Some(name)) = (output.flatten(), names.first()) {
        output.write(global, name).await?;
    }
    Ok(Map::from_iter([("imageName".to_owned(), json!(names))]))
}

/// The image a configuration starts from, by name, and what it is built from when it is: what a
/// Dockerfile makes, the image of the service, or an image that is named.
pub(crate) fn base(
    located: &Located,
) -> Result<(Option<String>, Option<DockerfileSource>), Failure> {
    let failure = |error: boatyard_devcontainer::Error| Failure::new(error.to_string());
    if let Some(project) = crate::compose::project(&located.document, &located.context)? {
        let Some(service) = project.plan.main() else {
            return Ok((None, None));
        };
        let (image, source) = service.image().map_err(Failure::new)?;
        return Ok((Some(image), source));
    }
    let source = located.document.dockerfile(&located.context);
    if let Some(source) = source.map_err(failure)? {
        return Ok((Some(source.name()), Some(source)));
    }
    let image = read::reading(located)?.configuration["image"]
        .as_str()
        .map(str::to_owned);
    Ok((image, None))
}

/// Builds a Dockerfile of a configuration, shown as every build.
pub(crate) async fn dockerfile(global: &Global, source: DockerfileSource) -> Result<(), Failure> {
    let request = verbs::Build {
        names: vec![source.name()],
        file: source.file,
        context: source.context,
        target: source.target,
        args: source.args,
        ..verbs::Build::default()
    };
    let request = Request::Build(Box::new(request));
    crate::build::build(global, &request).await.map(drop)
}

/// Adds the labels, and gives the image its names.
async fn labelled(
    global: &Global,
    asked: &Build,
    located: &Located,
    base: &str,
    names: &[String],
) -> Result<(), Problem> {
    let inspect = Request::ImageInspect {
        reference: base.to_owned(),
    };
    let known = match ask(global, &inspect, Transfer::None).await? {
        Some(Reply::ImageConfig { labels, .. }) => labels.get(METADATA).cloned(),
        _ => None,
    };
    let mut labels: BTreeMap<String, String> = configuration::pairs(&asked.label);
    let label = metadata_label(known.as_deref(), &[], Some(&located.document));
    labels.extend(label.map(|label| (METADATA.to_owned(), label)));
    let mut text = format!("FROM {base}\n");
    for (name, value) in labels {
        text.push_str(&format!("LABEL {name}={}\n", quoted(&value)));
    }
    let folder = std::env::temp_dir().join(format!("boatyard-build-{}", std::process::id()));
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("Dockerfile"), text));
    written.map_err(Failure::from)?;
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let request = verbs::Build {
        file: path(&folder.join("Dockerfile")),
        context: path(&folder),
        names: names.to_vec(),
        push: asked.push,
        ..verbs::Build::default()
    };
    let request = Request::Build(Box::new(request));
    let ended = crate::build::build(global, &request).await;
    let _ = std::fs::remove_dir_all(&folder);
    match ended? {
        Some(_) => Ok(()),
        None => Err(Problem::told(NOT_ALLOWED)),
    }
}

/// As a Dockerfile takes a text with spaces and signs.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if matches!(letter, '"' | '\\' | '$') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// The name of an image that was given none: the same for the same configuration.
fn default_name(located: &Located) -> String {
    let labels = Identity::of(&[], Some(located)).labels;
    let id = boatyard_devcontainer::devcontainer_id(&labels);
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        format!("boatyard.local/devcontainer:{id}")
    } else {
        format!("boatyard.local/u{}/devcontainer:{id}", uid.as_raw())
    }
}

#[cfg(test)]
mod tests {
    //! Labels as a Dockerfile takes them.
    use super::*;

    #[test]
    fn what_a_dockerfile_reads_as_signs_is_escaped() {
        assert_eq!(
            quoted(r#"[{"a": "${b}\n"}]"#),
            r#""[{\"a\": \"\${b}\\n\"}]""#
        );
    }
}

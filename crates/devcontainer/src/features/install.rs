//! Features as the last stage of a build plan.
//!
//! Each Feature is one step that runs its `install.sh` as root in its own folder, which is mounted
//! for as long as the step takes: no copy of it stays in the image. The step names nothing that
//! another project would do otherwise, so that its layer is shared: contents, options, users and
//! variables are all it depends on.

use super::{Resolved, options};
use crate::build::{
    Base, BuildPlan, ImageState, Op, Origin, Run, RunMount, RunMountKind, Stage, Step,
};

/// Where the folder of a Feature is while it is installed.
const FOLDER: &str = "/tmp/dev-container-features";

/// Whom an environment is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Of the environment's own process.
    pub container: String,
    /// Of hooks and sessions.
    pub remote: String,
}

/// The name of the build context with the folder of the Feature at this place of the order.
pub fn context_name(place: usize) -> String {
    format!("feature-{place}")
}

/// The stage that installs Features on a base. `state` is the base's; `label` becomes the result's
/// `devcontainer.metadata`.
pub fn install(
    base: Base,
    mut state: ImageState,
    features: &[Resolved],
    users: &Users,
    label: Option<String>,
) -> Stage {
    let mut steps = Vec::with_capacity(features.len());
    for (place, feature) in features.iter().enumerate() {
        for (name, value) in &feature.metadata.container_env {
            let value = expand(value, &state.env);
            set(&mut state.env, name, value);
        }
        let mut env = state.env.clone();
        set(&mut env, "_CONTAINER_USER", users.container.clone());
        set(&mut env, "_REMOTE_USER", users.remote.clone());
        for (name, value) in feature.options.env(&feature.metadata) {
            set(&mut env, &name, value);
        }
        let folder = format!("{FOLDER}/{}", folder_name(feature));
        let version = feature.metadata.version.as_deref().unwrap_or_default();
        let text = format!("FEATURE {} {version}", feature.id);
        steps.push(Step {
            text: crate::config::shown(text.trim_end()),
            location: Some(feature.location.clone()),
            op: Op::Run(Run {
                argv: vec![
                    "/bin/sh".to_owned(),
                    "-c".to_owned(),
                    script(feature, &folder),
                ],
                env,
                mounts: vec![RunMount {
                    target: folder,
                    kind: RunMountKind::Bind {
                        from: Origin::Context(context_name(place)),
                        source: "/".to_owned(),
                        writable: true,
                    },
                }],
                ..Run::default()
            }),
        });
    }
    if let Some(label) = label {
        state.labels.insert(crate::merge::LABEL.to_owned(), label);
    }
    Stage {
        name: "features".to_owned(),
        base,
        steps,
        state,
    }
}

/// Adds the stage to a plan, on what the plan came to so far.
pub fn extend(plan: &mut BuildPlan, features: &[Resolved], users: &Users, label: Option<String>) {
    let Some(last) = plan.stages.last() else {
        return;
    };
    let (base, state) = (Base::Stage(plan.stages.len() - 1), last.state.clone());
    plan.stages
        .push(install(base, state, features, users, label));
}

/// A name for a folder, of its author's making: it is shown by what `install.sh` prints.
fn folder_name(feature: &Resolved) -> String {
    let name: String = feature
        .metadata
        .id
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
        .take(64)
        .collect();
    if name.is_empty() {
        "feature".to_owned()
    } else {
        name
    }
}

/// Homes are looked up where the users are: a Feature before this one may have made them.
fn script(feature: &Resolved, folder: &str) -> String {
    let metadata = &feature.metadata;
    let name = metadata.name.as_deref().unwrap_or(&metadata.id);
    let mut failed = format!("ERROR: Feature \"{name}\" failed to install!");
    if let Some(url) = &metadata.documentation_url {
        failed.push_str(&format!(" Look at the documentation at {url} for help."));
    }
    let failed = crate::config::shown_long(&failed).replace('\'', "'\\''");
    format!(
        r#"home() {{
  while IFS=: read -r name secret id group about home shell; do
    if [ "$name" = "$1" ] || [ "$id" = "$1" ]; then printf %s "$home"; return; fi
  done < /etc/passwd
}}
_CONTAINER_USER_HOME=$(home "$_CONTAINER_USER")
_REMOTE_USER_HOME=$(home "$_REMOTE_USER")
export _CONTAINER_USER_HOME _REMOTE_USER_HOME
cd {folder} || exit
chmod -R 0755 . || exit
./install.sh
code=$?
[ $code -eq 0 ] || echo '{failed}' >&2
exit $code
"#
    )
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => env.push((name.to_owned(), value)),
    }
}

/// `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}`, as ENV of a Dockerfile expands them;
/// what is no variable stays.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let value = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value.as_str())
    };
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some((inside, next)) = after.strip_prefix('{').and_then(|it| it.split_once('}')) {
            let end = inside
                .find(|letter| !is_name(letter))
                .unwrap_or(inside.len());
            let (name, modifier) = inside.split_at(end);
            let found = value(name);
            match (modifier.get(..2), modifier.get(2..)) {
                (Some(":-"), Some(word)) if found.is_empty() => result.push_str(word),
                (Some(":+"), Some(word)) if !found.is_empty() => result.push_str(word),
                (Some(":+"), Some(_)) => {}
                (Some(":-"), _) | (None, _) if modifier.len() != 1 => result.push_str(found),
                _ => result.push_str(&format!("${{{inside}}}")),
            }
            rest = next;
            continue;
        }
        let end = after.find(|letter| !is_name(letter)).unwrap_or(after.len());
        if end == 0 {
            result.push('$');
        } else {
            result.push_str(value(&after[..end]));
        }
        rest = &after[end..];
    }
    result.push_str(rest);
    result
}

/// The variable of an option, for documentation.
#[must_use]
pub fn option_variable(option: &str) -> String {
    options::variable(option)
}

//! The Compose project a configuration names, read as the caller.
//!
//! The runner plans it again, for whoever asks: what is sent are the caller's variables that its
//! files may look up, and no others. A project that cannot be planned is an error here already,
//! with its place.

use crate::failure::Failure;
use boatyard_devcontainer::compose::{self, ComposePlan, Outcome};
use boatyard_devcontainer::{Document, LocalContext};
use std::collections::BTreeMap;

/// Variables that Compose itself looks up.
const OWN: [&str; 4] = [
    "HOME",
    "COMPOSE_FILE",
    "COMPOSE_PROFILES",
    "COMPOSE_PROJECT_NAME",
];

/// A project and the caller's variables it may look up.
pub(crate) struct Project {
    pub(crate) plan: ComposePlan,
    pub(crate) variables: BTreeMap<String, String>,
}

/// The project; None when the configuration names none.
pub(crate) fn project(
    document: &Document,
    context: &LocalContext,
) -> Result<Option<Project>, Failure> {
    let mut context = context.clone();
    // What is no text can be no value in a configuration.
    context.local_env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let failure = |error: boatyard_devcontainer::Error| Failure::new(error.to_string());
    let Some(request) = document.compose(&context).map_err(failure)? else {
        return Ok(None);
    };
    let mut files = compose::Files::new();
    let plan = loop {
        let needs = match compose::plan(&request, &files).map_err(failure)? {
            Outcome::Plan(plan) => break *plan,
            Outcome::Needs(needs) => needs,
        };
        for path in needs {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Failure::new(format!("cannot read {path}: {error}"))),
            };
            files.insert(path, text);
        }
    };
    let mut names = OWN.map(str::to_owned).into();
    for text in files.values().flatten() {
        compose::variable_names(text, &mut names);
    }
    let mut variables = context.local_env;
    variables.retain(|name, _| names.contains(name));
    Ok(Some(Project { plan, variables }))
}

#[cfg(test)]
mod tests {
    //! Projects of folders.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_project_has_its_name_and_the_variables_it_looks_up() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        std::fs::create_dir(&base).unwrap();
        let compose = "services:\n  app: {image: 'a:${PATH}', command: $NO_SUCH_VARIABLE}\n";
        std::fs::write(base.join("compose.yml"), compose).unwrap();
        let text = r#"{"dockerComposeFile": "compose.yml", "service": "app"}"#;
        let document = Document::parse(".devcontainer.json", text).unwrap();
        let context = LocalContext::new(base.to_str().unwrap());
        let found = project(&document, &context).unwrap().unwrap();
        assert_eq!(found.plan.project, "base");
        let mut names: Vec<&str> = found.variables.keys().map(String::as_str).collect();
        names.retain(|name| !OWN.contains(name));
        assert_eq!(names, ["PATH"]);
    }
}

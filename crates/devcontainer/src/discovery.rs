//! Which devcontainer.json of a folder is meant.
//!
//! The specification's order: `.devcontainer/devcontainer.json`, `.devcontainer.json`, then one
//! level of `.devcontainer/NAME/devcontainer.json`, where a choice among several is the user's.
//! The caller says what exists; nothing is looked up here.

/// Paths that win over all others, in order.
pub const FIXED_CANDIDATES: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// Why no configuration could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The one asked for does not exist.
    #[error("the configuration {wanted:?} was not found; {}", found(existing))]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What there is.
        existing: Vec<String>,
    },
    /// Several stand side by side.
    #[error(
        "there are several configurations and none is the default; choose one of {}",
        listed(existing)
    )]
    Several {
        /// Their paths.
        existing: Vec<String>,
    },
}

fn found(existing: &[String]) -> String {
    if existing.is_empty() {
        format!("there is none here; put one at {}", FIXED_CANDIDATES[0])
    } else {
        format!("there is {}", listed(existing))
    }
}

/// Folder names are the repository's, so they are shown without control characters.
fn listed(paths: &[String]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .take(20)
        .map(|path| crate::config::shown(path))
        .collect();
    shown.join(", ")
}

/// Chooses among the `existing` paths, relative to the source's root; None when there is none.
///
/// `wanted` is a path, or the NAME of `.devcontainer/NAME/devcontainer.json`.
pub fn discover(
    existing: &[String],
    wanted: Option<&str>,
) -> Result<Option<String>, DiscoveryError> {
    if let Some(wanted) = wanted {
        let path = wanted.trim_start_matches("./");
        let named = format!(".devcontainer/{path}/devcontainer.json");
        let chosen = existing
            .iter()
            .find(|candidate| *candidate == path)
            .or_else(|| existing.iter().find(|candidate| **candidate == named));
        return match chosen {
            Some(chosen) => Ok(Some(chosen.clone())),
            None => Err(DiscoveryError::NotFound {
                wanted: wanted.to_owned(),
                existing: existing.to_vec(),
            }),
        };
    }
    if let Some(fixed) = FIXED_CANDIDATES
        .iter()
        .find(|fixed| existing.iter().any(|candidate| candidate == *fixed))
    {
        return Ok(Some((*fixed).to_owned()));
    }
    let mut nested: Vec<String> = existing
        .iter()
        .filter(|candidate| is_nested(candidate))
        .cloned()
        .collect();
    nested.sort();
    nested.dedup();
    match nested.len() {
        0 => Ok(None),
        1 => Ok(nested.pop()),
        _ => Err(DiscoveryError::Several { existing: nested }),
    }
}

/// `.devcontainer/NAME/devcontainer.json`, one level and no deeper.
fn is_nested(path: &str) -> bool {
    let name = path
        .strip_prefix(".devcontainer/")
        .and_then(|rest| rest.strip_suffix("/devcontainer.json"));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

//! Every reason code a user may read is explained in docs/reasons.md.
//!
//! Owns finding the codes: the first argument of `lasting(` and `transient(` in the runner, and the
//! words in the bodies of functions called `reason`. Codes made at run time (of the lifecycle
//! commands) are not found, and are listed by hand.
//!
//! Read next: docs/reasons.md.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// The crates whose failures reach an environment's conditions.
const SPEAKERS: &[&str] = &["crates/runner/src/", "crates/image/src/"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let explained =
        std::fs::read_to_string(root.join("docs/reasons.md")).context("docs/reasons.md")?;
    let mut codes = BTreeSet::new();
    for path in files {
        if SPEAKERS.iter().any(|folder| path.starts_with(folder)) {
            let text = std::fs::read_to_string(root.join(path)).with_context(|| path.clone())?;
            codes.extend(found(&text));
        }
    }
    Ok(codes
        .into_iter()
        .filter(|code| !explained.contains(&format!("`{code}`")))
        .map(|code| format!("docs/reasons.md: no line for {code}: what it means and what to do"))
        .collect())
}

/// The codes a file uses.
fn found(text: &str) -> BTreeSet<String> {
    let arguments = ["lasting(", "transient("]
        .iter()
        .flat_map(|call| text.split(call).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"'))
        .filter_map(|rest| rest.split('"').next());
    let bodies = text
        .split("fn reason(")
        .skip(1)
        .filter_map(|rest| rest.split("\n    }\n").next())
        .flat_map(|body| body.split('"').skip(1).step_by(2));
    arguments
        .chain(bodies)
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect()
}

fn is_code(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;

//! What every file of the repository must look like.
//!
//! Owns the rules a compiler does not know: module docs, file length, forbidden module names,
//! where `unsafe`, new processes and clocks may appear, the sections of a decision record, a reason for
//! every dependency, an explanation for every reason code. It reads text, line by line, and understands no Rust: a rule that would need
//! to belongs in clippy.
//!
//! Read next: CONTRIBUTING.md, which says the same to people.

mod places;
mod proofs;
mod reasons;

use anyhow::{Context, Result, bail};
use std::path::Path;

/// Longer than this no file of Rust may be; think of splitting at 500.
const LONGEST: usize = 800;

const NAMES: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "manager", "misc",
];

/// Where `unsafe` may stand: the system calls of the sandbox, nowhere else.
const UNSAFE: &str = "crates/sandbox/src/sys";

const SECTIONS: &[&str] = &[
    "## Context",
    "## Decision",
    "## Alternatives",
    "## Failure and security",
    "## What would reverse it",
];

/// Fails naming every file that breaks a rule.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        walk(root, &root.join(folder), &mut files)?;
    }
    let mut faults = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| path.clone())?;
        faults.extend(
            judge(path, &text)
                .into_iter()
                .map(|fault| format!("{path}: {fault}")),
        );
    }
    faults.extend(records(root)?);
    faults.extend(dependencies(root)?);
    faults.extend(reasons::check(root, &files)?);
    faults.extend(proofs::check(root)?);
    faults.extend(places::stale(&files));
    if faults.is_empty() {
        println!("tidy: {} files in order", files.len());
        return Ok(());
    }
    bail!("tidy: {} faults\n  {}", faults.len(), faults.join("\n  "))
}

fn judge(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.trim_end_matches(".rs");
    let is_test = name == "tests.rs" || path.contains("/tests/");
    if !is_test && !text.starts_with("//!") {
        faults.push(
            "does not open with //! saying what it owns, what it does not, and how it crashes"
                .to_owned(),
        );
    }
    let length = text.lines().count();
    if length > LONGEST {
        faults.push(format!(
            "has {length} lines, more than {LONGEST}: give its second noun a file"
        ));
    }
    if name == "mod.rs" {
        faults.push("mod.rs: name the file after the module".to_owned());
    }
    if NAMES.contains(&stem) || path.split('/').any(|part| NAMES.contains(&part)) {
        faults.push("a name that says nothing about what is inside".to_owned());
    }
    let exempt = places::exempt(path);
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if !exempt {
            let does = places::judge(path, code).into_iter();
            faults.extend(does.map(|does| {
                format!("line {number} {does}; the places that may are listed in xtask/src/tidy/places.rs")
            }));
        }
        // Written apart so that this file does not find itself.
        let is_unsafe = [
            concat!("unsafe", " {"),
            concat!("unsafe", " fn"),
            concat!("unsafe", " impl"),
            concat!("unsafe", " extern"),
        ];
        if !path.starts_with(UNSAFE) && is_unsafe.iter().any(|form| code.contains(form)) {
            faults.push(format!(
                "line {number} is unsafe; allowed only below {UNSAFE}"
            ));
        }
    }
    faults
}

fn records(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let folder = root.join("docs/adr");
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).with_context(|| name.clone())?;
        for section in SECTIONS
            .iter()
            .filter(|section| !text.lines().any(|line| line == **section))
        {
            faults.push(format!("docs/adr/{name}: no section \"{section}\""));
        }
    }
    Ok(faults)
}

fn dependencies(root: &Path) -> Result<Vec<String>> {
    let manifest =
        cargo_toml::Manifest::from_path(root.join("Cargo.toml")).context("Cargo.toml")?;
    let reasons = std::fs::read_to_string(root.join("docs/dependencies.md"))
        .context("docs/dependencies.md")?;
    let workspace = manifest
        .workspace
        .context("Cargo.toml has no [workspace]")?;
    let named = workspace.dependencies.keys();
    let missing = named
        .filter(|name| !name.starts_with("boatyard-") && !reasons.contains(&format!("| `{name}` |")))
        .map(|name| format!("docs/dependencies.md: no line for {name}: why it, what was weighed, what would make us leave"));
    let rows = reasons.lines().filter_map(|line| line.strip_prefix("| `"));
    let stale = rows
        .filter_map(|row| row.split_once('`'))
        .filter(|(name, _)| !workspace.dependencies.contains_key(*name))
        .map(|(name, _)| {
            format!("docs/dependencies.md: {name} is no dependency of the workspace any more")
        });
    Ok(missing.chain(stale).collect())
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(
                path.strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    files.sort();
    Ok(())
}

#[cfg(test)]
mod tests;

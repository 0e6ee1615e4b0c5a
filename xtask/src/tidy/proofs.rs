//! What the documents say proves something must exist.
//!
//! Owns two rules for every document: a path it names in backticks is there, and a test it names
//! after a file of tests is in that file. A name alone counts as a test only after such a file in
//! the same paragraph or table row. It runs nothing: that a test passes is the suite's business.
//!
//! Read next: SECURITY.md, the table this is for.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Documents held to it, beside every decision record.
const DOCUMENTS: &[&str] = &[
    "SECURITY.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
];

/// Folders of the repository: what begins with one of them is meant as a path of it.
const FOLDERS: &[&str] = &["crates/", "docs/", "xtask/", "examples/", "release-notes/"];

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut documents: Vec<String> = DOCUMENTS.iter().map(|name| (*name).to_owned()).collect();
    for entry in std::fs::read_dir(root.join("docs/adr")).context("docs/adr")? {
        documents.push(format!("docs/adr/{}", entry?.file_name().to_string_lossy()));
    }
    documents.sort();
    let mut faults = Vec::new();
    for document in documents {
        let text =
            std::fs::read_to_string(root.join(&document)).with_context(|| document.clone())?;
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let exists = |path: &str| root.join(path).exists();
        faults.extend(
            judge(&text, exists, read)
                .into_iter()
                .map(|fault| format!("{document}: {fault}")),
        );
    }
    Ok(faults)
}

/// The faults of one document; `exists` and `read` look into the repository.
fn judge(
    text: &str,
    exists: impl Fn(&str) -> bool,
    read: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    for block in blocks(text) {
        let mut tests: Option<String> = None;
        for word in block.split('`').skip(1).step_by(2) {
            if FOLDERS.iter().any(|folder| word.starts_with(folder)) {
                if placeholder(word) {
                    continue;
                }
                if !exists(word) {
                    faults.push(format!("there is no {word}"));
                }
                tests = word.ends_with(".rs").then(|| word.to_owned());
            } else if word.ends_with(".rs") {
                // A sibling of the file named last, as in `a/b.rs` … `c.rs`.
                let sibling = tests
                    .as_deref()
                    .and_then(|path| path.rsplit_once('/'))
                    .map(|(folder, _)| format!("{folder}/{word}"));
                tests = sibling.filter(|path| exists(path));
            } else if let Some(path) = tests.as_ref().filter(|_| is_test_name(word)) {
                let source = sources
                    .entry(path.clone())
                    .or_insert_with(|| read(path).unwrap_or_default());
                if !source.contains(&format!("fn {word}(")) {
                    faults.push(format!("{path} has no test {word}"));
                }
            }
        }
    }
    faults
}

/// Paragraphs, and the rows of tables one by one.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with('|') {
            blocks.push(String::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

fn placeholder(word: &str) -> bool {
    word.contains(|c: char| "*<>{} ".contains(c)) || word.contains("YYYY")
}

fn is_test_name(word: &str) -> bool {
    word.matches('_').count() >= 2
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests;

//! The parsers of what repositories, images and Features say, one entry for each, for a fuzzer.
//!
//! Owns what must hold of any input: an answer, never a panic, and the laws written beside each
//! target. Compiled with the feature `fuzzing` alone and by unit tests, which run every seed and
//! every input that ever broke something (`fuzz/corpus`). The fuzzer is `fuzz/main.rs`, started by
//! `cargo xtask fuzz`.

use crate::{Document, ImageMetadata, LocalContext};
use std::collections::BTreeMap;

/// Target and what it does with an input.
type Target = (&'static str, fn(&str));

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    ("compose", compose),
    ("configuration", configuration),
    ("dockerfile", dockerfile),
    ("dockerignore", dockerignore),
    ("feature", feature),
    ("label", label),
    ("lockfile", lockfile),
];

/// Largest input whose time says something about the parser and not about its size.
const LARGEST: usize = 64 * 1024;

/// Feeds an input to a target; false when there is no such target.
#[must_use]
pub fn run(name: &str, data: &[u8]) -> bool {
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        return false;
    };
    if data.len() <= LARGEST
        && let Ok(text) = std::str::from_utf8(data)
    {
        target(text);
    }
    true
}

fn configuration(text: &str) {
    let context = LocalContext::new("/w/folder");
    if let Ok(document) = Document::parse("devcontainer.json", text)
        && document.image(&context).is_ok()
    {
        drop(document.run_plan(&context, &ImageMetadata::default()));
    }
}

/// A Feature that may depend on itself, in all ways its metadata says: an order or an error, and
/// whatever the order, an image's label that can be read.
fn feature(text: &str) {
    use crate::features::{Found, Metadata, Resolver, metadata_label, parse_requested};
    use std::sync::Arc;
    let Ok(metadata) = Metadata::parse("devcontainer-feature.json", text) else {
        return;
    };
    let metadata = Arc::new(metadata);
    let document = Document::default_configuration("debian");
    let Ok(mut request) = document.features(&LocalContext::new("/w/folder")) else {
        return;
    };
    request.add(parse_requested("fuzz", r#"{"ghcr.io/a/b/c":{}}"#).unwrap_or_default());
    let Ok(mut resolver) = Resolver::new(request, None) else {
        return;
    };
    while let Ok(needs) = resolver.needs() {
        if needs.is_empty() {
            break;
        }
        for (need, _) in needs {
            let (digest, metadata) = (None, Arc::clone(&metadata));
            resolver.give(need, Found { digest, metadata });
        }
    }
    if let Ok(resolution) = resolver.finish() {
        for resolved in &resolution.order {
            drop(resolved.options.env(&resolved.metadata));
        }
        label(&metadata_label(None, &resolution.order, None).unwrap_or_default());
    }
}

/// What is written can be read, and says the same.
fn lockfile(text: &str) {
    use crate::features::Lockfile;
    if let Ok(Some(lockfile)) = Lockfile::parse("devcontainer-lock.json", text) {
        let written = lockfile.emit();
        let again = Lockfile::parse("devcontainer-lock.json", &written);
        assert_eq!(again.ok().flatten(), Some(lockfile), "{written}");
    }
}

/// A label is somebody else's: it may be wrong, and is then left out with a note.
fn label(text: &str) {
    let metadata = ImageMetadata {
        labels: BTreeMap::from([("devcontainer.metadata".to_owned(), text.to_owned())]),
        ..ImageMetadata::default()
    };
    let document = Document::default_configuration("debian");
    let plan = document.run_plan(&LocalContext::new("/w/folder"), &metadata);
    assert!(plan.is_ok(), "{plan:?}");
}

/// A Compose file whose every other file is the same: what is planned can be stored.
fn compose(text: &str) {
    let request = crate::compose::Request {
        files: vec!["/w/folder/compose.yml".to_owned()],
        service: "app".to_owned(),
        workspace: "/w/folder".to_owned(),
        env: BTreeMap::from([("A".to_owned(), "${A}".to_owned())]),
        ..crate::compose::Request::default()
    };
    let mut files = crate::compose::Files::new();
    for _ in 0..8 {
        match crate::compose::plan(&request, &files) {
            Ok(crate::compose::Outcome::Needs(needs)) => {
                files.extend(needs.into_iter().map(|need| (need, Some(text.to_owned()))));
            }
            Ok(crate::compose::Outcome::Plan(plan)) => {
                assert!(plan.main().is_some());
                return;
            }
            Err(error) => return assert!(!error.to_string().contains('\u{1b}')),
        }
    }
}

/// A Dockerfile whose bases have triggers: two questions bring every image, and the plan can be
/// stored.
fn dockerfile(text: &str) {
    use crate::build::{BuildPlan, ImageState};
    use crate::dockerfile::{Answer, Dockerfile, NamedContext, Request};
    let plain = |error: crate::Error| assert!(!error.to_string().contains('\u{1b}'));
    let file = match Dockerfile::parse("Dockerfile", text) {
        Ok(file) => file,
        Err(error) => return plain(error),
    };
    let mut request = Request::new("linux/amd64");
    request.build_args.insert("A".into(), "$A".into());
    request.contexts.insert("c".into(), NamedContext::Files);
    let base = ImageState {
        onbuild: vec!["COPY --from=more $A /".into()],
        ..ImageState::default()
    };
    let mut images = BTreeMap::new();
    for _ in 0..3 {
        match file.plan(&request, &images) {
            Ok(Answer::NeedsMore(more)) => {
                images.extend(more.into_iter().map(|image| (image, base.clone())));
            }
            Ok(Answer::Plan(planned)) => {
                let stored = serde_json::to_vec(&planned.plan).unwrap_or_default();
                assert!(serde_json::from_slice::<BuildPlan>(&stored).is_ok());
                return;
            }
            Err(error) => return plain(error),
        }
    }
    unreachable!("images are missing for ever");
}

/// A path, and the patterns: what is in a hidden folder is left out.
fn dockerignore(text: &str) {
    let (path, patterns) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(ignore) = crate::dockerfile::Ignore::parse(".dockerignore", patterns) else {
        return;
    };
    // As whoever walks a folder has them.
    let parts: Vec<&str> = path.split('/').take(32).collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || path.len() > 1024 {
        return;
    }
    let hidden = (1..parts.len()).any(|end| ignore.hides(&parts[..end].join("/"), true));
    assert!(!hidden || ignore.excludes(&parts.join("/")));
}

#[cfg(test)]
mod tests {
    //! Every seed, and every input that broke something once.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_input_kept_is_survived() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, _) in TARGETS {
            let folder = std::fs::read_dir(corpus.join(name)).unwrap();
            let inputs: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has seeds");
            for input in inputs {
                assert!(run(name, &std::fs::read(input).unwrap()));
            }
        }
    }
}

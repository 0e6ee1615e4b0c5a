#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Failure, unpack};
use crate::archive::Archive;
use crate::{Limits, recipe};

/// Paths over few names, so that entries meet, replace and go through each
/// other; some lead out.
fn path() -> impl Strategy<Value = String> {
    let component = proptest::sample::select(vec![
        "a",
        "b",
        "c",
        ".",
        "..",
        "",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
    ]);
    proptest::collection::vec(component, 1..5).prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        proptest::sample::select(vec![
            "..",
            "../..",
            "../outside",
            "/",
            "a/../../outside",
            "/proc/self/root",
            "."
        ])
        .prop_map(str::to_owned),
    ]
}

#[derive(Debug, Clone)]
enum Made {
    File(String, u8),
    Folder(String),
    Symlink(String, String),
    HardLink(String, String),
    Device(String),
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(path, byte)| Made::File(path, byte)),
        2 => path().prop_map(Made::Folder),
        3 => (path(), target()).prop_map(|(path, target)| Made::Symlink(path, target)),
        2 => (path(), target()).prop_map(|(path, target)| Made::HardLink(path, target)),
        1 => path().prop_map(Made::Device),
    ]
}

fn archive(entries: &[Made]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        let (path, content) = match entry {
            Made::File(path, byte) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(5);
                (path, vec![*byte; 5])
            }
            Made::Folder(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                (path, Vec::new())
            }
            Made::Symlink(path, target) | Made::HardLink(path, target) => {
                let hard = matches!(entry, Made::HardLink(..));
                header.set_entry_type(if hard {
                    tar::EntryType::Link
                } else {
                    tar::EntryType::Symlink
                });
                header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
                (path, Vec::new())
            }
            Made::Device(path) => {
                header.set_entry_type(tar::EntryType::Block);
                (path, Vec::new())
            }
        };
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Everything below, with what each thing is.
fn listing(folder: &Path) -> BTreeSet<(PathBuf, String)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            }
            let content = if kind.is_file() {
                std::fs::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            found.insert((entry.path(), format!("{kind:?} {content:?}")));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_is_ever_touched_and_what_was_taken_can_be_given_back(
        entries in proptest::collection::vec(made(), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("a"), "untouched").unwrap();
        std::fs::write(folder.path().join("a"), "untouched").unwrap();
        let before = listing(folder.path());
        let (tree, shadow) = (folder.path().join("store/tree"), folder.path().join("store/shadow"));
        for path in [&tree, &shadow] {
            std::fs::create_dir_all(path).unwrap();
        }
        let bytes = archive(&entries);
        let recipe_path = folder.path().join("store/recipe");
        let writer = recipe::Writer::create(&recipe_path).unwrap();
        let mut archive = Archive::new(bytes.as_slice(), Some(writer));
        let outcome = unpack(&mut archive, &tree, &shadow, &Limits { reserve_bytes: 0, ..Limits::default() });

        let inside: BTreeSet<_> = listing(folder.path()).into_iter()
            .filter(|(path, _)| !path.starts_with(folder.path().join("store")))
            .collect();
        prop_assert_eq!(&inside, &before);
        for (_, kind) in listing(&tree) {
            prop_assert!(!kind.contains("is_block_device: true"));
        }
        match outcome {
            Ok(_) => {
                let (_, writer) = archive.finish().map_err(|error| TestCaseError::fail(error.to_string()))?;
                writer.unwrap().finish().unwrap();
                let mut again = Vec::new();
                recipe::play(&recipe_path, &tree, &shadow, &mut again).unwrap();
                prop_assert!(again == bytes);
            }
            Err(Failure::Refused { .. }) => {}
            Err(other) => prop_assert!(false, "neither taken nor refused: {other:?}"),
        }
    }
}

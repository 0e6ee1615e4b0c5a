//! Where the sources of a copy go: what is a folder that takes them in, what is unpacked, which
//! folders are kept.
//!
//! Looking the sources up and keying them is `stage`'s, writing files `copy`'s.

use super::added::Added;
use super::copy::{Changes, Writer};
use super::merged::Merged;
use super::owner::Owner;
use super::source::{Found, Origin as From};
use super::tree::Kind;
use crate::layers::Staging;
use boatyard_devcontainer::build::{Copy, CopySource};
use std::io;
use std::path::Path;

/// A source of a copy, looked up.
pub(super) enum Source<'a> {
    /// From elsewhere; kept in staging until it is copied.
    Fetched {
        origin: From,
        found: Vec<Found>,
        unpack: bool,
        _staging: Staging,
    },
    /// To be fetched, if at all.
    Pinned(&'a CopySource),
    Found(From, Vec<Found>),
    Inline(&'a boatyard_devcontainer::build::InlineFile),
}

/// Writes the sources of a copy into the tree of a layer in the making.
pub(super) fn write_copy(
    copy: &Copy,
    sources: &[Source<'_>],
    below: &Merged,
    staging: &Path,
    changes: Changes,
    limits: &crate::Limits,
) -> io::Result<()> {
    let owner = changes.owner.unwrap_or(Owner::ROOT);
    let mut writer = Writer::new(&staging.join("tree"), below)?;
    let resolved = below.resolve(Path::new(&copy.destination), true)?;
    let destination = resolved.path;
    let many = sources
        .iter()
        .map(|source| match source {
            Source::Found(_, found) | Source::Fetched { found, .. } => found.len(),
            Source::Inline(_) | Source::Pinned(_) => 1,
        })
        .sum::<usize>()
        > 1;
    let folder = many
        || copy.parents
        || copy.destination.ends_with('/')
        || destination.as_os_str().is_empty()
        || resolved
            .meta
            .is_some_and(|meta| meta.kind == Kind::Directory);
    for source in sources {
        match source {
            Source::Inline(file) => {
                let target = if folder {
                    destination.join(&file.path)
                } else {
                    destination.clone()
                };
                let mode = changes
                    .mode
                    .as_ref()
                    .map_or(file.mode, |mode| mode.apply(file.mode, false));
                writer.file(&target, file.contents.as_bytes(), mode, owner)?;
            }
            Source::Pinned(_) => return Err(io::Error::other("a source was not fetched")),
            Source::Found(origin, found) | Source::Fetched { origin, found, .. } => {
                let unpack = match source {
                    Source::Fetched { unpack, .. } => *unpack,
                    _ => copy.unpack,
                };
                let changes = Changes {
                    keeps_owners: origin.keeps_owners,
                    ..changes.clone()
                };
                for found in found {
                    if let (true, [file]) = (unpack, found.entries.as_slice())
                        && file.meta.kind == Kind::File
                        && let Some(added) =
                            Added::unpack(&*origin.tree, file, &staging.join("added"), limits)?
                    {
                        let changes = Changes {
                            owner: changes.owner,
                            mode: None,
                            keeps_owners: true,
                        };
                        writer.copy(&added.tree, &added.found, &destination, true, &changes)?;
                        added.remove()?;
                        continue;
                    }
                    let kept = if copy.parents {
                        let folder = found.entries.first().map(|first| first.meta.kind)
                            == Some(Kind::Directory);
                        let kept = if folder {
                            Some(found.written.as_path())
                        } else {
                            found.written.parent()
                        };
                        destination.join(kept.unwrap_or(Path::new("")))
                    } else {
                        destination.clone()
                    };
                    writer.copy(&*origin.tree, found, &kept, folder, &changes)?;
                }
            }
        }
    }
    writer.finish()
}

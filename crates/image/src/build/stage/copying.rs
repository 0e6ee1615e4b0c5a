//! A step that copies: files of contexts, stages and images, inline bodies, and what is fetched.

use super::Work;
use super::keyed::Key;
use crate::Error;
use crate::Limits;
use crate::build::added::Added;
use crate::build::arrange::{self, Source};
use crate::build::cache::Made as Entry;
use crate::build::copy::Changes;
use crate::build::fetch::Fetched;
use crate::build::merged::Merged;
use crate::build::owner::{Chmod, Owner};
use crate::build::run::{Cancel, Place};
use crate::build::source::{self, Origin as From};
use crate::build::tree::Tree as _;
use crate::build::{Context, Folder, Shared, fetch, invalid};
use boatyard_devcontainer::build::{Copy, CopySource};
use boatyard_sandbox::background::Background;
use boatyard_sandbox::spec::Egress;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A context from elsewhere, fetched as strictly isolated as a process of a build.
pub(in crate::build) fn fetch_context(
    shared: &Shared,
    egress: Option<&Egress>,
    source: &CopySource,
    cancel: &Cancel,
) -> Result<Context, Error> {
    let failed = |error: io::Error| invalid(&error.to_string());
    let staging = shared.images.inner.store.stage()?;
    let into = staging.path().join("fetched");
    std::fs::create_dir(&into).map_err(Error::io("make", &into))?;
    let runs = shared.folder.join("runs");
    let place = fetching(shared, egress, &runs, cancel);
    let fetched = fetch::fetch(&place, source, &into).map_err(failed)?;
    let (root, below) = if fetched.unpack {
        let unpacked = staging.path().join("unpacked");
        let limits = &shared.images.inner.options.limits;
        (
            unpack(&fetched, &unpacked, limits).map_err(failed)?,
            ".".to_owned(),
        )
    } else {
        let below = fetched.pattern.trim_start_matches('/');
        (fetched.folder.clone(), format!("./{below}"))
    };
    let root = std::fs::File::open(&root).map_err(failed)?;
    let folder = boatyard_sandbox::beneath::open(
        &root,
        Path::new(&below),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::ResolveFlags::IN_ROOT,
    );
    let folder = folder.map_err(|error| failed(error.into()))?;
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    let mut context = Context::folder(Path::new(&place)).map_err(failed)?;
    context.identity = None;
    context.held = Some(Arc::new(staging));
    Ok(context)
}

/// Unpacks a context that is an archive; answers the folder with its files.
fn unpack(fetched: &Fetched, into: &Path, limits: &Limits) -> io::Result<PathBuf> {
    let tree = Folder::open(&fetched.folder)?;
    let path = PathBuf::from(&fetched.pattern);
    let meta = tree.stat(&path, false)?;
    let file = source::Entry {
        below: PathBuf::new(),
        path,
        meta: meta.ok_or(io::ErrorKind::NotFound)?,
        link: None,
        digest: [0; 32],
    };
    match Added::unpack(&tree, &file, into, limits)? {
        Some(_) => Ok(into.join("tree")),
        None => Err(io::Error::other(format!(
            "{} is no tar archive, and a single file is no build context here",
            fetched.pattern
        ))),
    }
}

fn fetching<'a>(
    shared: &'a Shared,
    egress: Option<&'a Egress>,
    runs: &'a Path,
    cancel: &'a Cancel,
) -> Place<'a> {
    Place {
        host: &*shared.host,
        agent: &shared.agent,
        runs,
        limits: shared.policy.limits,
        network: shared.policy.network,
        egress,
        env: &shared.policy.env,
        cancel,
        layers: Vec::new(),
        upper: PathBuf::new(),
        work: PathBuf::new(),
    }
}
impl Work<'_> {
    pub(super) fn copy(&self, copy: &Copy, mut key: Key) -> Result<(Entry, bool), Error> {
        let failed = |error: io::Error| self.failed(&error);
        let below = if copy.link {
            Merged::new(Vec::new())
        } else {
            self.merged()
        };
        let owner = match &copy.chown {
            Some(text) => Some(Owner::parse(text, &self.merged()).map_err(failed)?),
            None => None,
        };
        let mode = copy
            .chmod
            .as_deref()
            .map(Chmod::parse)
            .transpose()
            .map_err(failed)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(match source {
                CopySource::Files { from, pattern } => {
                    let origin = self.origin(from)?;
                    let found = source::find(&origin, pattern, &copy.exclude, copy.parents)
                        .map_err(failed)?;
                    Source::Found(origin, found)
                }
                CopySource::Inline(file) => Source::Inline(file),
                // What it must be is known: fetched only if the step has to be done.
                CopySource::Url {
                    checksum: Some(_), ..
                }
                | CopySource::Git {
                    checksum: Some(_), ..
                } => Source::Pinned(source),
                CopySource::Url { .. } | CopySource::Git { .. } => self.fetched(copy, source)?,
            });
        }
        if !copy.link {
            self.key_below(&mut key);
        }
        key.put(b"copy");
        key.put(copy.destination.as_bytes());
        key.put(&[
            u8::from(copy.link),
            u8::from(copy.parents),
            u8::from(copy.unpack),
        ]);
        key.json(&owner.map(|owner| (owner.uid, owner.gid)));
        key.json(&copy.chmod);
        for source in &sources {
            match source {
                Source::Found(origin, found) => {
                    key.put(&[b'f', u8::from(origin.keeps_owners)]);
                    source::digest(found, origin.keeps_owners, copy.parents, &mut key.0);
                }
                Source::Fetched {
                    origin,
                    found,
                    unpack,
                    ..
                } => {
                    key.put(&[b'r', u8::from(*unpack)]);
                    source::digest(found, origin.keeps_owners, copy.parents, &mut key.0);
                }
                Source::Pinned(source) => {
                    key.put(b"p");
                    key.json(source);
                }
                Source::Inline(file) => key.json(file),
            }
        }
        let work = |staging: &Path| {
            for source in &mut sources {
                if let Source::Pinned(wanted) = source {
                    *source = self.fetched(copy, wanted)?;
                }
            }
            let changes = Changes {
                owner,
                mode,
                keeps_owners: false,
            };
            let limits = &self.build.shared.images.inner.options.limits;
            let _background = Background::enter();
            arrange::write_copy(copy, &sources, &below, staging, changes, limits)
                .map_err(|error| self.failed(&error))
        };
        self.once(key, work)
    }

    /// Fetches from elsewhere, as strictly isolated as a process of the build.
    fn fetched<'s>(&self, copy: &Copy, source: &CopySource) -> Result<Source<'s>, Error> {
        let shared = &self.build.shared;
        let failed = |error: io::Error| self.failed(&error);
        let staging = self.stage().map_err(failed)?;
        let runs = shared.folder.join("runs");
        let egress = self.build.egress.as_deref();
        let place = fetching(shared, egress, &runs, &self.build.cancel);
        let into = staging.path().join("fetched");
        std::fs::create_dir(&into).map_err(Error::io("make", &into))?;
        let fetched = fetch::fetch(&place, source, &into).map_err(failed)?;
        let origin = From {
            tree: std::sync::Arc::new(Folder::open(&fetched.folder).map_err(failed)?),
            digests: std::sync::Arc::clone(&self.build.layer_digests),
            ignore: None,
            keeps_owners: false,
            name: "what was fetched".to_owned(),
        };
        let found =
            source::find(&origin, &fetched.pattern, &copy.exclude, copy.parents).map_err(failed)?;
        Ok(Source::Fetched {
            origin,
            found,
            unpack: fetched.unpack,
            _staging: staging,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Archives as contexts.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write as _;

    fn fetched(contents: &[u8]) -> (tempfile::TempDir, Fetched) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("context"), contents).unwrap();
        let fetched = Fetched {
            folder: folder.path().to_owned(),
            pattern: "context".to_owned(),
            unpack: true,
        };
        (folder, fetched)
    }

    #[test]
    fn a_compressed_tar_is_a_context_and_another_file_is_none() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        let path = "sub/Dockerfile";
        tar.append_data(&mut header, path, &b"FROM"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let limits = Limits::default();
        for bytes in [tar, gzip.finish().unwrap()] {
            let (folder, fetched) = fetched(&bytes);
            let tree = unpack(&fetched, &folder.path().join("into"), &limits).unwrap();
            assert_eq!(std::fs::read(tree.join(path)).unwrap(), b"FROM");
        }
        let (folder, other) = fetched(b"FROM scratch\n");
        let error = unpack(&other, &folder.path().join("into"), &limits).unwrap_err();
        assert!(error.to_string().contains("no tar archive"), "{error}");
    }
}

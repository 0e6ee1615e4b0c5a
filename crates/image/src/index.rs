//! The local tags, and the small documents of the images they name.
//!
//! ```text
//! refs/<digest of the name>.json     a tag
//! documents/<digest>                 configs and manifests, as they came
//! ```
//!
//! One small file per tag, written beside and renamed: readable with any tool,
//! whole after any crash, no lock needed by readers. A tag is written after
//! everything it names is on disk. Its file's time is when it was last of use.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::RawConfig;
use crate::digest::Digest;
use crate::layers::{self, LayerId};
use crate::{Error, Reference};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) reference: Reference,
    /// The manifest as the registry served it; made up for what was bootstrapped.
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    /// Bottom first, as in the config.
    pub(crate) layers: Vec<LayerId>,
    pub(crate) architecture: String,
    /// When the image was made, RFC 3339.
    pub(crate) created: Option<String>,
    /// When it was put here, RFC 3339.
    pub(crate) added: String,
    /// It came from a registry under this very name, so that it can be had again.
    #[serde(default)]
    pub(crate) pulled: bool,
}

#[derive(Debug)]
pub(crate) struct Index {
    refs: PathBuf,
    documents: PathBuf,
}

impl Index {
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let index = Index {
            refs: directory.join("refs"),
            documents: directory.join("documents"),
        };
        for path in [&index.refs, &index.documents] {
            layers::create_private(path)?;
            for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
                let entry = entry.map_err(Error::io("list", path))?.path();
                // Half-written, by a process that is no more.
                let writer = entry.extension().and_then(|extension| extension.to_str());
                let writer = writer.and_then(|extension| extension.strip_prefix("new-"));
                if let Some(writer) = writer
                    && !Path::new("/proc")
                        .join(writer.split('-').next().unwrap_or_default())
                        .exists()
                {
                    let _ = std::fs::remove_file(entry);
                }
            }
        }
        Ok(index)
    }

    pub(crate) fn get(&self, reference: &Reference) -> Result<Option<Tag>, Error> {
        let path = self.path(reference);
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => parse(&path, &outcome.map_err(Error::io("read", &path))?).map(Some),
        }
    }

    pub(crate) fn put(&self, tag: &Tag) -> Result<(), Error> {
        let path = self.path(&tag.reference);
        let bytes = serde_json::to_vec_pretty(tag).map_err(|error| Error::Io {
            doing: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        write_durably(&path, &bytes)
    }

    /// When the tag was last of use, as its file's time; None when it is not there.
    pub(crate) fn used(&self, reference: &Reference) -> Option<Used> {
        used(&self.path(reference))
    }

    /// Notes that it is of use now.
    pub(crate) fn touch(&self, reference: &Reference) {
        touch(&self.path(reference));
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, reference: &Reference) -> Result<bool, Error> {
        let path = self.path(reference);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            outcome => {
                outcome.map_err(Error::io("remove", &path))?;
                layers::sync_directory(&self.refs)?;
                Ok(true)
            }
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        for entry in std::fs::read_dir(&self.refs).map_err(Error::io("list", &self.refs))? {
            let path = entry.map_err(Error::io("list", &self.refs))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match std::fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => tags.push(parse::<Tag>(
                    &path,
                    &outcome.map_err(Error::io("read", &path))?,
                )?),
            }
        }
        tags.sort_by_key(|tag| tag.reference.to_string());
        Ok(tags)
    }

    pub(crate) fn put_document(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.documents.join(digest.hex());
        if !path.exists() {
            write_durably(&path, bytes)?;
        }
        Ok(digest)
    }

    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.documents.join(digest.hex());
        std::fs::read(&path).map_err(Error::io("read", &path))
    }

    pub(crate) fn config(&self, digest: &Digest) -> Result<RawConfig, Error> {
        parse(&self.documents.join(digest.hex()), &self.document(digest)?)
    }

    /// Removes the documents nothing names.
    pub(crate) fn prune_documents(&self, used: &HashSet<Digest>) -> Result<(), Error> {
        for entry in
            std::fs::read_dir(&self.documents).map_err(Error::io("list", &self.documents))?
        {
            let path = entry.map_err(Error::io("list", &self.documents))?.path();
            let named = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    Digest::parse(&format!("sha256:{name}"))
                        .is_none_or(|digest| used.contains(&digest))
                });
            if !named {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn path(&self, reference: &Reference) -> PathBuf {
        self.refs.join(format!(
            "{}.json",
            Digest::of(reference.canonical().as_bytes()).hex()
        ))
    }
}

/// Seconds and nanoseconds since 1970, by the file system's clock.
pub(crate) type Used = (i64, i64);

/// A file's or folder's time, which says when it was last of use.
pub(crate) fn used(path: &Path) -> Option<Used> {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::symlink_metadata(path).ok()?;
    Some((about.mtime(), about.mtime_nsec()))
}

/// Sets that time to now, if the file is there.
pub(crate) fn touch(path: &Path) {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    let _ = rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &times,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    );
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Io {
        doing: "understand",
        path: path.to_owned(),
        source: error.into(),
    })
}

pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let beside = path.with_extension(format!("new-{}-{number}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    if let Err(source) = write() {
        let _ = std::fs::remove_file(&beside);
        return Err(Error::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        });
    }
    path.parent().map_or(Ok(()), layers::sync_directory)
}

//! Files of an environment's source, as its owner may read them.
//!
//! Of a folder, whatever the owner may read on this host, by way of one process that has the owner's
//! rights (`sandbox::view`): a file system that hangs stops that process, and neither the spawner
//! nor whoever waits here beyond a deadline. Of a clone, which this runner made, what lies in it.
//!
//! Not here: which files matter, and building from them (`build`).

use crate::beneath;
use crate::context::Context;
use crate::failure::Failed;
use crate::record::Uid;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_image::build::{Folder, Tree};
use boatyard_sandbox::spec::User;
use boatyard_sandbox::view::View;
use rustix::fs::OFlags;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a file may take to read: one that takes longer is on a file system that hangs.
const DEADLINE: Duration = Duration::from_secs(40);

/// Where files are read.
#[derive(Clone)]
pub(crate) struct Files {
    context: Context,
    place: Place,
}

#[derive(Clone)]
enum Place {
    /// `host` is this host's `/` as the owner sees it.
    Folder {
        path: PathBuf,
        owner: User,
        host: Arc<View>,
    },
    Clone {
        root: PathBuf,
    },
}

/// The same path below `/`.
fn below(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

impl Files {
    /// Of an environment whose source is in place.
    pub(crate) async fn of(
        context: &Context,
        uid: &Uid,
        spec: &EnvironmentSpec,
    ) -> Result<Self, Failed> {
        match &spec.source.folder {
            Some(folder) => {
                let owner = super::owner(spec)?;
                Self::folder(context, PathBuf::from(folder.opened()), owner).await
            }
            None => Ok(Self {
                context: context.clone(),
                place: Place::Clone {
                    root: context.layout.environment(uid).workspace(),
                },
            }),
        }
    }

    /// Of a folder on this host.
    pub(crate) async fn folder(
        context: &Context,
        path: PathBuf,
        owner: User,
    ) -> Result<Self, Failed> {
        let sandboxes = context.sandboxes.clone();
        let host = context
            .blocking(move || sandboxes.view(owner, Path::new("/")))
            .await
            .map_err(|error| Failed::internal(&error))?;
        let host = Arc::new(host);
        Ok(Self {
            context: context.clone(),
            place: Place::Folder { path, owner, host },
        })
    }

    /// What the files are read for.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Whose rights read a folder of this host; None for a clone.
    pub(crate) fn owner(&self) -> Option<User> {
        match &self.place {
            Place::Folder { owner, .. } => Some(*owner),
            Place::Clone { .. } => None,
        }
    }

    /// Where a clone lies.
    pub(crate) fn clone_root(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder { .. } => None,
            Place::Clone { root } => Some(root),
        }
    }

    /// Blocking work with a deadline: what is not back by then is left to itself.
    async fn within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        match tokio::time::timeout(DEADLINE, self.context.blocking(work)).await {
            Ok(done) => done,
            Err(_) => Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the file system does not answer",
            )),
        }
    }

    /// Connects to a unix socket by its absolute path, with the owner's rights. Blocking.
    pub(crate) fn connect(&self, path: &Path) -> std::io::Result<UnixStream> {
        match &self.place {
            Place::Folder { host, .. } => host.connect(&below(path)),
            Place::Clone { .. } => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads one file; None when there is none.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<String>, Failed> {
        let read = match &self.place {
            Place::Clone { .. } if path.starts_with('/') => Ok(None),
            Place::Clone { root } => beneath::read(root, path),
            Place::Folder {
                path: folder, host, ..
            } => {
                let (host, wanted) = (Arc::clone(host), below(&folder.join(path)));
                self.within(move || match host.stat(&wanted, true)? {
                    Some(_) => beneath::text(host.open(&wanted)?).map(Some),
                    None => Ok(None),
                })
                .await
            }
        };
        read.map_err(|error| {
            let message = format!("{path} cannot be read: {error}");
            if is_lost(&error) {
                return Failed::transient("Internal", message);
            }
            Failed::lasting("ConfigurationUnreadable", message)
        })
    }

    /// Reads a file by the path it has beside the local workspace folder: of a clone, only what
    /// lies in it.
    pub(crate) async fn read_host(
        &self,
        path: &str,
        workspace: &str,
    ) -> Result<Option<String>, Failed> {
        match &self.place {
            Place::Folder { .. } => self.read(path).await,
            Place::Clone { .. } => {
                let below = path
                    .strip_prefix(workspace.trim_end_matches('/'))
                    .and_then(|below| below.strip_prefix('/'));
                match below {
                    Some(below) => self.read(below).await,
                    None => Ok(None),
                }
            }
        }
    }

    /// Which candidate paths exist, in discovery order.
    pub(crate) async fn candidates(&self) -> Result<Vec<String>, Failed> {
        let mut found = Vec::new();
        for candidate in boatyard_devcontainer::FIXED_CANDIDATES {
            if self.read(candidate).await?.is_some() {
                found.push(candidate.to_owned());
            }
        }
        for name in self.directories(".devcontainer").await? {
            let candidate = format!(".devcontainer/{name}/devcontainer.json");
            match self.read(&candidate).await {
                Ok(Some(_)) => found.push(candidate),
                // One that cannot be read is none; one that nobody could look at is unknown.
                Err(failed) if failed.transient => return Err(failed),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(found)
    }

    /// Names in a folder; none when it cannot be listed.
    async fn directories(&self, path: &str) -> Result<Vec<String>, Failed> {
        match &self.place {
            Place::Clone { root } => {
                let opened =
                    File::open(root).and_then(|root| beneath::open(&root, path, OFlags::DIRECTORY));
                let names = opened.and_then(|directory| beneath::names(&directory));
                Ok(names.unwrap_or_default())
            }
            Place::Folder {
                path: folder, host, ..
            } => {
                let (host, wanted) = (Arc::clone(host), below(&folder.join(path)));
                let listed = self.within(move || host.list(&wanted)).await;
                match listed {
                    Err(error) if is_lost(&error) => Err(Failed::transient(
                        "Internal",
                        format!("{} cannot be read: {error}", folder.join(path).display()),
                    )),
                    listed => {
                        let entries = listed.unwrap_or_default().into_iter();
                        let mut names: Vec<String> = entries
                            .filter_map(|(name, _)| name.into_string().ok())
                            .collect();
                        names.sort();
                        Ok(names)
                    }
                }
            }
        }
    }

    /// The workspace folder as a tree.
    pub(crate) async fn tree(&self) -> Result<Arc<dyn Tree>, Failed> {
        let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
            Failed::lasting(
                "SourceUnreadable",
                format!("the folder {} cannot be read: {error}", path.display()),
            )
        };
        match &self.place {
            Place::Folder { path, owner, .. } => {
                let (sandboxes, wanted) = (self.context.sandboxes.clone(), path.clone());
                let owner = *owner;
                let view = self
                    .context
                    .blocking(move || sandboxes.view(owner, &wanted))
                    .await;
                Ok(Arc::new(view.map_err(|error| match error {
                    boatyard_sandbox::Error::OpenAs { .. } => unreadable(path, &error),
                    // Whoever was to read it is gone.
                    error => Failed::internal(&error),
                })?))
            }
            Place::Clone { root } => {
                let folder = Folder::open(root).map_err(|error| unreadable(root, &error))?;
                Ok(Arc::new(folder))
            }
        }
    }
}

/// The process that reads did not answer: nothing is known of what was to be read.
pub(crate) fn is_lost(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, TimedOut};
    matches!(error.kind(), TimedOut | BrokenPipe)
}

//! Fetches the Features a devcontainer.json asks for.
//!
//! The thinking is boatyard-devcontainer's: this gives its `Resolver` what it
//! needs, side by side, from registries, URLs and the folder beside the file.
//! Whose rights the local files are read with is the [`Local`]'s business.
//!
//! Read next: `artifact`.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boatyard_devcontainer::features::{
    Found, Lockfile, Metadata, Need, Reference, Request, Requested, Resolution, Resolver,
    context_name,
};
use tokio::task::JoinSet;

use crate::artifact::{Artifact, Artifacts, Content, Folder, METADATA};
use crate::build::{Context, Kind as TreeKind, Tree};
use crate::error::Unreachable;
use crate::images::blocking;
use crate::{Error, artifact};

const METADATA_FILE: &str = "devcontainer-feature.json";
/// Fetched at once.
const SIDE_BY_SIDE: usize = 8;

/// The files of the workspace that local Features are in.
pub trait Local: Send + Sync + 'static {
    /// A text file by its path in the workspace; None when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn text(&self, path: &str) -> io::Result<Option<String>>;

    /// All below a folder of the workspace.
    ///
    /// # Errors
    /// It cannot be read, or holds something else than files, folders and links that stay inside.
    fn folder(&self, path: &str) -> io::Result<Folder>;
}

/// Local files read with the rights of this process.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// `root` is the workspace folder.
    #[must_use]
    pub fn new(root: &Path) -> Directory {
        Directory {
            root: root.to_owned(),
        }
    }
}

impl Local for Directory {
    fn text(&self, path: &str) -> io::Result<Option<String>> {
        let mut text = String::new();
        let most = boatyard_devcontainer::TEXT_LIMIT as u64 + 1;
        match std::fs::File::open(self.root.join(path)) {
            Ok(file) => file.take(most).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(text))
    }

    fn folder(&self, path: &str) -> io::Result<Folder> {
        Folder::read(&self.root.join(path))
    }
}

/// Local files of a tree: with the rights of whoever the tree is served to.
pub struct Files {
    tree: Arc<dyn Tree>,
}

impl Files {
    /// The tree's root is the workspace folder.
    #[must_use]
    pub fn new(tree: Arc<dyn Tree>) -> Files {
        Files { tree }
    }

    fn add(&self, into: &mut Folder, root: &Path, below: &str, left: &mut u64) -> io::Result<()> {
        let refused = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        for (name, meta) in self.tree.list(&root.join(below))? {
            let name = name
                .into_string()
                .map_err(|_| refused(format!("a name in {below:?} is no text")))?;
            let path = match below {
                "" => name,
                _ => format!("{below}/{name}"),
            };
            let full = root.join(&path);
            let content = match meta.kind {
                TreeKind::Directory => Content::Folder,
                TreeKind::File => {
                    let mut bytes = Vec::new();
                    self.tree
                        .open(&full)?
                        .take(*left + 1)
                        .read_to_end(&mut bytes)?;
                    *left = left
                        .checked_sub(bytes.len() as u64)
                        .ok_or_else(|| refused("it is too large for a Feature".to_owned()))?;
                    let executable = meta.mode & 0o111 != 0;
                    Content::File { bytes, executable }
                }
                TreeKind::Symlink => {
                    let target = self.tree.read_link(&full)?;
                    let target = target.into_string().unwrap_or_default();
                    artifact::folder::link(&path, &target)
                        .map_err(|problem| refused(format!("{path} {problem}")))?
                }
                TreeKind::Other => {
                    return Err(refused(format!("{path} is neither a file nor a folder")));
                }
            };
            let is_folder = content == Content::Folder;
            if path.split('/').count() > artifact::folder::DEPTH_LIMIT {
                return Err(refused(format!("{path} lies too deep")));
            }
            into.add(path.clone(), content).map_err(refused)?;
            if is_folder {
                self.add(into, root, &path, left)?;
            }
        }
        Ok(())
    }
}

impl Local for Files {
    fn text(&self, path: &str) -> io::Result<Option<String>> {
        let path = Path::new(path);
        if self.tree.stat(path, true)?.is_none() {
            return Ok(None);
        }
        let mut text = String::new();
        let most = boatyard_devcontainer::TEXT_LIMIT as u64 + 1;
        let file = self.tree.open(path)?;
        file.take(most).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    fn folder(&self, path: &str) -> io::Result<Folder> {
        let mut folder = Folder::default();
        let mut left = artifact::folder::BYTES_LIMIT as u64;
        self.add(&mut folder, Path::new(path), "", &mut left)?;
        Ok(folder)
    }
}

/// What one need came to.
#[derive(Debug, Clone)]
enum Fetched {
    Artifact(Artifact),
    /// What was read already.
    Folder(Arc<Folder>),
    /// Not read yet.
    Local,
}

/// The Features to install, in order, and where their files are.
#[derive(Debug, Clone)]
pub struct Features {
    /// In the order of installation.
    pub resolution: Resolution,
    fetched: BTreeMap<Need, Fetched>,
    artifacts: Artifacts,
}

impl Features {
    /// Finds out which Features there are and in what order they are installed.
    ///
    /// # Errors
    /// Names the Feature, where it is asked for, and what is wrong.
    pub async fn resolve(
        artifacts: &Artifacts,
        request: Request,
        lockfile: Option<Lockfile>,
        local: Arc<dyn Local>,
    ) -> Result<Features, Error> {
        let mut resolver = Resolver::new(request, lockfile)?;
        let mut fetched = BTreeMap::new();
        loop {
            let needs = resolver.needs()?;
            if needs.is_empty() {
                break;
            }
            let turns = Arc::new(tokio::sync::Semaphore::new(SIDE_BY_SIDE));
            let mut fetches = JoinSet::new();
            for (at, (need, requested)) in needs.into_iter().enumerate() {
                let (artifacts, local) = (artifacts.clone(), Arc::clone(&local));
                let turns = Arc::clone(&turns);
                fetches.spawn(async move {
                    let _turn = turns.acquire_owned().await;
                    let outcome = fetch(&artifacts, &need, &requested, local).await;
                    (at, need, outcome)
                });
            }
            let mut outcomes = Vec::new();
            while let Some(outcome) = fetches.join_next().await {
                outcomes.push(outcome.map_err(|_| Error::Ended {
                    doing: "fetch a Feature",
                })?);
            }
            // The first that fails in the file's order, not in time's.
            outcomes.sort_by_key(|(at, _, _)| *at);
            for (_, need, outcome) in outcomes {
                let (found, content) = outcome?;
                fetched.insert(need.clone(), content);
                resolver.give(need, found);
            }
        }
        Ok(Features {
            resolution: resolver.finish()?,
            fetched,
            artifacts: artifacts.clone(),
        })
    }

    /// The files of all Features, in the order of installation.
    ///
    /// # Errors
    /// As [`Features::resolve`].
    pub async fn folders(&self, local: Arc<dyn Local>) -> Result<Vec<Arc<Folder>>, Error> {
        let mut folders = Vec::with_capacity(self.resolution.order.len());
        for resolved in &self.resolution.order {
            let requested = Requested {
                id: resolved.id.clone(),
                options: resolved.options.clone(),
                location: resolved.location.clone(),
            };
            let folder = match (&resolved.need.reference, self.fetched.get(&resolved.need)) {
                (_, Some(Fetched::Folder(folder))) => Arc::clone(folder),
                (Reference::Oci(reference), Some(Fetched::Artifact(artifact))) => self
                    .artifacts
                    .folder(reference, artifact)
                    .await
                    .map(Arc::new)
                    .map_err(|error| unreachable(&requested, error, String::new()))?,
                (Reference::Local { path }, _) => {
                    let (path, local) = (path.clone(), Arc::clone(&local));
                    let read = blocking("read a Feature", move || Ok(local.folder(&path)));
                    let folder = read.await?.map_err(|error| {
                        let reason = format!("cannot be read ({error})");
                        boatyard_devcontainer::Error::feature(&requested, &reason)
                    })?;
                    Arc::new(folder)
                }
                _ => {
                    let reason = "was resolved but not fetched";
                    return Err(boatyard_devcontainer::Error::feature(&requested, reason).into());
                }
            };
            if !matches!(
                folder.entries.get("install.sh"),
                Some(Content::File { .. } | Content::Link(_))
            ) {
                let reason = "has no install.sh; add one, or tell its author";
                return Err(boatyard_devcontainer::Error::feature(&requested, reason).into());
            }
            folders.push(folder);
        }
        Ok(folders)
    }
}

impl Features {
    /// The build contexts of the steps that install them, by name.
    ///
    /// # Errors
    /// As [`Features::folders`].
    pub async fn contexts(
        &self,
        local: Arc<dyn Local>,
    ) -> Result<BTreeMap<String, Context>, Error> {
        let mut contexts = BTreeMap::new();
        for (place, folder) in self.folders(local).await?.into_iter().enumerate() {
            let path = self.artifacts.directory(folder).await?;
            let context = Context::folder(&path).map_err(Error::io("open", &path))?;
            contexts.insert(context_name(place), context);
        }
        Ok(contexts)
    }
}

async fn fetch(
    artifacts: &Artifacts,
    need: &Need,
    requested: &Requested,
    local: Arc<dyn Local>,
) -> Result<(Found, Fetched), Error> {
    let pinned = need.pinned.as_deref();
    let refuse = |reason: &str| boatyard_devcontainer::Error::feature(requested, reason);
    let missing = || {
        refuse(&format!(
            "has no {METADATA_FILE}; check that it is a Feature"
        ))
    };
    let parse = |name: &str, text: &str| Metadata::parse(name, text).map(Arc::new);
    match &need.reference {
        Reference::Oci(reference) => {
            let artifact = match artifacts.manifest(reference, pinned).await {
                Ok(artifact) => artifact,
                Err(error) => {
                    let remembered = match pinned {
                        None => artifacts.remembered(reference).await,
                        Some(_) => None,
                    };
                    let offer = remembered.map(|digest| {
                        format!(
                            "; {}@{digest}, fetched earlier, is still here: name it in devcontainer-lock.json or in place of the version to use it",
                            reference.resource()
                        )
                    });
                    return Err(unreachable(requested, error, offer.unwrap_or_default()));
                }
            };
            let name = format!("{METADATA_FILE} of {reference}");
            let (metadata, content) = match artifact.annotations.get(METADATA) {
                Some(text) => (parse(&name, text)?, Fetched::Artifact(artifact.clone())),
                None => {
                    let folder = artifacts.folder(reference, &artifact).await;
                    let folder =
                        folder.map_err(|error| unreachable(requested, error, String::new()))?;
                    let text = folder.text(METADATA_FILE).ok_or_else(missing)?;
                    (parse(&name, text)?, Fetched::Folder(Arc::new(folder)))
                }
            };
            let digest = Some(artifact.digest);
            Ok((Found { digest, metadata }, content))
        }
        Reference::Tarball { url } => {
            let (digest, folder) = artifacts
                .tarball(url, pinned)
                .await
                .map_err(|error| unreachable(requested, error, String::new()))?;
            let text = folder.text(METADATA_FILE).ok_or_else(missing)?;
            let metadata = parse(&format!("{METADATA_FILE} of {url}"), text)?;
            let digest = Some(digest);
            Ok((
                Found { digest, metadata },
                Fetched::Folder(Arc::new(folder)),
            ))
        }
        Reference::Local { path } => {
            let file = format!("{path}/{METADATA_FILE}");
            let name = file.clone();
            let read = blocking("read a Feature", move || Ok(local.text(&file)));
            let text = read
                .await?
                .map_err(|error| refuse(&format!("cannot be read ({error})")))?;
            let text =
                text.ok_or_else(|| refuse(&format!("is not there: {name} does not exist")))?;
            let metadata = parse(&name, &text)?;
            let digest = None;
            Ok((Found { digest, metadata }, Fetched::Local))
        }
    }
}

/// An error of a fetch, with the place where what was fetched is asked for.
fn unreachable(requested: &Requested, cause: Error, offer: String) -> Error {
    Error::FeatureUnreachable(Box::new(Unreachable {
        place: requested.location.to_string(),
        id: requested.id.clone(),
        cause,
        offer,
        excerpt: requested.location.excerpt(),
    }))
}

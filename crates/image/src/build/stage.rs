//! One stage: its steps in order, each found in the cache or done, on the layers so far.
//!
//! A step's key is the digest of the layers below it and of exactly what it reads: for a copy the
//! files that matched, for a process its arguments, variables, user, folder, network and the files
//! bound to it. Secrets, cache mounts and the step's text are in no key. Where equal steps give
//! equal layers, what comes after them is found too.
//!
//! Blocking.

use super::arrange::{self, Source};
use super::cache::Made as Entry;
use super::copy::{Changes, Writer};
use super::merged::Merged;
use super::mounts::{self, CacheMount, Kept, Mounted, Secrets};
use super::output::{Made, Past};
use super::owner::{Chmod, Owner};
use super::progress::{Event, Outcome};
use super::run::{self, Cancel, Place};
use super::snapshot;
use super::source::{self, Found, Origin as From};
use super::{Build, Context, Shared, invalid};
use crate::Error;
use crate::digest::Digest;
use crate::layers::{LayerId, Staging};
use boatyard_devcontainer::build::{
    Base, Copy, CopySource, Op, Origin, Run, RunMountKind, RunNetwork, Stage, Step,
};
use boatyard_sandbox::spec::Egress;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Of the way keys are made; another one finds nothing of before.
const KEYS: &str = "boatyard build 1";
/// Last bytes of a failed process's output that the error quotes.
const TAIL: usize = 4096;

/// Runs the stages' steps; the stages it reads are finished.
pub(super) fn run(build: &Build, number: usize) -> Result<Made, Error> {
    let stage = build
        .request
        .plan
        .stages
        .get(number)
        .ok_or_else(|| invalid("a stage is missing"))?;
    let mut made = match &stage.base {
        Base::Scratch | Base::Context(_) => Made::default(),
        Base::Image(reference) => build
            .bases
            .get(reference)
            .map(|based| based.made.clone())
            .ok_or_else(|| invalid("a base image is missing"))?,
        Base::Stage(number) => build
            .finished(*number)
            .map(|made| made.as_ref().clone())
            .ok_or_else(|| invalid("a base stage is missing"))?,
    };
    let whole_context = match &stage.base {
        Base::Context(name) => Some(Step {
            text: format!("FROM {name}"),
            location: None,
            op: Op::Copy(Copy {
                sources: vec![CopySource::Files {
                    from: Origin::Context(name.clone()),
                    pattern: "/".to_owned(),
                }],
                destination: "/".to_owned(),
                chown: None,
                chmod: None,
                link: false,
                parents: false,
                exclude: Vec::new(),
                unpack: false,
            }),
        }),
        _ => None,
    };
    let total = stage.steps.len() + 1;
    for (at, step) in whole_context.iter().chain(&stage.steps).enumerate() {
        let name = if build.request.plan.stages.len() == 1 {
            format!("[{}/{total}] {}", at + 2, step.text)
        } else {
            format!("[{} {}/{total}] {}", label(stage), at + 2, step.text)
        };
        let work = Work {
            build,
            step,
            vertex: build.vertices.fetch_add(1, Ordering::Relaxed) + 1,
            below: made.layers.clone(),
        };
        build.progress.event(Event::Began {
            vertex: work.vertex,
            name,
        });
        let began = Instant::now();
        let outcome = work.carry_out();
        build.progress.event(Event::Ended {
            vertex: work.vertex,
            outcome: match &outcome {
                Ok((_, true)) => Outcome::Cached,
                Ok((_, false)) => Outcome::Done,
                Err(_) => Outcome::Failed,
            },
            took: began.elapsed(),
        });
        let (entry, _) = outcome?;
        made.layers.extend(entry.layer.clone());
        made.past.push(Past {
            created: entry.created,
            text: step.text.clone(),
            layer: entry.layer,
        });
    }
    Ok(made)
}

fn label(stage: &Stage) -> String {
    if stage.name.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("stage-{}", stage.name)
    } else {
        stage.name.clone()
    }
}

pub(super) fn fetch_context(
    shared: &Shared,
    egress: Option<&Egress>,
    source: &CopySource,
    cancel: &Cancel,
) -> Result<Context, Error> {
    let failed = |error: io::Error| super::invalid(&error.to_string());
    let staging = shared.images.inner.store.stage()?;
    let into = staging.path().join("fetched");
    std::fs::create_dir(&into).map_err(Error::io("make", &into))?;
    let runs = shared.folder.join("runs");
    let place = fetching(shared, egress, &runs, cancel);
    let fetched = super::fetch::fetch(&place, source, &into).map_err(failed)?;
    let below = format!("./{}", fetched.pattern.trim_start_matches('/'));
    let root = std::fs::File::open(&fetched.folder).map_err(failed)?;
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

/// One step on the layers below it, bottom first.
struct Work<'a> {
    build: &'a Build,
    step: &'a Step,
    vertex: u32,
    below: Vec<LayerId>,
}

/// Feeds a key: each part with its length, so that no two lists of parts read the same.
struct Key(Sha256);

impl Key {
    fn put(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        self.put(&serde_json::to_vec(value).unwrap_or_default());
    }
}

impl Work<'_> {
    /// What came of it, and whether that was there.
    fn carry_out(&self) -> Result<(Entry, bool), Error> {
        if self.build.cancel.cancelled() {
            return Err(self.failed(&run::cancelled()));
        }
        let mut key = Key(Sha256::new());
        key.put(KEYS.as_bytes());
        key.put(
            self.build
                .shared
                .images
                .inner
                .options
                .architecture
                .as_bytes(),
        );
        match &self.step.op {
            Op::MakeDirectory { path, user } => {
                self.key_below(&mut key);
                key.put(b"directory");
                key.put(path.as_bytes());
                key.put(user.as_bytes());
                self.once(key, |staging| self.make_directory(staging, path, user))
            }
            Op::Copy(copy) => self.copy(copy, key),
            Op::Run(run) => self.run(run, key),
        }
    }

    fn key_below(&self, key: &mut Key) {
        key.json(&self.below);
    }

    /// Finds the key's layer, or makes it in staging and gives it a name.
    fn once(
        &self,
        key: Key,
        work: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(Entry, bool), Error> {
        let key = Digest::from_hasher(key.0);
        let (entry, found) = self.found_or_made(&key, work)?;
        let mut made = self
            .build
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        made.push((key, entry.clone()));
        Ok((entry, found))
    }

    /// Looks into the registries that serve as caches; what one has is fetched.
    fn elsewhere(&self, key: &Digest) -> Option<Entry> {
        let inner = &self.build.shared.images.inner;
        for remote in &self.build.remotes {
            let Some(entry) = remote.get(key) else {
                continue;
            };
            let Some(layer) = &entry.layer else {
                return Some(entry);
            };
            let fetched = self.build.hold(layer).and_then(|()| {
                if inner.store.has(layer) {
                    return Ok(());
                }
                self.build.runtime.block_on(remote.fetch(inner, layer))
            });
            match fetched {
                Ok(()) => return Some(entry),
                Err(error) => self.build.progress.event(Event::Note {
                    vertex: self.vertex,
                    text: format!("not from the cache: {}", crate::error::chain(&error)),
                }),
            }
        }
        None
    }

    fn found_or_made(
        &self,
        key: &Digest,
        work: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(Entry, bool), Error> {
        let inner = &self.build.shared.images.inner;
        if !self.build.request.no_cache
            && let Some(entry) = inner.cache.get(key)
        {
            match &entry.layer {
                None => return Ok((entry, true)),
                Some(layer) => {
                    self.build.hold(layer)?;
                    if inner.store.has(layer) {
                        return Ok((entry, true));
                    }
                }
            }
        }
        if !self.build.request.no_cache
            && let Some(entry) = self.elsewhere(key)
        {
            inner.cache.put(key, &entry)?;
            return Ok((entry, true));
        }
        let staging = inner.store.stage()?;
        let tree = staging.path().join("tree");
        std::fs::create_dir(&tree).map_err(Error::io("make", &tree))?;
        crate::layers::set_mode(&tree, 0o755)?;
        work(staging.path())?;
        if self.build.cancel.cancelled() {
            return Err(self.failed(&run::cancelled()));
        }
        let taken = snapshot::take(staging.path(), &inner.options.limits)
            .map_err(|error| self.failed(&error))?;
        let layer = match taken {
            None => None,
            Some((id, facts)) => {
                self.build.hold(&id)?;
                inner.store.adopt(staging, id.clone(), facts)?;
                Some(id)
            }
        };
        let entry = Entry {
            layer,
            created: crate::images::now(),
        };
        inner.cache.put(key, &entry)?;
        Ok((entry, false))
    }

    /// Topmost first, each once, as overlayfs takes them.
    fn layers(&self, ids: &[LayerId]) -> Vec<PathBuf> {
        let mut layers: Vec<PathBuf> = Vec::new();
        for id in ids.iter().rev() {
            let tree = self.build.shared.images.inner.store.tree(id);
            if !layers.contains(&tree) {
                layers.push(tree);
            }
        }
        layers
    }

    fn merged(&self) -> Merged {
        Merged::new(self.layers(&self.below))
    }

    fn make_directory(&self, staging: &Path, path: &str, user: &str) -> Result<(), Error> {
        let below = self.merged();
        let work = || -> io::Result<()> {
            let owner = Owner::parse(user, &below)?;
            let mut writer = Writer::new(&staging.join("tree"), &below)?;
            writer.make_folder(Path::new(path), owner, false)?;
            writer.finish()
        };
        work().map_err(|error| self.failed(&error))
    }

    fn origin(&self, from: &Origin) -> Result<From, Error> {
        let build = self.build;
        let of_layers = |layers: &[LayerId], name: String| From {
            tree: std::sync::Arc::new(Merged::new(self.layers(layers))),
            digests: std::sync::Arc::clone(&build.layer_digests),
            ignore: None,
            keeps_owners: true,
            name,
        };
        match from {
            Origin::Context(name) => {
                match (build.request.contexts.get(name), build.digests.get(name)) {
                    (Some(context), Some(digests)) => {
                        Ok(From::of(context, std::sync::Arc::clone(digests), name))
                    }
                    _ => Err(self.failed(&io::Error::other(format!(
                        "there is no build context named {name:?}; give one with --build-context"
                    )))),
                }
            }
            Origin::Stage(number) => {
                let made = build
                    .finished(*number)
                    .ok_or_else(|| invalid("a stage is read before it is made"))?;
                let name = build.request.plan.stages.get(*number).map(label);
                let name = format!("stage {}", name.unwrap_or_default());
                Ok(of_layers(&made.layers, name))
            }
            Origin::Image(reference) => {
                let based = build
                    .bases
                    .get(reference)
                    .ok_or_else(|| invalid("an image is read before it is here"))?;
                Ok(of_layers(&based.made.layers, format!("image {reference}")))
            }
        }
    }

    fn copy(&self, copy: &Copy, mut key: Key) -> Result<(Entry, bool), Error> {
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
        let fetched = super::fetch::fetch(&place, source, &into).map_err(failed)?;
        let origin = From {
            tree: std::sync::Arc::new(super::Folder::open(&fetched.folder).map_err(failed)?),
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

    fn run(&self, op: &Run, mut key: Key) -> Result<(Entry, bool), Error> {
        let failed = |error: io::Error| self.failed(&error);
        self.key_below(&mut key);
        key.put(b"run");
        key.json(&(&op.argv, &op.env, &op.cwd, &op.user, &op.files));
        key.put(&[match op.network {
            RunNetwork::Default => 0,
            RunNetwork::None => 1,
        }]);
        // Found before the cache is asked: what is bound is read.
        let mut bound = Vec::new();
        for mount in &op.mounts {
            let (from, path) = match &mount.kind {
                RunMountKind::Bind { from, source, .. } => (from, source),
                RunMountKind::Cache {
                    from: Some((from, path)),
                    ..
                } => (from, path),
                _ => {
                    bound.push(None);
                    continue;
                }
            };
            let origin = self.origin(from)?;
            let found = mounts::one(&origin, path).map_err(failed)?;
            if let RunMountKind::Bind { writable, .. } = &mount.kind {
                key.put(b"bind");
                key.put(mount.target.as_bytes());
                key.put(&[u8::from(*writable)]);
                let found = std::slice::from_ref(&found);
                source::digest(found, origin.keeps_owners, false, &mut key.0);
            }
            bound.push(Some((origin, found)));
        }
        self.once(key, |staging| self.run_process(op, &bound, staging))
    }

    fn run_process(
        &self,
        op: &Run,
        bound: &[Option<(From, Found)>],
        staging: &Path,
    ) -> Result<(), Error> {
        let shared = &self.build.shared;
        let below = self.merged();
        let tree = staging.join("tree");
        let work = staging.join("work");
        let mut layers = self.layers(&self.below);
        if layers.is_empty() {
            layers.push(shared.folder.join("empty"));
        }
        let mut tail = Vec::new();
        let prepare = || -> io::Result<()> {
            std::fs::create_dir(&work)?;
            let mut writer = Writer::new(&tree, &below)?;
            if !op.cwd.is_empty() {
                writer.make_folder(Path::new(&op.cwd), Owner::ROOT, false)?;
            }
            writer.finish()
        };
        prepare().map_err(|error| self.failed(&error))?;
        let runs = shared.folder.join("runs");
        let place = Place {
            host: &*shared.host,
            agent: &shared.agent,
            runs: &runs,
            limits: shared.policy.limits,
            network: shared.policy.network,
            egress: self.build.egress.as_deref(),
            env: &shared.policy.env,
            cancel: &self.build.cancel,
            layers,
            upper: tree.clone(),
            work: work.clone(),
        };
        let op = &*run::shortened(op);
        let outcome = run::run(
            &place,
            op,
            &|id_base| self.mounts(op, bound, id_base),
            &mut |bytes| {
                keep_tail(&mut tail, bytes);
                self.build.progress.event(Event::Output {
                    vertex: self.vertex,
                    bytes: bytes.to_vec(),
                });
            },
        );
        match outcome {
            Ok(0) => {}
            Ok(code) => return Err(self.exited(code, &tail)),
            Err(error) => return Err(self.failed(&error)),
        }
        let targets: Vec<PathBuf> = op
            .mounts
            .iter()
            .map(|mount| PathBuf::from(&mount.target))
            .chain(op.files.iter().map(|file| PathBuf::from(&file.path)))
            .collect();
        let tidy = || -> io::Result<()> {
            std::fs::remove_dir_all(&work)?;
            mounts::clean(&tree, &below, &targets)
        };
        tidy().map_err(|error| self.failed(&error))
    }

    fn stage(&self) -> io::Result<Staging> {
        let store = &self.build.shared.images.inner.store;
        store.stage().map_err(io::Error::other)
    }

    fn mounts(
        &self,
        op: &Run,
        bound: &[Option<(From, Found)>],
        id_base: u32,
    ) -> io::Result<Mounted> {
        let mut mounted = Mounted::default();
        let mut secrets: Option<Secrets> = None;
        if !op.files.is_empty() {
            mounts::inline(self.stage()?, &op.files, &mut mounted)?;
        }
        for (mount, bound) in op.mounts.iter().zip(bound) {
            match &mount.kind {
                RunMountKind::Bind { writable, .. } => {
                    if let Some((origin, found)) = bound {
                        let staging = self.stage()?;
                        mounts::bind(
                            staging,
                            origin,
                            found,
                            &mount.target,
                            *writable,
                            &mut mounted,
                        )?;
                    }
                }
                RunMountKind::Cache {
                    id,
                    read_only,
                    sharing,
                    mode,
                    uid,
                    gid,
                    ..
                } => CacheMount {
                    id,
                    target: &mount.target,
                    read_only: *read_only,
                    sharing: *sharing,
                    mode: *mode,
                    owner: Owner {
                        uid: *uid,
                        gid: *gid,
                    },
                    begins_with: bound.as_ref().map(|(origin, found)| (origin, found)),
                }
                .mount(&self.build.shared.folder.join("mounts"), &mut mounted)?,
                RunMountKind::Tmpfs { size } => {
                    mounted.mounts.push(boatyard_sandbox::spec::Mount {
                        source: boatyard_sandbox::spec::MountSource::Tmpfs {
                            size: *size,
                            mode: 0o1777,
                        },
                        target: (&mount.target).into(),
                        read_only: false,
                    });
                }
                RunMountKind::Secret {
                    id,
                    env,
                    as_file,
                    required,
                    mode,
                    uid,
                    gid,
                } => {
                    let Some(value) = self.build.request.secrets.get(id) else {
                        if *required {
                            return Err(io::Error::other(format!(
                                "it needs the secret {id:?}; give it with --secret id={id},src=FILE"
                            )));
                        }
                        continue;
                    };
                    if let Some(name) = env {
                        let value = String::from_utf8_lossy(value).into_owned();
                        mounted.env.push((name.clone(), value));
                    }
                    if *as_file || env.is_none() {
                        let secrets = match &mut secrets {
                            Some(secrets) => secrets,
                            none => none.insert(Secrets::new()?),
                        };
                        let owner = Owner {
                            uid: *uid,
                            gid: *gid,
                        };
                        mounted.mounts.push(boatyard_sandbox::spec::Mount {
                            source: secrets.add(value, *mode, owner, id_base)?,
                            target: (&mount.target).into(),
                            read_only: true,
                        });
                    }
                }
                RunMountKind::Ssh {
                    id,
                    required,
                    mode,
                    uid,
                    gid,
                } => {
                    let Some(agent) = self.build.request.ssh.get(id) else {
                        if *required {
                            return Err(io::Error::other(format!(
                                "it needs the SSH agent {id:?}; give yours with --ssh {id}"
                            )));
                        }
                        continue;
                    };
                    let owner = Owner {
                        uid: *uid,
                        gid: *gid,
                    };
                    let agent = Arc::clone(agent);
                    mounts::ssh(
                        self.stage()?,
                        agent,
                        (*mode, owner),
                        &mount.target,
                        &mut mounted,
                    )?;
                }
            }
        }
        mounted.kept.extend(secrets.map(Kept::Secrets));
        Ok(mounted)
    }

    fn place(&self) -> String {
        match &self.step.location {
            Some(location) => format!("{location}: "),
            None => String::new(),
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return Error::NoSpace {
                image: self.step.text.clone(),
                path: self.build.shared.folder.clone(),
                free: 0,
            };
        }
        Error::Step {
            place: self.place(),
            step: self.step.text.clone(),
            problem: crate::error::chain(error),
            exit_code: None,
        }
    }

    fn exited(&self, code: i32, tail: &[u8]) -> Error {
        let tail = String::from_utf8_lossy(tail);
        let tail = tail.trim_end();
        let said = if tail.is_empty() {
            ", and it printed nothing".to_owned()
        } else {
            format!("; it printed last:\n{tail}")
        };
        Error::Step {
            place: self.place(),
            step: self.step.text.clone(),
            problem: format!("exit code {code}{said}"),
            exit_code: Some(code),
        }
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    if tail.len() > 2 * TAIL {
        tail.drain(..tail.len() - TAIL);
    }
}

//! A step that is a process: what it sees, how it is run, and what it leaves in its layer.

use super::Work;
use super::keyed::Key;
use crate::Error;
use crate::build::cache::Made as Entry;
use crate::build::copy::Writer;
use crate::build::mounts::{self, CacheMount, Kept, Mounted, Secrets};
use crate::build::owner::Owner;
use crate::build::progress::Event;
use crate::build::run::{self, Place};
use crate::build::source::{self, Found, Origin as From};
use boatyard_devcontainer::build::{Run, RunMountKind, RunNetwork};
use boatyard_sandbox::spec::{Mount, MountSource};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Last bytes of a failed process's output that the error quotes.
const TAIL: usize = 4096;

impl Work<'_> {
    pub(super) fn run(&self, op: &Run, mut key: Key) -> Result<(Entry, bool), Error> {
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
                    mounted.mounts.push(Mount {
                        source: MountSource::Tmpfs {
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
                        mounted.mounts.push(Mount {
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

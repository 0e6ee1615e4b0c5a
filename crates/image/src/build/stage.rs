//! One stage: its steps in order, each found in the cache or done, on the layers so far.
//!
//! A step's key is the digest of the layers below it and of exactly what it reads: for a copy the
//! files that matched, for a process its arguments, variables, user, folder, network and the files
//! bound to it. Secrets, cache mounts and the step's text are in no key. Where equal steps give
//! equal layers, what comes after them is found too.
//!
//! Finding a step's layer or giving it its name is [`keyed`]'s business, copies are [`copying`]'s,
//! processes [`process`]'s.
//!
//! Blocking.

mod copying;
mod keyed;
mod process;

pub(super) use copying::fetch_context;

use super::cache::Made as Entry;
use super::copy::Writer;
use super::merged::Merged;
use super::output::{Made, Past};
use super::owner::Owner;
use super::progress::{Event, Outcome};
use super::run;
use super::source::Origin as From;
use super::{Build, invalid};
use crate::Error;
use crate::layers::{LayerId, Staging};
use boatyard_devcontainer::build::{Base, Copy, CopySource, Op, Origin, Stage, Step};
use keyed::Key;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

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
/// One step on the layers below it, bottom first.
struct Work<'a> {
    build: &'a Build,
    step: &'a Step,
    vertex: u32,
    below: Vec<LayerId>,
}

impl Work<'_> {
    /// What came of it, and whether that was there.
    fn carry_out(&self) -> Result<(Entry, bool), Error> {
        if self.build.cancel.cancelled() {
            return Err(self.failed(&run::cancelled()));
        }
        let options = &self.build.shared.images.inner.options;
        let mut key = Key::of(&options.architecture);
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

    fn stage(&self) -> io::Result<Staging> {
        let store = &self.build.shared.images.inner.store;
        store.stage().map_err(io::Error::other)
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
}

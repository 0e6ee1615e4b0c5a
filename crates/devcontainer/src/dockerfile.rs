//! The Dockerfile language: text in, a build plan out.
//!
//! Owns the language as docker/dockerfile 1 has it, in two phases, because what an image says of
//! itself takes part in what is built on it: [`Dockerfile::needs`] names the images and contexts
//! that the wanted stage reads, [`Dockerfile::plan`] makes the plan from the images'
//! configurations. An `ONBUILD` of a base may ask for more, which `plan` then answers with.
//!
//! Also owns the patterns of `.dockerignore` ([`Ignore`]) and of `COPY` ([`Pattern`]), which whoever
//! reads the files needs. Reads no file itself, fetches nothing and runs nothing.
//!
//! Everything here is untrusted: size, number of instructions, nesting and growth are bounded.
//!
//! Read next: `lines` (text to instructions), `instruction`, `stages`, `evaluate`.

mod budget;
mod env;
mod evaluate;
mod flags;
mod glob;
mod ignore;
mod instruction;
mod lexer;
mod lines;
mod pattern;
mod remote;
mod stages;
mod values;
mod words;

#[cfg(test)]
mod tests;

pub use ignore::Ignore;
pub use pattern::{BadPattern, Pattern};
pub use remote::repository;

use crate::build::{Base, BuildPlan, ImageState, Stage};
use crate::error::{Error, ErrorKind, Warning};
use crate::text::{Source, Span};
use budget::Budget;
use evaluate::{Evaluated, Evaluation};
use instruction::{Grammar, Instruction, Kind};
use stages::{Root, Stages};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use words::Word;

/// Warnings kept of one file.
const WARNING_LIMIT: usize = 100;

/// A Dockerfile whose grammar is right.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    source: Source,
    escape: char,
    /// `ARG` before the first `FROM`.
    arguments: Vec<(Word, Option<Word>)>,
    stages: Vec<StageText>,
    /// Stages by name; the last of a name counts for what stands behind it.
    names: HashMap<String, Vec<usize>>,
    warnings: Vec<Warning>,
}

#[derive(Clone, Debug)]
struct StageText {
    from: instruction::From,
    span: Span,
    instructions: Vec<Instruction>,
}

/// What is built, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The stage wanted, by name or number; None for the last.
    pub target: Option<String>,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// `os/architecture`, as `linux/amd64`.
    pub platform: String,
    /// Named contexts; they stand in place of stages and images of their names.
    pub contexts: BTreeMap<String, NamedContext>,
}

impl Request {
    /// The last stage, without arguments and contexts.
    pub fn new(platform: &str) -> Request {
        Request {
            target: None,
            build_args: BTreeMap::new(),
            platform: platform.to_owned(),
            contexts: BTreeMap::new(),
        }
    }
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// Files: [`crate::build::Origin::Context`] of its name.
    Files,
    /// Another image.
    Image(String),
}

/// What a build reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Images by reference, as written.
    pub images: BTreeSet<String>,
    /// Contexts by name; the main one is the empty name.
    pub contexts: BTreeSet<String>,
}

/// What [`Dockerfile::plan`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything is known.
    Plan(Planned),
    /// These images are read too; ask again with them.
    NeedsMore(BTreeSet<String>),
}

/// A plan and what was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub plan: BuildPlan,
    /// What the plan reads.
    pub needs: Needs,
    /// Works, but was probably not meant; of the file and of this request.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// Reads a file. Its name is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Dockerfile, Error> {
        let source = Source::new(file, text);
        let limit = crate::TEXT_LIMIT;
        if text.len() > limit {
            let what = format!("a Dockerfile has at most {} KiB", limit >> 10);
            return Err(Error::new(
                &source,
                Span::default(),
                ErrorKind::Bounds(what),
            ));
        }
        let fail = |span, what: &str| {
            Err(Error::new(
                &source,
                span,
                ErrorKind::Instruction(what.to_owned()),
            ))
        };
        if let Some(start) = text.find('\0') {
            let end = start + 1;
            return fail(Span { start, end }, "a Dockerfile has no NUL character");
        }
        let budget = Budget::default();
        let lines = lines::Lines::read(&source, text, None, &budget)?;
        let grammar = Grammar {
            source: &source,
            escape: lines.escape,
            budget: &budget,
        };
        let mut stages: Vec<StageText> = Vec::new();
        let mut arguments = Vec::new();
        for line in &lines.lines {
            let instruction = grammar.instruction(line)?;
            match (instruction.kind, stages.last_mut()) {
                (Kind::From(from), _) => stages.push(StageText {
                    from,
                    span: instruction.span,
                    instructions: Vec::new(),
                }),
                (kind, Some(stage)) => stage.instructions.push(Instruction {
                    kind,
                    ..instruction
                }),
                (Kind::Arg(given), None) => arguments.extend(given),
                _ => return fail(instruction.span, "only ARG may stand before the first FROM"),
            }
        }
        if stages.is_empty() {
            let span = Span {
                start: text.len(),
                end: text.len(),
            };
            return fail(span, "there is no FROM; begin with one, as FROM debian:12");
        }
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.from.name {
                names.entry(name.clone()).or_default().push(index);
            }
        }
        let mut warnings = lines.warnings;
        warnings.truncate(WARNING_LIMIT);
        Ok(Dockerfile {
            escape: lines.escape,
            source,
            arguments,
            stages,
            names,
            warnings,
        })
    }

    /// The stages' names, in small letters; None for one without.
    pub fn stage_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.stages.iter().map(|stage| stage.from.name.as_deref())
    }

    /// What the wanted stage reads, as far as that is known without the images.
    pub fn needs(&self, request: &Request) -> Result<Needs, Error> {
        let budget = Budget::default();
        let stages = Stages::resolve(self, request, &budget)?;
        let needed = stages.needed(stages.target()?, &BTreeMap::new())?;
        Ok(Needs {
            images: needed.images,
            contexts: needed.contexts,
        })
    }

    /// The image that a target begins with, through all stages; None when that is no image.
    pub fn base_of(&self, request: &Request) -> Result<Option<String>, Error> {
        let budget = Budget::default();
        let stages = Stages::resolve(self, request, &budget)?;
        let mut root = stages.stages[stages.target()?].root.clone();
        loop {
            match root {
                Root::Image(name) => return Ok(Some(name)),
                // Always an earlier one.
                Root::Stage(stage) => root = stages.stages[stage].root.clone(),
                Root::Scratch | Root::Context(_) => return Ok(None),
            }
        }
    }

    /// The plan for a target. `images` has the configuration of every image that is read.
    pub fn plan(
        &self,
        request: &Request,
        images: &BTreeMap<String, ImageState>,
    ) -> Result<Answer, Error> {
        let budget = Budget::default();
        let mut stages = Stages::resolve(self, request, &budget)?;
        let target = stages.target()?;
        let needed = stages.needed(target, images)?;
        let missing: BTreeSet<String> = needed
            .images
            .iter()
            .filter(|image| !images.contains_key(*image))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Ok(Answer::NeedsMore(missing));
        }
        let mut plan = BuildPlan::default();
        let mut planned: HashMap<usize, usize> = HashMap::new();
        let mut done: HashMap<usize, Evaluated> = HashMap::new();
        for (index, triggers) in &needed.stages {
            let stage = &self.stages[*index];
            let resolved = stages.stages[*index].clone();
            let (base, begun) = match &resolved.root {
                Root::Scratch => (Base::Scratch, Evaluated::default()),
                Root::Context(name) => (Base::Context(name.clone()), Evaluated::default()),
                Root::Image(name) => {
                    let state = images.get(name).cloned().unwrap_or_default();
                    (Base::Image(name.clone()), Evaluated::of_image(&state))
                }
                // What a stage reads stands before it, so it is done.
                Root::Stage(stage) => (
                    Base::Stage(planned.get(stage).copied().unwrap_or_default()),
                    done.get(stage).cloned().unwrap_or_default(),
                ),
            };
            let mut evaluation = Evaluation::new(&mut stages, *index, &planned, begun)?;
            let own = stage.instructions.iter().filter(|_| !resolved.replaced);
            for instruction in triggers.iter().chain(own) {
                evaluation.instruction(instruction)?;
            }
            let (steps, state, evaluated) = evaluation.finish()?;
            done.insert(*index, evaluated);
            planned.insert(*index, plan.stages.len());
            let name = stage.from.name.clone();
            plan.stages.push(Stage {
                name: name.unwrap_or_else(|| format!("stage-{index}")),
                base,
                steps,
                state,
            });
        }
        self.unknown_arguments(&mut stages);
        let mut warnings = self.warnings.clone();
        warnings.append(&mut stages.warnings);
        warnings.truncate(WARNING_LIMIT);
        Ok(Answer::Plan(Planned {
            plan,
            needs: Needs {
                images: needed.images,
                contexts: needed.contexts,
            },
            warnings,
        }))
    }

    fn unknown_arguments(&self, stages: &mut Stages<'_>) {
        let span = self.stages[0].span;
        for name in stages.request.build_args.keys() {
            let predefined = evaluate::PROXIES
                .iter()
                .any(|proxy| name.eq_ignore_ascii_case(proxy))
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH";
            if !predefined && !stages.used.contains(name) {
                let what = format!("the build argument {name} is given, but no ARG takes it");
                stages.warn(span, what);
            }
        }
    }
}

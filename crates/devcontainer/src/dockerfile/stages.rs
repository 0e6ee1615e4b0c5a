//! Which stages and images a build needs.
//!
//! Owns the names: what `FROM` and `--from` mean (an earlier stage, a named context, an image),
//! which stage is wanted, and everything it reads. Stages that nothing wanted reads are not looked
//! at any further. A stage may read only what stands before it, so nothing is circular.
//!
//! Read next: `evaluate`.

use super::budget::Budget;
use super::env::Env;
use super::instruction::{Grammar, Instruction, Kind};
use super::lexer::{Lexer, Mode, Variables};
use super::lines::Lines;
use super::remote;
use super::values;
use super::words::Word;
use super::{Dockerfile, NamedContext, Request};
use crate::build::ImageState;
use crate::error::{Error, ErrorKind, Warning};
use crate::text::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Where files come from, before anything is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Scratch,
    Image(String),
    Context(String),
    /// An earlier stage of the file.
    Stage(usize),
}

/// One stage, with its names known.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) root: Root,
    /// A context stands in place of the whole stage.
    pub(super) replaced: bool,
}

/// All stages of a file for one request.
pub(super) struct Stages<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) request: &'a Request,
    pub(super) budget: &'a Budget,
    /// Arguments of before the first stage, and those of the platform.
    pub(super) globals: Env,
    /// Build arguments that something asked for.
    pub(super) used: BTreeSet<String>,
    pub(super) warnings: Vec<Warning>,
    pub(super) stages: Vec<Resolved>,
    contexts: BTreeMap<String, String>,
    platform: String,
}

/// What a wanted stage reads.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// By their index in the file, in order; with the triggers of their bases.
    pub(super) stages: BTreeMap<usize, Vec<Instruction>>,
    pub(super) images: BTreeSet<String>,
    pub(super) contexts: BTreeSet<String>,
}

impl<'a> Stages<'a> {
    pub(super) fn resolve(
        dockerfile: &'a Dockerfile,
        request: &'a Request,
        budget: &'a Budget,
    ) -> Result<Stages<'a>, Error> {
        let mut found = Stages {
            dockerfile,
            request,
            budget,
            globals: Env::default(),
            used: BTreeSet::new(),
            warnings: Vec::new(),
            stages: Vec::new(),
            contexts: BTreeMap::new(),
            platform: String::new(),
        };
        let names = request.contexts.keys();
        found.contexts = names
            .map(|name| (values::familiar(name).to_lowercase(), name.clone()))
            .collect();
        found.platform = match values::platform(&request.platform) {
            Some(platform) => platform,
            None => {
                let what = format!("{:?} is no platform, as linux/amd64 is", request.platform);
                return found.fail(Span::default(), what);
            }
        };
        found.globals()?;
        for index in 0..dockerfile.stages.len() {
            let resolved = found.base(index)?;
            found.stages.push(resolved);
        }
        Ok(found)
    }

    pub(super) fn fail<T>(&self, span: Span, what: impl Into<String>) -> Result<T, Error> {
        let kind = ErrorKind::Instruction(what.into());
        Err(Error::new(&self.dockerfile.source, span, kind))
    }

    pub(super) fn warn(&mut self, span: Span, what: String) {
        if self.warnings.len() < super::WARNING_LIMIT {
            let warning = Warning::new(&self.dockerfile.source, span, what);
            self.warnings.push(warning);
        }
    }

    /// Expands a word with these variables.
    pub(super) fn expand(&mut self, word: &Word, variables: &Env) -> Result<String, Error> {
        let escape = self.dockerfile.escape;
        let budget = self.budget;
        let mut lexer = Lexer::new(&word.text, escape, Mode::default(), variables, budget);
        let expanded = lexer.word();
        let unset = lexer.unset;
        self.expanded(word.span, expanded, unset)
    }

    pub(super) fn expanded(
        &mut self,
        span: Span,
        expanded: Result<String, ErrorKind>,
        unset: BTreeSet<String>,
    ) -> Result<String, Error> {
        let source = &self.dockerfile.source;
        let text = expanded.map_err(|kind| Error::new(source, span, kind))?;
        for name in unset {
            self.warn(span, format!("${name} is not set here and counts as empty"));
        }
        Ok(text)
    }

    fn globals(&mut self) -> Result<(), Error> {
        let platform = self.platform.clone();
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let variant = parts.next().unwrap_or("");
        let target = self.request.target.as_deref().unwrap_or_default();
        let last = self.dockerfile.stages.last();
        let last = last.and_then(|stage| stage.from.name.as_deref());
        let target = match target {
            "" => last.unwrap_or("default"),
            target => target,
        };
        let mut known = vec![("TARGETSTAGE".to_owned(), target.to_owned())];
        for side in ["BUILD", "TARGET"] {
            for (name, value) in [
                ("PLATFORM", platform.as_str()),
                ("OS", os),
                ("OSVERSION", ""),
                ("ARCH", architecture),
                ("VARIANT", variant),
            ] {
                known.push((format!("{side}{name}"), value.to_owned()));
            }
        }
        for (name, value) in known {
            let given = self.request.build_args.get(&name).cloned();
            self.used.insert(name.clone());
            self.globals.set(&name, given.unwrap_or(value));
        }
        for (name, default) in &self.dockerfile.arguments {
            self.used.insert(name.text.clone());
            let value = match (self.request.build_args.get(&name.text), default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => {
                    let globals = std::mem::take(&mut self.globals);
                    let value = self.expand(default, &globals);
                    self.globals = globals;
                    value?
                }
                (None, None) => continue,
            };
            self.globals.set(&name.text, value);
        }
        Ok(())
    }

    fn base(&mut self, index: usize) -> Result<Resolved, Error> {
        let from = &self.dockerfile.stages[index].from;
        let globals = std::mem::take(&mut self.globals);
        let name = self.expand(&from.base, &globals);
        self.globals = globals;
        let name = name?;
        if name.is_empty() {
            let what = format!("{} is empty here; give it a value", from.base.text);
            return self.fail(from.base.span, what);
        }
        if let Some(root) = from.name.as_deref().and_then(|name| self.context(name)) {
            return Ok(Resolved {
                root,
                replaced: true,
            });
        }
        let root = match self.stage_named(&name, index) {
            Some(stage) => self.of_stage(stage),
            None => self.elsewhere(&name),
        };
        Ok(Resolved {
            root,
            replaced: false,
        })
    }

    /// The last stage of a name among those before `end`.
    fn stage_named(&self, name: &str, end: usize) -> Option<usize> {
        let name = name.to_lowercase();
        let found = self.dockerfile.names.get(&name)?;
        found.iter().rev().copied().find(|stage| *stage < end)
    }

    fn of_stage(&self, stage: usize) -> Root {
        match self.stages.get(stage) {
            Some(resolved) if resolved.replaced => resolved.root.clone(),
            _ => Root::Stage(stage),
        }
    }

    fn context(&self, name: &str) -> Option<Root> {
        let name = self.contexts.get(&values::familiar(name).to_lowercase())?;
        Some(match self.request.contexts.get(name)? {
            NamedContext::Files => Root::Context(name.clone()),
            NamedContext::Image(image) => Root::Image(image.clone()),
        })
    }

    fn elsewhere(&self, name: &str) -> Root {
        match name {
            "scratch" => Root::Scratch,
            name => self
                .context(name)
                .unwrap_or_else(|| Root::Image(name.to_owned())),
        }
    }

    /// What `--from` or a mount's `from` means in a stage.
    pub(super) fn origin(&self, from: &str, span: Span, own: usize) -> Result<Root, Error> {
        let count = self.dockerfile.stages.len();
        let stage = match from.parse::<usize>() {
            Ok(number) if number < count => Some(number),
            Ok(_) => {
                return self.fail(span, format!("there is no stage {from}; there are {count}"));
            }
            Err(_) => self.stage_named(from, count),
        };
        let Some(stage) = stage else {
            return Ok(self.elsewhere(from));
        };
        let root = self.of_stage(stage);
        if root != Root::Stage(stage) || stage < own {
            return Ok(root);
        }
        if stage == own {
            return self.fail(
                span,
                format!("this is stage {from}, which cannot read itself"),
            );
        }
        let line = self
            .dockerfile
            .source
            .locate(self.dockerfile.stages[stage].span)
            .line;
        self.fail(
            span,
            format!("stage {from} begins in line {line}; what reads it has to stand behind it"),
        )
    }

    /// The stage that is wanted: named, numbered, or the last.
    pub(super) fn target(&self) -> Result<usize, Error> {
        let count = self.dockerfile.stages.len();
        let target = match self.request.target.as_deref() {
            None | Some("") => return Ok(count - 1),
            Some(target) => target,
        };
        if let Some(stage) = self.stage_named(target, count) {
            return Ok(stage);
        }
        if let Some(number) = target.parse().ok().filter(|number| *number < count) {
            return Ok(number);
        }
        let names: Vec<&str> = self.dockerfile.stage_names().flatten().collect();
        let known = match names.is_empty() {
            true => "no stage of this file has a name".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        let last = self.dockerfile.stages[count - 1].span;
        self.fail(last, format!("there is no stage {target:?}; {known}"))
    }

    /// Everything the target reads. `images` has the bases that are known already: their triggers
    /// may read more.
    pub(super) fn needed(
        &self,
        target: usize,
        images: &BTreeMap<String, ImageState>,
    ) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        let mut waiting = vec![target];
        while let Some(index) = waiting.pop() {
            if needed.stages.contains_key(&index) {
                continue;
            }
            let stage = &self.dockerfile.stages[index];
            let resolved = &self.stages[index];
            let base = stage.from.base.span;
            self.need(&resolved.root, base, &mut needed, &mut waiting)?;
            if resolved.replaced {
                needed.stages.insert(index, Vec::new());
                continue;
            }
            if let Some(platform) = &stage.from.platform {
                self.native(platform)?;
            }
            let triggers = self.triggers(index, images)?;
            for instruction in triggers.iter().chain(&stage.instructions) {
                match &instruction.kind {
                    Kind::Copy(copy) => match &copy.from {
                        Some(from) => {
                            let root = self.origin(&from.text, from.span, index)?;
                            self.need(&root, from.span, &mut needed, &mut waiting)?;
                        }
                        None => {
                            // What begins as a URL is one, whatever its variables are.
                            let local = |word: &Word| {
                                !copy.add || !matches!(remote::remote(&word.text), Ok(Some(_)))
                            };
                            if copy.sources.iter().any(local) {
                                needed.contexts.insert(String::new());
                            }
                        }
                    },
                    Kind::Run(run) => {
                        for mount in &run.mounts {
                            if mount.context {
                                needed.contexts.insert(String::new());
                            }
                            if let Some(from) = &mount.from {
                                let span = mount.word.span;
                                let root = self.origin(from, span, index)?;
                                self.need(&root, span, &mut needed, &mut waiting)?;
                            }
                        }
                    }
                    _ => {}
                }
            }
            needed.stages.insert(index, triggers);
        }
        Ok(needed)
    }

    fn need(
        &self,
        root: &Root,
        span: Span,
        needed: &mut Needed,
        waiting: &mut Vec<usize>,
    ) -> Result<(), Error> {
        match root {
            Root::Scratch => {}
            Root::Stage(stage) => waiting.push(*stage),
            Root::Context(name) => drop(needed.contexts.insert(name.clone())),
            Root::Image(name) => {
                if let Some(fault) = values::image_fault(name) {
                    return self.fail(span, format!("{name:?} {fault}"));
                }
                needed.images.insert(name.clone());
            }
        }
        Ok(())
    }

    /// Only what runs on this machine's processor is built.
    fn native(&self, written: &Word) -> Result<(), Error> {
        let escape = self.dockerfile.escape;
        let mode = Mode::default();
        let mut lexer = Lexer::new(&written.text, escape, mode, &self.globals, self.budget);
        let source = &self.dockerfile.source;
        let text = lexer
            .word()
            .map_err(|kind| Error::new(source, written.span, kind))?;
        match values::platform(&text) {
            Some(platform) if platform == self.platform => Ok(()),
            Some(platform) => Err(Error::new(
                source,
                written.span,
                ErrorKind::Unsupported {
                    path: format!("FROM --platform={platform}"),
                    remedy: format!("everything is built for {}", self.platform),
                },
            )),
            None if text.is_empty() => {
                self.fail(written.span, format!("{} is empty here", written.text))
            }
            None => self.fail(written.span, format!("{text:?} is no platform")),
        }
    }

    /// `ONBUILD` of what a stage begins with.
    fn triggers(
        &self,
        index: usize,
        images: &BTreeMap<String, ImageState>,
    ) -> Result<Vec<Instruction>, Error> {
        let texts: Vec<&str> = match &self.stages[index].root {
            Root::Scratch | Root::Context(_) => return Ok(Vec::new()),
            Root::Image(name) => match images.get(name) {
                Some(state) => state.onbuild.iter().map(String::as_str).collect(),
                None => return Ok(Vec::new()),
            },
            Root::Stage(stage) => {
                let instructions = self.dockerfile.stages[*stage].instructions.iter();
                let texts = instructions.filter_map(|instruction| match &instruction.kind {
                    Kind::Onbuild(trigger) => Some(trigger.as_str()),
                    _ => None,
                });
                texts.collect()
            }
        };
        let span = self.dockerfile.stages[index].from.base.span;
        let mut triggers = Vec::new();
        for text in texts {
            triggers.push(self.trigger(text, span)?);
        }
        Ok(triggers)
    }

    fn trigger(&self, text: &str, span: Span) -> Result<Instruction, Error> {
        let source = &self.dockerfile.source;
        let shown = || -> String { text.chars().take(80).map(crate::text::clean).collect() };
        let about = |what: String| {
            let what = format!("the base's ONBUILD {:?} cannot be used: {what}", shown());
            Error::new(source, span, ErrorKind::Instruction(what))
        };
        self.budget
            .charge(4096 + 16 * text.len())
            .map_err(|kind| Error::new(source, span, kind))?;
        let lines = Lines::read(source, text, Some(span), self.budget)
            .map_err(|error| about(error.kind().to_string()))?;
        let [line] = lines.lines.as_slice() else {
            return Err(about("it is not one instruction".into()));
        };
        let grammar = Grammar {
            source,
            escape: lines.escape,
            budget: self.budget,
        };
        let mut instruction = grammar
            .instruction(line)
            .map_err(|error| about(error.kind().to_string()))?;
        if matches!(
            instruction.kind,
            Kind::From(_) | Kind::Onbuild(_) | Kind::Maintainer(_)
        ) {
            return Err(about("ONBUILD does not take it".into()));
        }
        instruction.text = format!("ONBUILD {}", instruction.text);
        Ok(instruction)
    }

    /// The value of a global argument.
    pub(super) fn global(&self, name: &str) -> Option<String> {
        self.globals.get(name).map(str::to_owned)
    }
}

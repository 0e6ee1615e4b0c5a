//! From instructions to steps: what a stage does, and how its result is run.
//!
//! Owns the order of evaluation within a stage: which words are expanded and with what, what each
//! instruction changes in the image's state, and which step it makes. A stage begins with the state
//! and the variables of its base. Everything it copies is charged.
//!
//! Read next: `mount`, `copy`.

mod copy;
mod mount;

use super::budget::VALUE_LIMIT;
use super::env::Env;
use super::instruction::{Command, Instruction, Kind, Run};
use super::lexer::{Lexer, Mode};
use super::lines::Heredoc;
use super::stages::{Root, Stages};
use super::values;
use super::words::Word;
use crate::build::{self, ImageState, InlineFile, Op, Origin, Step};
use crate::error::{Error, ErrorKind};
use crate::text::Span;
use std::collections::{BTreeSet, HashMap};

/// `PATH` where the base has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Build arguments that every `RUN` has without asking, in capitals.
pub(super) const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// Where heredocs that are scripts are while they run.
const PIPES: &str = "/dev/pipes";

/// A stage that was evaluated: what those that begin with it take over.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluated {
    state: ImageState,
    /// The image's variables.
    image: Env,
    /// Those of `RUN`: the image's, and arguments.
    run: Env,
}

impl Evaluated {
    /// The state of an image, as its variables say it.
    pub(super) fn of_image(state: &ImageState) -> Evaluated {
        let image: Env = state.env.iter().cloned().collect();
        let mut state = state.clone();
        state.env = Vec::new();
        // They are for who builds on it, and that is who is here.
        state.onbuild = Vec::new();
        Evaluated {
            state,
            run: image.clone(),
            image,
        }
    }

    fn bytes(&self) -> usize {
        let labels = self.state.labels.iter();
        let labels: usize = labels
            .map(|(key, value)| key.len() + value.len() + 64)
            .sum();
        let lists = self.state.exposed_ports.len() + self.state.volumes.len();
        let onbuild: usize = self.state.onbuild.iter().map(String::len).sum();
        1024 + self.image.bytes() + self.run.bytes() + labels + 64 * lists + onbuild
    }
}

/// Evaluates one stage.
pub(super) struct Evaluation<'a, 'b> {
    pub(super) stages: &'b mut Stages<'a>,
    /// The stage's index in the file.
    pub(super) own: usize,
    /// Stages of the plan by their index in the file.
    pub(super) planned: &'b HashMap<usize, usize>,
    now: Evaluated,
    steps: Vec<Step>,
    ports: BTreeSet<String>,
    cmd_here: bool,
}

impl<'a, 'b> Evaluation<'a, 'b> {
    pub(super) fn new(
        stages: &'b mut Stages<'a>,
        own: usize,
        planned: &'b HashMap<usize, usize>,
        base: Evaluated,
    ) -> Result<Evaluation<'a, 'b>, Error> {
        let mut evaluation = Evaluation {
            stages,
            own,
            planned,
            ports: base.state.exposed_ports.iter().cloned().collect(),
            now: base,
            steps: Vec::new(),
            cmd_here: false,
        };
        evaluation.now.state.onbuild = Vec::new();
        let span = evaluation.stages.dockerfile.stages[own].span;
        evaluation.charge(span, evaluation.now.bytes())?;
        if super::lexer::Variables::get(&evaluation.now.image, "PATH").is_none() {
            evaluation.now.image.set("PATH", PATH.into());
            evaluation.now.run.set("PATH", PATH.into());
        }
        Ok(evaluation)
    }

    /// What was made of it.
    pub(super) fn finish(mut self) -> Result<(Vec<Step>, ImageState, Evaluated), Error> {
        let span = self.stages.dockerfile.stages[self.own].span;
        self.charge(span, self.now.bytes())?;
        self.now.state.exposed_ports = self.ports.into_iter().collect();
        let mut state = self.now.state.clone();
        state.env = self.now.image.to_vec();
        Ok((self.steps, state, self.now))
    }

    fn error(&self, span: Span, kind: ErrorKind) -> Error {
        Error::new(&self.stages.dockerfile.source, span, kind)
    }

    fn fail<T>(&self, span: Span, what: impl Into<String>) -> Result<T, Error> {
        Err(self.error(span, ErrorKind::Instruction(what.into())))
    }

    fn charge(&self, span: Span, cost: usize) -> Result<(), Error> {
        let charged = self.stages.budget.charge(cost);
        charged.map_err(|kind| self.error(span, kind))
    }

    /// A word with this stage's variables.
    fn expand(&mut self, word: &Word) -> Result<String, Error> {
        let text = self.stages.expand(word, &self.now.run)?;
        if text.len() > VALUE_LIMIT {
            let what = format!("this expands to more than {} KiB", VALUE_LIMIT >> 10);
            return Err(self.error(word.span, ErrorKind::Bounds(what)));
        }
        Ok(text)
    }

    fn expand_all(&mut self, words: &[Word]) -> Result<Vec<String>, Error> {
        words.iter().map(|word| self.expand(word)).collect()
    }

    fn directory(&self) -> &str {
        match self.now.state.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    fn step(&mut self, instruction: &Instruction, op: Op) {
        let source = &self.stages.dockerfile.source;
        self.steps.push(Step {
            text: instruction.text.clone(),
            location: Some(source.locate(instruction.span)),
            op,
        });
    }

    pub(super) fn instruction(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let span = instruction.span;
        self.charge(span, 64 + instruction.text.len())?;
        match &instruction.kind {
            // It began the stage.
            Kind::From(_) => {}
            Kind::Run(run) => {
                let op = self.run(run, span)?;
                self.step(instruction, Op::Run(op));
            }
            Kind::Copy(copy) => {
                let op = self.copy(copy, span)?;
                self.step(instruction, Op::Copy(op));
            }
            Kind::Workdir(path) => {
                let path = self.expand(path)?;
                let path = values::join(self.directory(), &path);
                self.now.state.working_dir = path.clone();
                if path != "/" {
                    let user = self.now.state.user.clone();
                    self.step(instruction, Op::MakeDirectory { path, user });
                }
            }
            Kind::Env(pairs) => {
                // All of them see the variables of before the instruction.
                let mut made = Vec::new();
                for (name, value) in pairs {
                    let (key, value) = (self.expand(name)?, self.expand(value)?);
                    if key.is_empty() || key.contains('=') {
                        return self.fail(name.span, "ENV needs a name before the =");
                    }
                    made.push((key, value));
                }
                for (name, value) in made {
                    self.now.image.set(&name, value.clone());
                    self.now.run.set(&name, value);
                }
            }
            Kind::Label(pairs) => {
                for (name, value) in pairs {
                    let (name, value) = (self.expand(name)?, self.expand(value)?);
                    self.now.state.labels.insert(name, value);
                }
            }
            Kind::Arg(arguments) => {
                for (name, default) in arguments {
                    self.argument(name, default.as_ref())?;
                }
            }
            Kind::User(user) => self.now.state.user = self.expand(user)?,
            Kind::Shell(shell) => self.now.state.shell = shell.clone(),
            Kind::Cmd(command) => {
                self.now.state.cmd = Some(self.command(command));
                self.cmd_here = true;
            }
            Kind::Entrypoint(command) => {
                self.now.state.entrypoint = match command {
                    Command::Nothing => None,
                    command => Some(self.command(command)),
                };
                // A base's arguments were meant for the base's program.
                if !self.cmd_here {
                    self.now.state.cmd = None;
                }
            }
            Kind::Maintainer(author) => self.now.state.author = Some(author.clone()),
            Kind::Onbuild(trigger) => self.now.state.onbuild.push(trigger.clone()),
            Kind::Healthcheck(check) => self.now.state.healthcheck = Some(check.clone()),
            Kind::Stopsignal(signal) => {
                let name = self.expand(signal)?;
                if !values::is_signal(&name) {
                    return self.fail(signal.span, format!("there is no signal {name:?}"));
                }
                self.now.state.stop_signal = Some(name);
            }
            Kind::Volume(paths) => {
                for (path, word) in self.expand_all(paths)?.into_iter().zip(paths) {
                    let path = path.trim().to_owned();
                    if path.is_empty() {
                        return self.fail(word.span, "VOLUME needs a path");
                    }
                    if !self.now.state.volumes.contains(&path) {
                        self.charge(span, self.now.state.volumes.len())?;
                        self.now.state.volumes.push(path);
                    }
                }
            }
            Kind::Expose(ports) => self.expose(ports)?,
        }
        Ok(())
    }

    fn expose(&mut self, words: &[Word]) -> Result<(), Error> {
        for word in words {
            let (escape, budget) = (self.stages.dockerfile.escape, self.stages.budget);
            let mut lexer = Lexer::new(&word.text, escape, Mode::default(), &self.now.run, budget);
            let ports = lexer.words().map_err(|kind| self.error(word.span, kind))?;
            for port in ports {
                let (first, last, protocol) = match values::ports(&port) {
                    Ok(ports) => ports,
                    Err(fault) => return self.fail(word.span, format!("{port:?} {fault}")),
                };
                self.charge(word.span, 16 * usize::from(last - first))?;
                let named = (first..=last).map(|port| format!("{port}/{protocol}"));
                self.ports.extend(named);
            }
        }
        Ok(())
    }

    fn argument(&mut self, name: &Word, default: Option<&Word>) -> Result<(), Error> {
        self.stages.used.insert(name.text.clone());
        let given = self.stages.request.build_args.get(&name.text).cloned();
        let value = match (given, default) {
            (Some(given), _) => Some(given),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => self.stages.global(&name.text),
        };
        if let Some(value) = value {
            self.now.run.set(&name.text, value);
        }
        Ok(())
    }

    fn shell(&self) -> Vec<String> {
        match self.now.state.shell.as_slice() {
            [] => vec!["/bin/sh".into(), "-c".into()],
            shell => shell.to_vec(),
        }
    }

    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(argv) => argv.clone(),
            Command::Shell(script) => {
                let mut argv = self.shell();
                argv.push(script.clone());
                argv
            }
            Command::Nothing => self.shell(),
        }
    }

    fn run(&mut self, run: &Run, span: Span) -> Result<build::Run, Error> {
        let mut files = Vec::new();
        let argv = match (&run.command, run.heredocs.as_slice()) {
            (Command::Shell(script), [first, ..]) => {
                let script = self.script(script, first, &run.heredocs, &mut files, span)?;
                self.command(&Command::Shell(script))
            }
            (command, _) => self.command(command),
        };
        let size: usize = argv.iter().map(String::len).sum();
        self.charge(span, size + self.now.run.bytes())?;
        let mut env = self.now.run.clone();
        let mounts = self.mounts(&run.mounts, &mut env)?;
        let proxies = self.stages.request.build_args.iter();
        let proxies = proxies
            .filter(|(name, _)| PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)))
            .flat_map(|(name, value)| {
                [name.to_uppercase(), name.to_lowercase()].map(|name| (name, value.clone()))
            })
            .filter(|(name, _)| super::lexer::Variables::get(&env, name).is_none());
        Ok(build::Run {
            unkeyed_env: proxies.collect(),
            argv,
            env: env.to_vec(),
            cwd: self.directory().to_owned(),
            user: self.now.state.user.clone(),
            files,
            mounts,
            network: run.network,
        })
    }

    /// A command with heredocs, as one script.
    fn script(
        &self,
        script: &str,
        first: &Heredoc,
        heredocs: &[Heredoc],
        files: &mut Vec<InlineFile>,
        span: Span,
    ) -> Result<String, Error> {
        if Heredoc::parse(script, self.stages.budget).is_none() {
            // The shell reads them itself.
            let mut script = script.to_owned();
            for heredoc in heredocs {
                script.push('\n');
                script.push_str(&heredoc.contents);
                script.push_str(&heredoc.name);
            }
            return Ok(script);
        }
        let contents = first.text();
        if !contents.starts_with("#!") {
            return Ok(contents);
        }
        if first.name.contains('/') || matches!(first.name.as_str(), "." | "..") {
            return self.fail(span, "the name of a heredoc that is a script has no /");
        }
        let path = format!("{PIPES}/{}", first.name);
        files.push(InlineFile {
            path: path.clone(),
            contents,
            mode: 0o755,
        });
        Ok(path)
    }

    /// Where files come from, as the plan names it; None for `scratch`.
    fn origin(&self, from: &str, span: Span) -> Result<Option<Origin>, Error> {
        Ok(match self.stages.origin(from, span, self.own)? {
            Root::Scratch => None,
            Root::Image(name) => Some(Origin::Image(name)),
            Root::Context(name) => Some(Origin::Context(name)),
            Root::Stage(stage) => match self.planned.get(&stage) {
                Some(index) => Some(Origin::Stage(*index)),
                None => return self.fail(span, format!("stage {from} is not built")),
            },
        })
    }
}

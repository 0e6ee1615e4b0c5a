//! What each instruction says, before variables are known.
//!
//! Owns the grammar of all instructions and their flags: how many arguments, which forms, which
//! flags exist. Values that may hold variables stay as written, with their places; `evaluate`
//! expands them. What BuildKit can do and this cannot is refused here, by name and line.

use super::budget::Budget;
use super::flags::Flags;
use super::lines::{Heredoc, Line};
use super::values;
use super::words::{self, Json, Split, Word};
use crate::build::{Healthcheck, RunNetwork};
use crate::config::nearest;
use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction.
#[derive(Clone, Debug)]
pub(super) struct Instruction {
    /// On one line, the name in capitals.
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    From(From),
    Run(Run),
    Cmd(Command),
    Label(Vec<(Word, Word)>),
    Maintainer(String),
    Expose(Vec<Word>),
    Env(Vec<(Word, Word)>),
    /// `ADD` and `COPY`.
    Copy(Box<Copy>),
    Entrypoint(Command),
    Volume(Vec<Word>),
    User(Word),
    Workdir(Word),
    Arg(Vec<(Word, Option<Word>)>),
    /// As it is kept in the image.
    Onbuild(String),
    Stopsignal(Word),
    Healthcheck(Healthcheck),
    Shell(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) base: Word,
    /// In small letters.
    pub(super) name: Option<String>,
    pub(super) platform: Option<Word>,
}

/// `CMD`, `ENTRYPOINT` and what `RUN` runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    /// For the shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
    /// Nothing is written.
    #[default]
    Nothing,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) command: Command,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) mounts: Vec<Mount>,
    pub(super) network: RunNetwork,
}

/// `--mount`; its fields may hold variables, but for `from`.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    /// As written.
    pub(super) word: Word,
    pub(super) fields: Vec<String>,
    pub(super) from: Option<String>,
    /// Whether it may read the main context.
    pub(super) context: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    /// `ADD`, not `COPY`.
    pub(super) add: bool,
    pub(super) sources: Vec<Word>,
    pub(super) inline: Vec<Heredoc>,
    pub(super) destination: Word,
    pub(super) from: Option<Word>,
    pub(super) chown: Option<Word>,
    pub(super) chmod: Option<Word>,
    pub(super) checksum: Option<Word>,
    pub(super) exclude: Vec<String>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) unpack: Option<bool>,
}

/// Reads instructions of one text.
pub(super) struct Grammar<'a> {
    pub(super) source: &'a Source,
    pub(super) escape: char,
    pub(super) budget: &'a Budget,
}

impl Grammar<'_> {
    fn fail<T>(&self, span: Span, what: impl Into<String>) -> Result<T, Error> {
        let kind = ErrorKind::Instruction(what.into());
        Err(Error::new(self.source, span, kind))
    }

    /// What one line says.
    pub(super) fn instruction(&self, line: &Line) -> Result<Instruction, Error> {
        self.from(line, 0, false)
    }

    fn from(&self, line: &Line, at: usize, trigger: bool) -> Result<Instruction, Error> {
        let found = words::split(line, at, self.escape);
        let name = found.name.text.to_uppercase();
        let span = line.span(at, line.text.trim_end().len());
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            let given = &found.name.text;
            let hint = match nearest(given, &NAMES) {
                Some(meant) => format!("; did you mean {meant}?"),
                None => String::new(),
            };
            let what = format!("there is no instruction {given:?}{hint}");
            return self.fail(found.name.span, what);
        };
        if trigger && matches!(name, "ONBUILD" | "FROM" | "MAINTAINER") {
            return self.fail(found.name.span, format!("ONBUILD does not take {name}"));
        }
        let text = format!("{name} {}", line.text[found.name_end()..].trim());
        let kind = self.kind(name, line, found)?;
        let mut text: String = text.trim().chars().map(crate::text::clean).collect();
        if let (Kind::Run(_), Some(heredoc)) = (&kind, line.heredocs.first()) {
            text.push_str(&summary(&heredoc.contents));
        }
        Ok(Instruction { text, span, kind })
    }

    fn kind(&self, name: &'static str, line: &Line, found: Split<'_>) -> Result<Kind, Error> {
        let (rest, at, whole) = (found.rest, found.rest_at, line.whole());
        let mut flags = Flags::new(self.source, name, found.flags);
        let one = || {
            if rest.is_empty() {
                return self.fail(whole, format!("{name} needs a value"));
            }
            Ok(Word {
                text: rest.to_owned(),
                span: line.span(at, at + rest.len()),
            })
        };
        let kind = match name {
            "FROM" => Kind::From(self.base(line, rest, at, &mut flags)?),
            "RUN" => Kind::Run(self.run(line, rest, &mut flags)?),
            "CMD" => Kind::Cmd(self.command(rest, whole)?),
            "ENTRYPOINT" => Kind::Entrypoint(match self.command(rest, whole)? {
                Command::Exec(argv) if argv.is_empty() => Command::Nothing,
                command => command,
            }),
            "LABEL" => Kind::Label(self.pairs(name, line, rest, at)?),
            "ENV" => Kind::Env(self.pairs(name, line, rest, at)?),
            "MAINTAINER" => Kind::Maintainer(one()?.text),
            "EXPOSE" => {
                let mut ports = words::plain(line, rest, at);
                if ports.is_empty() {
                    return self.fail(whole, "EXPOSE needs a port");
                }
                ports.sort_by(|a, b| a.text.cmp(&b.text));
                Kind::Expose(ports)
            }
            "ADD" | "COPY" => Kind::Copy(Box::new(self.copy(name, line, rest, at, &mut flags)?)),
            "VOLUME" => {
                let volumes = self.list(line, rest, at)?;
                if volumes.is_empty() || volumes.iter().any(|path| path.text.trim().is_empty()) {
                    return self.fail(whole, "VOLUME needs a path");
                }
                Kind::Volume(volumes)
            }
            "USER" => Kind::User(one()?),
            "WORKDIR" => Kind::Workdir(one()?),
            "STOPSIGNAL" => Kind::Stopsignal(one()?),
            "ARG" => Kind::Arg(self.arguments(line, rest, at)?),
            "ONBUILD" => {
                if rest.is_empty() {
                    return self.fail(whole, "ONBUILD needs an instruction");
                }
                // Said here and not when somebody builds on the image.
                self.from(line, at, true)?;
                let mut trigger = rest.to_owned();
                for heredoc in &line.heredocs {
                    trigger = format!("{trigger}\n{}{}", heredoc.contents, heredoc.name);
                }
                Kind::Onbuild(trigger)
            }
            "HEALTHCHECK" => Kind::Healthcheck(self.healthcheck(rest, whole, &mut flags)?),
            _ => match words::json(rest) {
                Json::List(shell) if !shell.is_empty() => Kind::Shell(shell),
                _ => {
                    let what = "SHELL needs a JSON list of strings, as [\"/bin/bash\", \"-c\"]";
                    return self.fail(whole, what);
                }
            },
        };
        flags.finish()?;
        Ok(kind)
    }

    fn base(
        &self,
        line: &Line,
        rest: &str,
        at: usize,
        flags: &mut Flags<'_>,
    ) -> Result<From, Error> {
        let platform = flags.text("platform")?;
        let mut words = words::plain(line, rest, at).into_iter();
        let (base, between, name, more) = (words.next(), words.next(), words.next(), words.next());
        let name = match (&between, name, more) {
            (None, ..) => None,
            (Some(between), Some(name), None) if between.text.eq_ignore_ascii_case("as") => {
                let lower = name.text.to_lowercase();
                let mut letters = lower.bytes();
                let valid = letters.next().is_some_and(|byte| byte.is_ascii_lowercase())
                    && letters.all(|byte| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
                    });
                if !valid {
                    let what = "a stage's name begins with a letter and has letters, digits, - _ .";
                    return self.fail(name.span, what);
                }
                Some(lower)
            }
            _ => {
                let what = "FROM takes an image, or an image AS a name";
                return self.fail(line.whole(), what);
            }
        };
        match base {
            Some(base) => Ok(From {
                base,
                name,
                platform,
            }),
            None => self.fail(line.whole(), "FROM needs an image"),
        }
    }

    fn run(&self, line: &Line, rest: &str, flags: &mut Flags<'_>) -> Result<Run, Error> {
        let command = self.command(rest, line.whole())?;
        if command == Command::Exec(Vec::new()) {
            return self.fail(line.whole(), "RUN needs a program");
        }
        let mut mounts = Vec::new();
        for mount in flags.many("mount")? {
            let Some(fields) = words::fields(&mount.text) else {
                return self.fail(mount.span, "the quotes of this mount do not match");
            };
            let last = |name: &str| {
                let pairs = fields.iter().filter_map(|field| field.split_once('='));
                let named = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.to_owned()).next_back()
            };
            let from = last("from").filter(|from| !from.is_empty());
            let kind = last("type").unwrap_or_default().to_lowercase();
            if from
                .as_ref()
                .is_some_and(|from| from.trim_end_matches('$').contains('$'))
            {
                let what = "from takes no variable; give the image a stage's name: FROM … AS name";
                return self.fail(mount.span, what);
            }
            let other = ["cache", "tmpfs", "secret", "ssh"].contains(&kind.as_str());
            mounts.push(Mount {
                context: from.is_none() && !other,
                word: mount,
                fields,
                from,
            });
        }
        let network = match flags.text("network")? {
            None => RunNetwork::Default,
            Some(network) => match network.text.as_str() {
                "default" => RunNetwork::Default,
                "none" => RunNetwork::None,
                "host" => {
                    let kind = ErrorKind::Unsupported {
                        path: "RUN --network=host".into(),
                        remedy: "a build step has a network of its own; leave it out".into(),
                    };
                    return Err(Error::new(self.source, network.span, kind));
                }
                _ => return self.fail(network.span, "--network is default or none"),
            },
        };
        if let Some(security) = flags.text("security")?
            && security.text != "sandbox"
        {
            let kind = ErrorKind::Unsupported {
                path: format!("RUN --security={}", security.text),
                remedy: "build steps are isolated as environments are; leave it out".into(),
            };
            return Err(Error::new(self.source, security.span, kind));
        }
        if let Some((_, span)) = flags.take("device").first() {
            let kind = ErrorKind::Unsupported {
                path: "RUN --device".into(),
                remedy: "build steps have no devices of the host's; leave it out".into(),
            };
            return Err(Error::new(self.source, *span, kind));
        }
        Ok(Run {
            command,
            heredocs: line.heredocs.clone(),
            mounts,
            network,
        })
    }

    fn command(&self, rest: &str, span: Span) -> Result<Command, Error> {
        match words::json(rest) {
            Json::List(argv) => Ok(Command::Exec(argv)),
            Json::No => Ok(Command::Shell(rest.to_owned())),
            Json::NoStrings => self.fail(span, "a list of arguments has strings only"),
        }
    }

    fn list(&self, line: &Line, rest: &str, at: usize) -> Result<Vec<Word>, Error> {
        let span = line.span(at, at + rest.len());
        match words::json(rest) {
            Json::List(list) => {
                let words = list.into_iter().map(|text| Word { text, span });
                Ok(words.collect())
            }
            Json::No => Ok(words::plain(line, rest, at)),
            Json::NoStrings => self.fail(span, "a list of paths has strings only"),
        }
    }

    fn pairs(
        &self,
        name: &str,
        line: &Line,
        rest: &str,
        at: usize,
    ) -> Result<Vec<(Word, Word)>, Error> {
        let words = words::quoted(line, rest, at, self.escape);
        let Some(first) = words.first() else {
            return self.fail(line.whole(), format!("{name} needs name=value"));
        };
        if !first.text.contains('=') {
            // The old form: everything behind the name is one value.
            let blanks = |letter| matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ');
            let Some((key, value)) = rest.split_once(blanks) else {
                let what = format!("{name} needs name=value");
                return self.fail(first.span, what);
            };
            let value = value.trim_start_matches(blanks);
            let value_at = at + rest.len() - value.len();
            return Ok(vec![(
                Word {
                    text: key.to_owned(),
                    span: line.span(at, at + key.len()),
                },
                Word {
                    text: value.to_owned(),
                    span: line.span(value_at, value_at + value.len()),
                },
            )]);
        }
        let mut pairs = Vec::new();
        for word in words {
            let Some((key, value)) = word.text.split_once('=') else {
                let what = format!("{:?} is no name=value", word.text);
                return self.fail(word.span, what);
            };
            if key.is_empty() {
                return self.fail(word.span, format!("{name} needs a name before the ="));
            }
            let part = |text: &str| Word {
                text: text.to_owned(),
                span: word.span,
            };
            pairs.push((part(key), part(value)));
        }
        Ok(pairs)
    }

    fn arguments(
        &self,
        line: &Line,
        rest: &str,
        at: usize,
    ) -> Result<Vec<(Word, Option<Word>)>, Error> {
        let words = words::quoted(line, rest, at, self.escape);
        if words.is_empty() {
            return self.fail(line.whole(), "ARG needs a name");
        }
        let mut arguments = Vec::new();
        for word in words {
            let part = |text: &str| Word {
                text: text.to_owned(),
                span: word.span,
            };
            arguments.push(match word.text.split_once('=') {
                Some(("", _)) => return self.fail(word.span, "ARG needs a name before the ="),
                Some((key, value)) => (part(key), Some(part(value))),
                None => (word, None),
            });
        }
        Ok(arguments)
    }

    fn copy(
        &self,
        name: &'static str,
        line: &Line,
        rest: &str,
        at: usize,
        flags: &mut Flags<'_>,
    ) -> Result<Copy, Error> {
        let mut copy = Copy {
            add: name == "ADD",
            chown: flags.text("chown")?,
            chmod: flags.text("chmod")?,
            link: flags.switch("link")?.unwrap_or(false),
            ..Copy::default()
        };
        copy.exclude = flags
            .many("exclude")?
            .into_iter()
            .map(|word| word.text)
            .collect();
        if copy.add {
            copy.checksum = flags.text("checksum")?;
            copy.keep_git_dir = flags.switch("keep-git-dir")?;
            copy.unpack = flags.switch("unpack")?;
        } else {
            copy.from = flags.text("from")?;
            copy.parents = flags.switch("parents")?.unwrap_or(false);
        }
        if let Some(from) = copy.from.as_ref().filter(|from| from.text.contains('$')) {
            let what = "--from takes no variable; give the image a stage's name: FROM … AS name";
            return self.fail(from.span, what);
        }
        let mut words = self.list(line, rest, at)?;
        let heredoc = |word: &Word| Heredoc::parse(&word.text, self.budget);
        let destination = words.pop().filter(|_| !words.is_empty());
        copy.destination = match destination {
            Some(word) if heredoc(&word).is_some() => {
                let what = format!("{name} needs a destination; a heredoc is none");
                return self.fail(word.span, what);
            }
            Some(word) => word,
            None => {
                let what = format!("{name} needs a source and a destination");
                return self.fail(line.whole(), what);
            }
        };
        for word in words {
            let Some(begun) = heredoc(&word) else {
                copy.sources.push(word);
                continue;
            };
            if begun.name.contains('/') || matches!(begun.name.as_str(), "." | "..") {
                let what = "the name of a heredoc is the file's name here, so it has no /";
                return self.fail(word.span, what);
            }
            // Of two with one name, the last counts for both.
            let body = line
                .heredocs
                .iter()
                .rev()
                .find(|body| body.name == begun.name);
            let mut inline = body.cloned().unwrap_or_else(|| begun.clone());
            (inline.expand, inline.chomp) = (begun.expand, begun.chomp);
            copy.inline.push(inline);
        }
        Ok(copy)
    }

    fn healthcheck(
        &self,
        rest: &str,
        span: Span,
        flags: &mut Flags<'_>,
    ) -> Result<Healthcheck, Error> {
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let command = command.trim_start();
        let mut check = Healthcheck::default();
        match kind.to_uppercase().as_str() {
            "NONE" if command.is_empty() => {
                check.test = vec!["NONE".into()];
                return Ok(check);
            }
            "NONE" => return self.fail(span, "HEALTHCHECK NONE takes nothing more"),
            "CMD" => {}
            _ => return self.fail(span, "HEALTHCHECK takes CMD and a command, or NONE"),
        }
        check.test = match self.command(command, span)? {
            Command::Shell(script) if !script.is_empty() => vec!["CMD-SHELL".into(), script],
            Command::Exec(argv) if !argv.is_empty() => {
                std::iter::once("CMD".into()).chain(argv).collect()
            }
            _ => return self.fail(span, "HEALTHCHECK CMD needs a command"),
        };
        let mut duration = |name| {
            let Some(given) = flags.text(name)? else {
                return Ok(0);
            };
            values::duration(&given.text).or_else(|why| {
                let what = format!("--{name}={} {why}", given.text);
                self.fail(given.span, what)
            })
        };
        check.interval = duration("interval")?;
        check.timeout = duration("timeout")?;
        check.start_period = duration("start-period")?;
        check.start_interval = duration("start-interval")?;
        if let Some(retries) = flags.text("retries")? {
            check.retries = match retries.text.parse::<u32>() {
                Ok(number) if i32::try_from(number).is_ok() => number,
                _ => return self.fail(retries.span, "--retries is a number, 0 or more"),
            };
        }
        Ok(check)
    }
}

impl Split<'_> {
    /// Offset of what follows the name.
    fn name_end(&self) -> usize {
        self.name_at + self.name.text.len()
    }
}

/// The first line of a heredoc, for people.
fn summary(contents: &str) -> String {
    let mut lines = contents.trim().lines();
    let first: String = lines
        .next()
        .unwrap_or_default()
        .chars()
        .map(crate::text::clean)
        .collect();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}

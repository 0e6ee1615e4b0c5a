//! `boatyard build`: a Dockerfile made an image, shown as BuildKit's users know it.
//!
//! The runner reads the folder with the caller's rights; secrets are read here and travel with
//! the request. Every line goes to standard error as it comes, with its step's number and, for
//! what processes print, the seconds since that began; the image's name goes to standard output.

pub(crate) mod output;

use crate::args::{self, Global};
use crate::connect;
use crate::failure::Failure;
use boatyard_link::frames::{Codec, Frame};
use boatyard_link::verbs::{self, BuildEvent, LONGEST, Reply, Request};
use boatyard_wire::frame::{Kind, MAX_PAYLOAD};
use futures::{SinkExt, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio_util::codec::Framed;

/// `boatyard build`.
pub(crate) async fn run(global: &Global, wanted: args::Build) -> Result<(), Failure> {
    let named = text(&wanted.folder)?;
    let fetched = is_repository(&named)?;
    let folder = match fetched {
        true => named,
        false => text(&canonical(&wanted.folder)?)?,
    };
    let file = match &wanted.file {
        Some(file) if fetched => text(file)?,
        Some(file) => text(&canonical(file)?)?,
        None if fetched => "Dockerfile".to_owned(),
        None => text(&Path::new(&folder).join("Dockerfile"))?,
    };
    let mut names = wanted.tags.clone();
    if names.is_empty() {
        let source = boatyard_devcontainer::DockerfileSource {
            file: file.clone(),
            context: folder.clone(),
            ..boatyard_devcontainer::DockerfileSource::default()
        };
        let name = source.name();
        let uid = rustix::process::geteuid();
        // What an ordinary user may name.
        names.push(match name.strip_prefix("boatyard.local/") {
            Some(rest) if !uid.is_root() => format!("boatyard.local/u{}/{rest}", uid.as_raw()),
            _ => name,
        });
    }
    let mut contexts = BTreeMap::new();
    for context in &wanted.build_contexts {
        let (name, place) = pair(context, "--build-context")?;
        let place = if place.starts_with("docker-image://") || is_repository(place)? {
            place.to_owned()
        } else {
            text(&canonical(Path::new(place))?)?
        };
        contexts.insert(name.to_owned(), place);
    }
    let mut arguments = BTreeMap::new();
    for argument in &wanted.build_args {
        match argument.split_once('=') {
            Some((name, value)) => drop(arguments.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(argument) {
                    arguments.insert(argument.clone(), value);
                }
            }
        }
    }
    let (cache_from, cache_to) = registry_caches(&wanted.cache_from, wanted.cache_to.as_deref())?;
    let request = verbs::Build {
        file,
        context: folder,
        target: wanted.target.clone(),
        args: arguments,
        contexts,
        secrets: wanted
            .secrets
            .iter()
            .map(|secret| read_secret(secret))
            .collect::<Result<_, _>>()?,
        ssh: wanted
            .ssh
            .iter()
            .map(|agent| ssh_agent(agent))
            .collect::<Result<_, _>>()?,
        names,
        no_cache: wanted.no_cache,
        push: wanted.push,
        cache_from,
        cache_to,
        class_name: None,
    };
    output::platform(wanted.platform.as_deref())?;
    let outputs = wanted.output.iter().map(|text| output::output(text));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let answer = build(global, &Request::Build(Box::new(request))).await?;
    let (reference, digest) = answer.ok_or_else(|| {
        Failure::new("you may not use this runner's images; ask an administrator")
    })?;
    for output in outputs.into_iter().flatten() {
        output.write(global, &reference).await?;
    }
    crate::output::print(&format!("{reference} {digest}\n"))
}

/// Has the runner build, showing what happens; answers the image's name and digest. None when the
/// caller may not ask the runner itself.
pub(crate) async fn build(
    global: &Global,
    request: &Request,
) -> Result<Option<(String, String)>, Failure> {
    let json = serde_json::to_vec(request).map_err(|error| Failure::from_error(&error))?;
    if json.len() > LONGEST {
        return Err(Failure::new(format!(
            "configuration, arguments and secrets together are longer than {LONGEST} bytes"
        ))
        .hint("put what is long into files of the context"));
    }
    let endpoint = connect::endpoint(global).await?;
    let path = format!("/apis/boatyard.dev/v1/runners/{}/connect", global.runner);
    let stream = match endpoint.upgrade(&path, "boatyard-stream/1").await {
        Err(boatyard_link::client::Error::Refused { code: 403, .. }) => return Ok(None),
        answer => answer?,
    };
    let mut frames = Framed::new(stream, Codec);
    let first = match json.len() > MAX_PAYLOAD {
        true => serde_json::to_vec(&Request::Long { bytes: json.len() }),
        false => Ok(json.clone()),
    };
    let payload = first.map_err(|error| Failure::from_error(&error))?.into();
    let kind = Kind::Request;
    frames.send(Frame { kind, payload }).await?;
    if json.len() > MAX_PAYLOAD {
        for piece in json.chunks(MAX_PAYLOAD) {
            let payload = piece.to_vec().into();
            let kind = Kind::Stdin;
            frames.send(Frame { kind, payload }).await?;
        }
    }
    let mut shown = Shown::default();
    let mut result = None;
    while let Some(frame) = frames.next().await {
        match serde_json::from_slice(&frame?.payload)
            .map_err(|error| Failure::from_error(&error))?
        {
            Reply::Build(event) => shown.event(event),
            Reply::Image { reference, digest } => result = Some((reference, digest)),
            Reply::Done => {
                return match result {
                    Some(result) => Ok(Some(result)),
                    None => Err(Failure::new("the runner named no image")),
                };
            }
            Reply::Error { message, .. } => return Err(Failure::new(message)),
            _ => {}
        }
    }
    Err(Failure::new("the runner went away before it answered")
        .hint("is the daemon running? see its log"))
}

/// Whether a context is a git repository to fetch rather than a folder.
fn is_repository(context: &str) -> Result<bool, Failure> {
    if Path::new(context).exists() {
        return Ok(false);
    }
    let repository = boatyard_devcontainer::dockerfile::repository(context);
    let repository = repository.map_err(|why| Failure::new(format!("{context} {why}")).code(2))?;
    Ok(repository.is_some())
}

/// `default`, `ID` or `ID=SOCKET`; without a socket the agent of `SSH_AUTH_SOCK`.
fn ssh_agent(text: &str) -> Result<(String, String), Failure> {
    if let Some((id, socket)) = text.split_once('=') {
        return Ok((id.to_owned(), self::text(&canonical(Path::new(socket))?)?));
    }
    let socket = std::env::var("SSH_AUTH_SOCK").map_err(|_| {
        Failure::new(format!(
            "--ssh {text} finds no SSH agent: SSH_AUTH_SOCK is not set"
        ))
        .hint("start one with `eval $(ssh-agent)` and ssh-add, or name its socket: --ssh ID=SOCKET")
    })?;
    Ok((text.to_owned(), socket))
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::new(format!("cannot open {}: {error}", path.display())))
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("the path {} is not UTF-8", path.display())))
}

fn pair<'a>(text: &'a str, option: &str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::new(format!("{option} {text} has no `=`")).code(2))
}

/// The caches of `--cache-from`, and that of `--cache-to`.
pub(crate) fn registry_caches(
    from: &[String],
    to: Option<&str>,
) -> Result<(Vec<String>, Option<String>), Failure> {
    let from = from
        .iter()
        .map(|text| registry_cache(text))
        .collect::<Result<_, _>>()?;
    Ok((from, to.map(registry_cache).transpose()?))
}

/// A name, alone or as buildx writes it.
fn registry_cache(text: &str) -> Result<String, Failure> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let mut name = None;
    for part in text.split(',') {
        match pair(part, "the cache")? {
            ("type", "registry") | ("mode", _) => {}
            ("ref", value) => name = Some(value.to_owned()),
            _ => {
                return Err(Failure::new(format!("a cache cannot be {part:?} here"))
                    .hint("write type=registry,ref=NAME")
                    .code(2));
            }
        }
    }
    name.ok_or_else(|| Failure::new(format!("the cache {text} has no ref=NAME")).code(2))
}

/// `id=ID,src=FILE`, `id=ID,env=NAME`; an id alone is a variable of that name, or a file.
fn read_secret(text: &str) -> Result<(String, Vec<u8>), Failure> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for part in text.split(',') {
        match pair(part, "--secret")? {
            ("id", value) => id = Some(value),
            ("src" | "source", value) => file = Some(value),
            ("env", value) => variable = Some(value),
            ("type", "file") => {}
            ("type", "env") => variable = variable.or(id),
            (name, _) => {
                return Err(Failure::new(format!("--secret knows no {name:?}"))
                    .hint("write --secret id=ID,src=FILE or --secret id=ID,env=VARIABLE")
                    .code(2));
            }
        }
    }
    let id = id.ok_or_else(|| Failure::new(format!("--secret {text} has no id")).code(2))?;
    let variable = match file {
        Some(_) => None,
        None => Some(variable.unwrap_or(id)),
    };
    if let Some(value) = variable.and_then(std::env::var_os) {
        return Ok((id.to_owned(), value.into_encoded_bytes()));
    }
    let file = file.unwrap_or(id);
    let value = std::fs::read(file).map_err(|error| {
        Failure::new(format!("cannot read the secret {id} from {file}: {error}"))
    })?;
    Ok((id.to_owned(), value))
}

/// Lines as BuildKit's plain progress has them.
#[derive(Default)]
struct Shown {
    vertices: HashMap<u32, Vertex>,
    last: Option<u32>,
}

struct Vertex {
    name: String,
    began: Instant,
    /// Begun and not ended.
    line: String,
}

impl Shown {
    fn event(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Began { vertex, name } => {
                self.turn(vertex, &name);
                let began = Instant::now();
                let line = String::new();
                self.vertices.insert(vertex, Vertex { name, began, line });
            }
            BuildEvent::Output { vertex, text } => {
                let Some(mut about) = self.vertices.remove(&vertex) else {
                    eprint!("{}", visible(&text));
                    return;
                };
                about.line.push_str(&text);
                let seconds = about.began.elapsed().as_secs_f64();
                while let Some(at) = about.line.find('\n') {
                    let rest = about.line.split_off(at + 1);
                    self.turn(vertex, &about.name);
                    eprintln!("#{vertex} {seconds:.3} {}", visible(about.line.trim_end()));
                    about.line = rest;
                }
                self.vertices.insert(vertex, about);
            }
            BuildEvent::Ended {
                vertex,
                outcome,
                millis,
            } => {
                let Some(about) = self.vertices.remove(&vertex) else {
                    return;
                };
                self.turn(vertex, &about.name);
                if !about.line.is_empty() {
                    let seconds = about.began.elapsed().as_secs_f64();
                    eprintln!("#{vertex} {seconds:.3} {}", visible(&about.line));
                }
                let (seconds, tenth) = (millis / 1000, millis % 1000 / 100);
                match outcome.as_str() {
                    "cached" => eprintln!("#{vertex} CACHED\n"),
                    "done" => eprintln!("#{vertex} DONE {seconds}.{tenth}s\n"),
                    _ => eprintln!("#{vertex} ERROR {seconds}.{tenth}s\n"),
                }
                self.last = None;
            }
        }
    }

    /// Says whose lines come now, where another's came before.
    fn turn(&mut self, vertex: u32, name: &str) {
        if self.last == Some(vertex) {
            return;
        }
        if self.last.is_some() {
            eprintln!();
        }
        eprintln!("#{vertex} {}", visible(name));
        self.last = Some(vertex);
    }
}

/// Without what would steer a terminal, colours aside.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' && letters.peek() == Some(&'[') {
            letters.next();
            let mut sequence = String::from("\u{1b}[");
            for letter in letters.by_ref() {
                sequence.push(letter);
                if letter.is_ascii_alphabetic() || !matches!(letter, '0'..='9' | ';') {
                    break;
                }
            }
            if sequence.ends_with('m') {
                shown.push_str(&sequence);
            }
        } else if !letter.is_control() || matches!(letter, '\t' | '\n') {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    //! What may reach a terminal.
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else() {
        for (text, seen) in [
            ("plain\ttext", "plain\ttext"),
            ("\u{1b}[1;32mgreen\u{1b}[0m", "\u{1b}[1;32mgreen\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}[Hcleared", "cleared"),
            ("\u{1b}]0;title\u{7}x", "]0;titlex"),
            ("10%\r20%", "10%20%"),
        ] {
            assert_eq!(visible(text), seen);
        }
    }
}

//! `runArgs`: arguments meant for an engine's `run`, of which only those are taken that say
//! something an environment has. Every other is refused by name.

use crate::config::Reader;
use crate::error::{Error, ErrorKind};
use crate::mounts::{self, Mount};
use crate::tree::{Node, Value};
use crate::ulimits::Ulimits;
use std::collections::BTreeMap;

/// What the arguments say, in the specification's own terms.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunArgs {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) init: bool,
    pub(crate) privileged: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) security_opt: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) ulimits: Ulimits,
    pub(crate) notes: Vec<String>,
}

/// Short options and the long ones they stand for.
const SHORT: &[(char, &str)] = &[
    ('e', "env"),
    ('h', "hostname"),
    ('u', "user"),
    ('v', "volume"),
    ('l', "label"),
    ('d', "detach"),
    ('i', "interactive"),
    ('t', "tty"),
    ('m', "memory"),
    ('p', "publish"),
    ('w', "workdir"),
    ('c', "cpu-shares"),
    ('P', "publish-all"),
];
/// Options with a value that are taken.
const VALUED: &[&str] = &[
    "env",
    "hostname",
    "user",
    "volume",
    "label",
    "mount",
    "tmpfs",
    "cap-add",
    "security-opt",
    "name",
    "ulimit",
];
/// Options without one.
const FLAGS: &[&str] = &["init", "privileged", "rm", "detach", "interactive", "tty"];

pub(crate) fn read(reader: &Reader<'_>, path: &str, node: &Node) -> Result<RunArgs, Error> {
    reader.strings(path, node)?;
    let items = reader.array(path, node)?;
    let mut arguments = RunArgs::default();
    let mut at = 0;
    while at < items.len() {
        let (place, item) = (format!("{path}[{at}]"), &items[at]);
        let text = item.as_str().unwrap_or_default();
        at += 1;
        let (option, attached) = parse(text).ok_or_else(|| {
            reader.invalid(
                &place,
                item,
                &format!("is {text:?}, but must be an option such as \"--name=value\""),
            )
        })?;
        if FLAGS.contains(&option.as_str()) {
            match attached.as_deref() {
                None | Some("true") => arguments.flag(&option, text),
                Some("false") => {}
                Some(other) => {
                    return Err(reader.invalid(
                        &place,
                        item,
                        &format!("has the value {other:?}, which is neither true nor false"),
                    ));
                }
            }
            continue;
        }
        if !VALUED.contains(&option.as_str()) {
            let kind = ErrorKind::Unsupported {
                path: format!("{place}, the argument {text:?},"),
                remedy: remedy(&option).to_owned(),
            };
            return Err(Error::new(reader.source, item.span, kind));
        }
        let (value, holder) = match attached {
            Some(value) => (value, item),
            None => {
                let next = items.get(at).ok_or_else(|| {
                    reader.invalid(&place, item, "is an option without its value")
                })?;
                at += 1;
                (next.as_str().unwrap_or_default().to_owned(), next)
            }
        };
        arguments.valued(reader, &option, &value, &place, holder)?;
    }
    Ok(arguments)
}

/// `--option[=value]`, `-o`, `-ovalue`, `-o=value`.
fn parse(text: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = text.strip_prefix("--") {
        let (option, value) = long
            .split_once('=')
            .map_or((long, None), |(option, value)| {
                (option, Some(value.to_owned()))
            });
        return (!option.is_empty()).then(|| (option.to_owned(), value));
    }
    let short = text.strip_prefix('-')?;
    let letter = short.chars().next()?;
    let rest = &short[letter.len_utf8()..];
    let Some((_, option)) = SHORT.iter().find(|(known, _)| *known == letter) else {
        return Some((short.to_owned(), None));
    };
    if FLAGS.contains(option) && !rest.is_empty() {
        // Several flags in one, as in -it.
        let all = rest.chars().all(|letter| {
            SHORT
                .iter()
                .any(|(known, option)| *known == letter && FLAGS.contains(option))
        });
        return Some((
            if all {
                (*option).to_owned()
            } else {
                short.to_owned()
            },
            None,
        ));
    }
    let value =
        Some(rest.strip_prefix('=').unwrap_or(rest).to_owned()).filter(|_| !rest.is_empty());
    Some(((*option).to_owned(), value))
}

fn remedy(option: &str) -> &'static str {
    match option {
        "network" | "net" => "an environment always has its own network; remove it",
        "publish" | "publish-all" => "use forwardPorts",
        "memory" | "cpus" | "cpu-shares" | "shm-size" | "pids-limit" | "memory-swap"
        | "cpu-quota" | "cpu-period" => "an environment's size comes from its class; remove it",
        "gpus" | "device" => "host devices cannot be passed in; remove it",
        "pid" | "ipc" | "uts" | "userns" | "cgroupns" | "cgroup-parent" => {
            "an environment always has its own namespaces; remove it"
        }
        "cap-drop" => "it would run with rights its author took away; remove it if that is wanted",
        "workdir" => "use workspaceFolder",
        "env-file" => "name the variables in containerEnv",
        "entrypoint" => "use overrideCommand or postStartCommand",
        _ => "remove it",
    }
}

impl RunArgs {
    fn flag(&mut self, option: &str, text: &str) {
        match option {
            "init" => self.init = true,
            "privileged" => self.privileged = true,
            _ => self.notes.push(format!(
                "the run argument {text:?} has no effect: an environment lives on its own"
            )),
        }
    }

    fn valued(
        &mut self,
        reader: &Reader<'_>,
        option: &str,
        value: &str,
        path: &str,
        node: &Node,
    ) -> Result<(), Error> {
        match option {
            "env" => match value.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.contains('\0') => {
                    self.env.insert(name.to_owned(), value.to_owned());
                }
                _ => return Err(reader.invalid(path, node, "must be NAME=VALUE; for a variable of your own shell write NAME=${localEnv:NAME}")),
            },
            "hostname" => {
                let valid = !value.is_empty() && value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
                if !valid {
                    return Err(reader.invalid(path, node, &format!("is {value:?}, which is no host name")));
                }
                self.hostname = Some(value.to_owned());
            }
            "user" => {
                if value.is_empty() || value.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
                    return Err(reader.invalid(path, node, &format!("is {value:?}, which is no user name")));
                }
                self.user = Some(value.to_owned());
            }
            "volume" => self.mounts.push(mounts::read_volume(value, reader.workspace).map_err(|reason| reader.invalid(path, node, &reason))?),
            "mount" => {
                let text = Node { span: node.span, value: Value::String(value.to_owned()) };
                self.mounts.push(mounts::read(reader, path, &text, reader.workspace)?);
            }
            "tmpfs" => {
                let (target, options) = value.split_once(':').unwrap_or((value, ""));
                if !options.is_empty() {
                    return Err(reader.invalid(path, node, "has options; use \"mounts\" with type=tmpfs,tmpfs-size=…"));
                }
                let text = Node { span: node.span, value: Value::String(format!("\"type=tmpfs\",\"target={}\"", target.replace('"', "\"\""))) };
                self.mounts.push(mounts::read(reader, path, &text, reader.workspace)?);
            }
            "ulimit" => {
                let (name, limits) = crate::ulimits::parse(value).map_err(|why| reader.invalid(path, node, &why))?;
                self.ulimits.insert(name, limits);
            }
            "cap-add" => self.cap_add.push(value.to_owned()),
            "security-opt" => self.security_opt.push(value.to_owned()),
            _ => self.notes.push(format!("the run argument --{option} {value:?} has no effect: environments are named and labelled by Boatyard")),
        }
        Ok(())
    }
}

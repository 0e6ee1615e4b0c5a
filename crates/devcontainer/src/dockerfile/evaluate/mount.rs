//! `RUN --mount`.

use super::super::env::Env;
use super::super::instruction::Mount;
use super::super::lexer::Variables;
use super::super::values;
use super::super::words::Word;
use super::Evaluation;
use crate::build::{Origin, RunMount, RunMountKind, Sharing};
use crate::config::nearest;
use crate::error::Error;

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// The fields of one mount.
#[derive(Default)]
struct Fields {
    kind: String,
    source: String,
    target: String,
    read_only: Option<bool>,
    required: Option<bool>,
    size: Option<u64>,
    id: String,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Fields {
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        let wrong = |what: &str| format!("{key}={value} {what}");
        let number = || value.parse().map_err(|_| wrong("is no id"));
        let yes = || truth(&value).ok_or_else(|| wrong("is neither true nor false"));
        match key {
            "type" => {
                self.kind = value.to_lowercase();
                if !KINDS.contains(&self.kind.as_str()) {
                    return Err(wrong("is none of bind, cache, tmpfs, secret, ssh"));
                }
            }
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => self.read_only = Some(yes()?),
            "readwrite" | "rw" => self.read_only = Some(!yes()?),
            "required" => self.required = Some(yes()?),
            "size" => match values::size(&value) {
                Some(size) => self.size = Some(size),
                None => return Err(wrong("is no size; write it as 64m")),
            },
            "id" => self.id = value,
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(wrong("is none of shared, private, locked")),
                });
            }
            "mode" => match u32::from_str_radix(&value, 8) {
                Ok(mode) if mode <= 0o7777 => self.mode = Some(mode),
                _ => return Err(wrong("is no octal mode")),
            },
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            "env" if value.is_empty() || value.contains('=') => {
                return Err(wrong("names no variable"));
            }
            "env" => self.env = Some(value),
            // `from` was read before.
            _ => {}
        }
        Ok(())
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Evaluation<'_, '_> {
    /// All mounts of a `RUN`; an SSH agent is named in its variables.
    pub(super) fn mounts(
        &mut self,
        mounts: &[Mount],
        env: &mut Env,
    ) -> Result<Vec<RunMount>, Error> {
        let mut agents = 0;
        let mut made = Vec::new();
        for mount in mounts {
            let fields = self.fields(mount)?;
            let mount = self.mount(mount, fields, agents)?;
            if let RunMountKind::Ssh { .. } = mount.kind {
                agents += 1;
                if env.get("SSH_AUTH_SOCK").is_none() {
                    env.set("SSH_AUTH_SOCK", mount.target.clone());
                }
            }
            made.push(mount);
        }
        Ok(made)
    }

    fn fields(&mut self, mount: &Mount) -> Result<Fields, Error> {
        let span = mount.word.span;
        let mut fields = Fields {
            kind: "bind".into(),
            ..Fields::default()
        };
        for field in &mount.fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => {
                    let text = value.to_owned();
                    (key, Some(self.expand(&Word { text, span })?))
                }
                None => (field.as_str(), None),
            };
            let key = key.to_lowercase();
            let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
                let hint = match nearest(&key, &KEYS) {
                    Some(meant) => format!("; did you mean {meant}?"),
                    None => String::new(),
                };
                return self.fail(span, format!("a mount has no {key:?}{hint}"));
            };
            let switch = matches!(key, "readonly" | "ro" | "readwrite" | "rw" | "required");
            let value = match value {
                Some(value) => value,
                None if switch => "true".into(),
                None => return self.fail(span, format!("{key} needs a value: {key}=…")),
            };
            if let Err(what) = fields.set(key, value) {
                return self.fail(span, what);
            }
        }
        self.check(&fields, mount)?;
        Ok(fields)
    }

    /// Each kind has its own fields.
    fn check(&self, fields: &Fields, mount: &Mount) -> Result<(), Error> {
        let kind = fields.kind.as_str();
        let owned = matches!(kind, "cache" | "secret" | "ssh");
        let wanted = matches!(kind, "secret" | "ssh");
        let faults = [
            (fields.mode.is_some() && !owned, "mode"),
            (fields.uid.is_some() && !owned, "uid"),
            (fields.gid.is_some() && !owned, "gid"),
            (fields.required.is_some() && !wanted, "required"),
            (fields.size.is_some() && kind != "tmpfs", "size"),
            (fields.sharing.is_some() && kind != "cache", "sharing"),
            (fields.env.is_some() && kind != "secret", "env"),
            (mount.from.is_some() && wanted, "from"),
            (!fields.source.is_empty() && kind == "ssh", "source"),
        ];
        if let Some((_, field)) = faults.iter().find(|(fault, _)| *fault) {
            let what = format!("a mount of type {kind} takes no {field}");
            return self.fail(mount.word.span, what);
        }
        if kind == "secret" {
            if fields.source.is_empty() && fields.id.is_empty() && fields.target.is_empty() {
                return self.fail(mount.word.span, "a secret needs an id");
            }
            if !fields.source.is_empty() && !fields.id.is_empty() {
                return self.fail(mount.word.span, "a secret has an id or a source, not both");
            }
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, fields: Fields, agents: usize) -> Result<RunMount, Error> {
        let span = mount.word.span;
        let from = match &mount.from {
            None => None,
            Some(from) => Some(self.origin(from, span)?),
        };
        let source = values::join("/", &fields.source);
        let (uid, gid) = (fields.uid.unwrap_or(0), fields.gid.unwrap_or(0));
        let required = fields.required.unwrap_or(false);
        let mut target = fields.target.clone();
        let kind = match fields.kind.as_str() {
            "cache" => RunMountKind::Cache {
                id: match fields.id.as_str() {
                    "" => clean(&fields.target),
                    id => id.to_owned(),
                },
                from: from.flatten().map(|from| (from, source)),
                read_only: fields.read_only.unwrap_or(false),
                sharing: fields.sharing.unwrap_or_default(),
                mode: fields.mode.unwrap_or(0o755),
                uid,
                gid,
            },
            "tmpfs" => RunMountKind::Tmpfs {
                size: fields.size.filter(|size| *size > 0),
            },
            "secret" => {
                let base = |path: &str| values::base_name(path).to_owned();
                let id = [&fields.source, &fields.id]
                    .into_iter()
                    .find(|id| !id.is_empty());
                let id = id.cloned().unwrap_or_else(|| base(&fields.target));
                let as_file = fields.env.is_none() || !target.is_empty();
                if target.is_empty() {
                    target = format!("/run/secrets/{}", base(&id));
                }
                RunMountKind::Secret {
                    id,
                    env: fields.env,
                    as_file,
                    required,
                    mode: fields.mode.unwrap_or(0o400),
                    uid,
                    gid,
                }
            }
            "ssh" => {
                if target.is_empty() {
                    target = format!("/run/buildkit/ssh_agent.{agents}");
                }
                RunMountKind::Ssh {
                    id: match fields.id.as_str() {
                        "" => "default".into(),
                        id => id.to_owned(),
                    },
                    required,
                    mode: fields.mode.unwrap_or(0o600),
                    uid,
                    gid,
                }
            }
            _ => match from {
                // An empty directory of its own.
                Some(None) => RunMountKind::Tmpfs { size: None },
                from => RunMountKind::Bind {
                    from: from.flatten().unwrap_or(Origin::Context(String::new())),
                    source,
                    writable: fields.read_only == Some(false),
                },
            },
        };
        let target = values::join(self.directory(), &target);
        if target == "/" {
            return self.fail(span, "a mount needs a target other than /");
        }
        self.charge(span, target.len() + fields.source.len() + 256)?;
        Ok(RunMount { target, kind })
    }
}

/// A path without what says nothing, relative if it was.
fn clean(path: &str) -> String {
    let absolute = values::join("/", path);
    match path.starts_with('/') {
        true => absolute,
        false => absolute[1..].to_owned(),
    }
}

//! Lifecycle commands: their names, their order, when each runs, and the three forms.
//!
//! The rules are data for the one who runs them:
//! - [`HookName::ALL`] is the order. A hook begins when the one before it has succeeded; when one
//!   fails, none of those after it runs.
//! - [`HookName::runs`] says how often.
//! - Several [`Hook`]s of one name (the image's, then the file's) run one after another; the
//!   [`Command`]s of one `Hook` run side by side, and it fails when any of them does.

use crate::config::Reader;
use crate::error::Error;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lifecycle command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookName {
    /// `initializeCommand`.
    #[serde(rename = "initializeCommand")]
    Initialize,
    /// `onCreateCommand`.
    #[serde(rename = "onCreateCommand")]
    OnCreate,
    /// `updateContentCommand`.
    #[serde(rename = "updateContentCommand")]
    UpdateContent,
    /// `postCreateCommand`.
    #[serde(rename = "postCreateCommand")]
    PostCreate,
    /// `postStartCommand`.
    #[serde(rename = "postStartCommand")]
    PostStart,
    /// `postAttachCommand`.
    #[serde(rename = "postAttachCommand")]
    PostAttach,
}

/// When a lifecycle command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Runs {
    /// On the caller's machine, as the caller, before each `up`.
    BeforeEachUp,
    /// Once in an environment's life, after it was made.
    Once,
    /// Once after it was made, and again when a prebuild takes in new content.
    OnceAndOnNewContent,
    /// At each start.
    EachStart,
    /// Each time somebody attaches.
    EachAttach,
}

impl HookName {
    /// All, in the order they run.
    pub const ALL: [HookName; 6] = [
        HookName::Initialize,
        HookName::OnCreate,
        HookName::UpdateContent,
        HookName::PostCreate,
        HookName::PostStart,
        HookName::PostAttach,
    ];
    /// Those that run inside the environment.
    pub const INSIDE: [HookName; 5] = [
        HookName::OnCreate,
        HookName::UpdateContent,
        HookName::PostCreate,
        HookName::PostStart,
        HookName::PostAttach,
    ];

    /// The property's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            HookName::Initialize => "initializeCommand",
            HookName::OnCreate => "onCreateCommand",
            HookName::UpdateContent => "updateContentCommand",
            HookName::PostCreate => "postCreateCommand",
            HookName::PostStart => "postStartCommand",
            HookName::PostAttach => "postAttachCommand",
        }
    }

    /// How often it runs.
    pub const fn runs(self) -> Runs {
        match self {
            HookName::Initialize => Runs::BeforeEachUp,
            HookName::OnCreate | HookName::PostCreate => Runs::Once,
            HookName::UpdateContent => Runs::OnceAndOnNewContent,
            HookName::PostStart => Runs::EachStart,
            HookName::PostAttach => Runs::EachAttach,
        }
    }

    /// The hook of a property's name.
    pub fn parse(name: &str) -> Option<HookName> {
        HookName::ALL.into_iter().find(|hook| hook.as_str() == name)
    }

    /// Hooks that do not run when this one fails.
    pub fn stopped_by_failure(self) -> impl Iterator<Item = HookName> {
        HookName::ALL.into_iter().filter(move |other| *other > self)
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One process of a lifecycle command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// The key, in the object form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Program and arguments; a string became `/bin/sh -c STRING`.
    pub argv: Vec<String>,
    /// Who asks for it: the file's path, `image metadata`, or a Feature's id.
    pub origin: String,
}

/// Commands that run side by side for one lifecycle command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Which.
    pub name: HookName,
    /// Never empty.
    pub commands: Vec<Command>,
}

const FORMS: &str = "a string, an array of strings, or an object of those";

/// Reads one of the three forms; nothing to run gives no command.
pub(crate) fn read(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
    origin: &str,
) -> Result<Vec<Command>, Error> {
    let one = |name: Option<&str>,
               path: &str,
               node: &Node,
               expected: &str|
     -> Result<Option<Command>, Error> {
        let argv = match &node.value {
            Value::String(text) if text.is_empty() => return Ok(None),
            Value::String(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Value::Array(_) => reader.strings(path, node)?,
            _ => return Err(reader.wrong(path, node, expected)),
        };
        if argv.is_empty() {
            return Ok(None);
        }
        if argv[0].is_empty() {
            return Err(reader.invalid(path, node, "names no program: its first string is empty"));
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            return Err(reader.invalid(path, node, "holds a NUL character, which no argument can"));
        }
        Ok(Some(Command {
            name: name.map(str::to_owned),
            argv,
            origin: origin.to_owned(),
        }))
    };
    let mut commands = Vec::new();
    match &node.value {
        Value::Object(entries) => {
            for entry in entries {
                let path = format!("{path}.{}", entry.key);
                commands.extend(one(
                    Some(&entry.key),
                    &path,
                    &entry.node,
                    "a string or an array of strings",
                )?);
            }
        }
        _ => commands.extend(one(None, path, node, FORMS)?),
    }
    Ok(commands)
}

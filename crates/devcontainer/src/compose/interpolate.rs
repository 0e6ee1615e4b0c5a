//! Variables in Compose files and `.env` files: `$X`, `${X}`, `${X:-d}`, `${X-d}`, `${X:?e}`,
//! `${X?e}`, `${X:+r}`, `${X+r}`, and `$$` for a dollar sign.
//!
//! Values only, never names of entries. What follows the operator may hold variables itself. The
//! whole of what is written is bounded, since a variable may be used often.

use super::yaml::{Node, Value};
use crate::config::shown;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes the variables of one project may write.
const WRITTEN_LIMIT: usize = 4 << 20;
/// Deepest nesting of variables in variables.
const DEPTH: usize = 16;

/// Where variables come from, and what was noticed.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) values: BTreeMap<String, String>,
    /// Used without a value or a default.
    pub(super) missing: RefCell<BTreeSet<String>>,
    written: Cell<usize>,
}

impl Variables {
    pub(super) fn new(values: BTreeMap<String, String>) -> Variables {
        Variables {
            values,
            ..Variables::default()
        }
    }

    /// The text with its variables' values; else a clause that follows the path of the value.
    pub(super) fn text(&self, text: &str) -> Result<String, String> {
        if text.contains('$') {
            self.expand(text, 0)
        } else {
            Ok(text.to_owned())
        }
    }

    fn expand(&self, text: &str, depth: usize) -> Result<String, String> {
        if depth > DEPTH {
            return Err("nests variables too deeply".to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(more) = after.strip_prefix('$') {
                out.push('$');
                rest = more;
            } else if let Some(inside) = after.strip_prefix('{') {
                let end = closing(inside).ok_or_else(|| {
                    format!(
                        "has ${{ without its }} in {:?}; write $$ for a dollar sign",
                        shown(text)
                    )
                })?;
                let value = self.braced(&inside[..end], depth)?;
                out.push_str(&value);
                rest = &inside[end + 1..];
            } else {
                let length = name_length(after);
                if length == 0 {
                    return Err(format!(
                        "has a dollar sign that begins no variable in {:?}; write $$ for a dollar sign",
                        shown(text)
                    ));
                }
                out.push_str(&self.value(&after[..length]));
                rest = &after[length..];
            }
            self.bounded(out.len())?;
        }
        out.push_str(rest);
        self.written.set(self.written.get() + out.len());
        self.bounded(0)?;
        Ok(out)
    }

    fn bounded(&self, more: usize) -> Result<(), String> {
        if self.written.get().saturating_add(more) > WRITTEN_LIMIT {
            return Err(format!(
                "makes the project's variables write more than {WRITTEN_LIMIT} bytes"
            ));
        }
        Ok(())
    }

    fn value(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(value) => value.clone(),
            None => {
                self.missing.borrow_mut().insert(name.to_owned());
                String::new()
            }
        }
    }

    fn braced(&self, inside: &str, depth: usize) -> Result<String, String> {
        let length = name_length(inside);
        let (name, rest) = inside.split_at(length);
        let bad = || {
            Err(format!(
                "has ${{{}}}, which is no variable; write ${{NAME}}, ${{NAME:-default}}, ${{NAME:?message}} or ${{NAME:+replacement}}",
                shown(inside)
            ))
        };
        if name.is_empty() {
            return bad();
        }
        let value = self.values.get(name);
        let filled = value.filter(|value| !value.is_empty());
        let (present, operator, argument) = if rest.is_empty() {
            return Ok(self.value(name));
        } else if let Some(rest) = rest.strip_prefix(':') {
            let mut letters = rest.chars();
            (filled, letters.next(), letters.as_str())
        } else {
            let mut letters = rest.chars();
            (value, letters.next(), letters.as_str())
        };
        match operator {
            Some('-') => match present {
                Some(value) => Ok(value.clone()),
                None => self.expand(argument, depth + 1),
            },
            Some('+') => match present {
                Some(_) => self.expand(argument, depth + 1),
                None => Ok(String::new()),
            },
            Some('?') => match present {
                Some(value) => Ok(value.clone()),
                None => {
                    let message = self.expand(argument, depth + 1)?;
                    let why = if message.is_empty() {
                        String::new()
                    } else {
                        format!(": {}", shown(&message))
                    };
                    Err(format!("needs the variable {name}{why}"))
                }
            },
            _ => bad(),
        }
    }
}

fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

/// Where the brace ends that was open before `text`.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, bytes) = (0_usize, text.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Words of a text that could name variables: of a Compose file, a `.env` file or an `env_file`,
/// all that a plan could look up. Who sends the caller's variables sends those.
pub fn names(text: &str, names: &mut BTreeSet<String>) {
    let mut rest = text;
    while let Some(start) = rest.find(|first: char| first.is_ascii_alphabetic() || first == '_') {
        rest = &rest[start..];
        let length = name_length(rest);
        if length <= 100 && names.len() < 10_000 {
            names.insert(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
}

/// Every value of a tree; the error has the node and the clause.
pub(super) fn tree(
    variables: &Variables,
    node: &mut Node,
) -> Result<(), (super::yaml::Place, String)> {
    match &mut node.value {
        Value::Text(text) => {
            if text.contains('$') {
                let place = node.place;
                *text = variables.text(text).map_err(|reason| (place, reason))?;
            }
            Ok(())
        }
        Value::List(items) => items.iter_mut().try_for_each(|item| tree(variables, item)),
        Value::Map(entries) => entries
            .iter_mut()
            .try_for_each(|entry| tree(variables, &mut entry.node)),
        _ => Ok(()),
    }
}

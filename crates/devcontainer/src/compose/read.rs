//! Typed reading of a tree's values, with errors at their place.

use super::yaml::{Entry, Node, Sources, Value};
use crate::config::{nearest, shown};
use crate::error::{Error, ErrorKind};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Reads values of a project.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) notes: RefCell<Vec<String>>,
}

impl Reader<'_> {
    pub(super) fn wrong(&self, path: &str, node: &Node, expected: &str) -> Error {
        let kind = ErrorKind::WrongType {
            path: shown(path),
            expected: expected.to_owned(),
            found: node.kind().to_owned(),
        };
        self.sources.error(node.place, kind)
    }

    pub(super) fn invalid(&self, path: &str, node: &Node, reason: &str) -> Error {
        let kind = ErrorKind::Invalid {
            path: shown(path),
            reason: reason.to_owned(),
        };
        self.sources.error(node.place, kind)
    }

    pub(super) fn refuse(&self, path: &str, entry: &Entry, remedy: &str) -> Error {
        let kind = ErrorKind::Unsupported {
            path: shown(path),
            remedy: remedy.to_owned(),
        };
        self.sources.error(entry.key_place, kind)
    }

    pub(super) fn missing(&self, node: &Node, what: String) -> Error {
        self.sources.error(node.place, ErrorKind::Missing(what))
    }

    /// A name the specification does not have.
    pub(super) fn unknown(&self, path: &str, entry: &Entry, known: &[&str]) -> Error {
        let hint = match nearest(&entry.key, known) {
            Some(meant) => format!("is no property of Compose files; did you mean {meant:?}?"),
            None => "is no property of Compose files; begin a name of your own with x-".to_owned(),
        };
        let kind = ErrorKind::Invalid {
            path: shown(path),
            reason: hint,
        };
        self.sources.error(entry.key_place, kind)
    }

    pub(super) fn note(&self, node: &Node, what: &str) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < 50 {
            notes.push(format!("{}: {what}", self.sources.named(node.place)));
        }
    }

    pub(super) fn text(&self, path: &str, node: &Node) -> Result<String, Error> {
        let text = node
            .scalar()
            .ok_or_else(|| self.wrong(path, node, "a string"))?;
        if text.contains('\0') {
            return Err(self.invalid(path, node, "holds a NUL character"));
        }
        Ok(text)
    }

    /// A string that says something.
    pub(super) fn filled(&self, path: &str, node: &Node) -> Result<String, Error> {
        let text = self.text(path, node)?;
        if text.trim().is_empty() {
            return Err(self.invalid(path, node, "is empty"));
        }
        Ok(text)
    }

    pub(super) fn bool(&self, path: &str, node: &Node) -> Result<bool, Error> {
        match node.scalar().as_deref() {
            Some("true" | "yes" | "on" | "y") => Ok(true),
            Some("false" | "no" | "off" | "n") => Ok(false),
            _ => Err(self.wrong(path, node, "true or false")),
        }
    }

    pub(super) fn number(&self, path: &str, node: &Node) -> Result<u64, Error> {
        let number = node.scalar().and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| self.wrong(path, node, "a whole number"))
    }

    pub(super) fn list<'n>(&self, path: &str, node: &'n Node) -> Result<&'n [Node], Error> {
        match &node.value {
            Value::List(items) => Ok(items),
            _ => Err(self.wrong(path, node, "a list")),
        }
    }

    pub(super) fn map<'n>(&self, path: &str, node: &'n Node) -> Result<&'n [Entry], Error> {
        match &node.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Ok(&[]),
            _ => Err(self.wrong(path, node, "a mapping")),
        }
    }

    pub(super) fn texts(&self, path: &str, node: &Node) -> Result<Vec<String>, Error> {
        let one = |(at, item)| self.text(&format!("{path}[{at}]"), item);
        self.list(path, node)?.iter().enumerate().map(one).collect()
    }

    /// Names and texts; null is `absent`'s.
    pub(super) fn pairs(
        &self,
        path: &str,
        node: &Node,
        absent: impl Fn(&str) -> Option<String>,
    ) -> Result<BTreeMap<String, String>, Error> {
        let mut pairs = BTreeMap::new();
        for entry in self.map(path, node)? {
            let path = format!("{path}.{}", entry.key);
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                return Err(self.invalid(&path, &entry.node, "is no name"));
            }
            if entry.node.is_null() {
                pairs.extend(absent(&entry.key).map(|value| (entry.key.clone(), value)));
            } else {
                pairs.insert(entry.key.clone(), self.text(&path, &entry.node)?);
            }
        }
        Ok(pairs)
    }

    /// A command: a list as it is, a string by the shell's rules of quoting.
    pub(super) fn command(&self, path: &str, node: &Node) -> Result<Option<Vec<String>>, Error> {
        match &node.value {
            Value::Null => Ok(None),
            Value::List(_) => self.texts(path, node).map(Some),
            _ => {
                let text = self.text(path, node)?;
                words(&text)
                    .map(Some)
                    .ok_or_else(|| self.invalid(path, node, "has a quote that is not closed"))
            }
        }
    }

    /// `1h5m30s20ms`, in milliseconds.
    pub(super) fn millis(&self, path: &str, node: &Node) -> Result<u64, Error> {
        duration(&self.text(path, node)?).ok_or_else(|| {
            let what = "is no duration; write for example 90s, 1m30s or 500ms";
            self.invalid(path, node, what)
        })
    }

    /// `64m`, `1gb`, or bytes.
    pub(super) fn bytes(&self, path: &str, node: &Node) -> Result<u64, Error> {
        bytes(&self.text(path, node)?).ok_or_else(|| {
            self.invalid(
                path,
                node,
                "is no size; write for example 64m, 1gb, or bytes",
            )
        })
    }

    /// Processors in thousandths.
    pub(super) fn cpus(&self, path: &str, node: &Node) -> Result<u64, Error> {
        let text = self.text(path, node)?;
        let bad = || self.invalid(path, node, "is no number of processors, such as 0.5");
        let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + part.len() == 0 || !digits(whole) || !digits(part) || whole.len() > 6 {
            return Err(bad());
        }
        let thousandths: String = part.chars().chain("000".chars()).take(3).collect();
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| bad())?
        };
        let thousandths: u64 = thousandths.parse().map_err(|_| bad())?;
        Ok(whole * 1000 + thousandths)
    }
}

/// Words as a POSIX shell parts them, without variables and patterns.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => match letters.next()? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            '\n' => {}
                            other => {
                                word.push('\\');
                                word.push(other);
                            }
                        },
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => match letters.next() {
                Some('\n') => {}
                Some(letter) => word.get_or_insert_default().push(letter),
                None => return None,
            },
            letter if letter.is_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut micros: u64 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let unit: u64 = match unit {
            "us" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || part.len() > 6 || part.contains('.') {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        micros = micros.checked_add(whole.checked_mul(unit)?)?;
        if !part.is_empty() {
            let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
            micros = micros.checked_add(part.parse::<u64>().ok()?.checked_mul(unit)? / scale)?;
        }
        any = true;
        rest = after;
    }
    any.then_some(micros / 1000)
}

fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match &lower[digits..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    lower[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

//! The flags of an instruction.
//!
//! Owns what all of them share: which were given, each at most once unless it may be repeated, with
//! a value or as a switch, and that none is left that nobody knows.

use super::words::Word;
use crate::config::nearest;
use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};

/// The flags of one instruction, taken one by one.
pub(super) struct Flags<'a> {
    source: &'a Source,
    instruction: &'a str,
    given: Vec<(String, Option<Word>, Span)>,
    known: Vec<&'static str>,
}

impl<'a> Flags<'a> {
    pub(super) fn new(source: &'a Source, instruction: &'a str, words: Vec<Word>) -> Flags<'a> {
        let given = words.into_iter().map(|word| {
            let flag = word.text.strip_prefix("--").unwrap_or(&word.text);
            match flag.split_once('=') {
                Some((name, value)) => {
                    let text = value.to_owned();
                    let span = word.span;
                    (name.to_owned(), Some(Word { text, span }), span)
                }
                None => (flag.to_owned(), None, word.span),
            }
        });
        Flags {
            source,
            instruction,
            given: given.collect(),
            known: Vec::new(),
        }
    }

    fn fail<T>(&self, span: Span, what: String) -> Result<T, Error> {
        Err(Error::new(self.source, span, ErrorKind::Instruction(what)))
    }

    pub(super) fn take(&mut self, name: &'static str) -> Vec<(Option<Word>, Span)> {
        self.known.push(name);
        let mut taken = Vec::new();
        self.given.retain_mut(|(given, value, span)| {
            let wanted = given == name;
            if wanted {
                taken.push((value.take(), *span));
            }
            !wanted
        });
        taken
    }

    fn once(&mut self, name: &'static str) -> Result<Option<(Option<Word>, Span)>, Error> {
        let mut taken = self.take(name);
        if let Some((_, span)) = taken.get(1) {
            return self.fail(*span, format!("--{name} is given twice"));
        }
        Ok(taken.pop())
    }

    pub(super) fn many(&mut self, name: &'static str) -> Result<Vec<Word>, Error> {
        let mut values = Vec::new();
        for (value, span) in self.take(name) {
            match value {
                Some(value) => values.push(value),
                None => return self.fail(span, format!("--{name} needs a value: --{name}=…")),
            }
        }
        Ok(values)
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<Word>, Error> {
        match self.once(name)? {
            None => Ok(None),
            Some((Some(value), _)) => Ok(Some(value)),
            Some((None, span)) => self.fail(span, format!("--{name} needs a value: --{name}=…")),
        }
    }

    pub(super) fn switch(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        let Some((value, span)) = self.once(name)? else {
            return Ok(None);
        };
        match value.map(|value| value.text.to_lowercase()).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => self.fail(span, format!("--{name} is true or false")),
        }
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Some((name, _, span)) = self.given.first() else {
            return Ok(());
        };
        let hint = match nearest(name, &self.known) {
            Some(meant) => format!("; did you mean --{meant}?"),
            None => String::new(),
        };
        self.fail(
            *span,
            format!("{} has no flag --{name}{hint}", self.instruction),
        )
    }
}

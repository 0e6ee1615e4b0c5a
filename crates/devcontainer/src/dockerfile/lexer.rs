//! Variables, quotes and escapes in the arguments of instructions.
//!
//! Owns the little shell of Dockerfiles, as BuildKit reads it: `$name`, `${name}` and its
//! modifiers, single and double quotes, the escape character, and words. What a `RUN` in shell form
//! says is not read here: a real shell does that. What is written with more than [`DEPTH`] braces
//! in each other is refused.
//!
//! Read next: `glob` (the patterns of `${name#pattern}`), then `evaluate`, which says what is
//! expanded.

use super::budget::{Budget, VALUE_LIMIT};
use super::glob::Glob;
use crate::error::ErrorKind;
use std::collections::BTreeSet;

/// Deepest `${a:-${b:-…}}`.
const DEPTH: usize = 32;

/// Where values come from.
pub(super) trait Variables {
    /// None when it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable at all.
pub(super) struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// What is taken away and what stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// Quotes stay.
    pub(super) raw_quotes: bool,
    /// Escape characters stay.
    pub(super) raw_escapes: bool,
    /// Quotes mean nothing.
    pub(super) no_quotes: bool,
    /// What names an unset variable stays.
    pub(super) keep_unset: bool,
}

/// Reads one text.
pub(super) struct Lexer<'a> {
    rest: std::str::Chars<'a>,
    escape: char,
    mode: Mode,
    variables: &'a dyn Variables,
    budget: &'a Budget,
    depth: usize,
    /// Variables that had no value where one was meant.
    pub(super) unset: BTreeSet<String>,
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.word.push(letter);
            self.inside = true;
        } else if self.inside && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    fn raw(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, ErrorKind> {
    Err(ErrorKind::Variable(what.into()))
}

fn unclosed() -> ErrorKind {
    ErrorKind::Variable("a \"${\" has no \"}\"".into())
}

impl<'a> Lexer<'a> {
    pub(super) fn new(
        text: &'a str,
        escape: char,
        mode: Mode,
        variables: &'a dyn Variables,
        budget: &'a Budget,
    ) -> Lexer<'a> {
        Lexer {
            rest: text.chars(),
            escape,
            mode,
            variables,
            budget,
            depth: 0,
            unset: BTreeSet::new(),
        }
    }

    /// The text as one word.
    pub(super) fn word(&mut self) -> Result<String, ErrorKind> {
        Ok(self.until(None, self.mode.raw_escapes)?.0)
    }

    /// The text as words.
    pub(super) fn words(&mut self) -> Result<Vec<String>, ErrorKind> {
        Ok(self.until(None, self.mode.raw_escapes)?.1)
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), ErrorKind> {
        let before = std::mem::replace(&mut self.mode.raw_escapes, raw_escapes);
        let found = self.until_here(stop);
        self.mode.raw_escapes = before;
        found
    }

    fn until_here(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ErrorKind> {
        let mut all = String::new();
        let mut words = Words::default();
        while let Some(letter) = self.peek() {
            self.budget.charge(1)?;
            if stop == Some(letter) {
                self.rest.next();
                return Ok((all, words.finish()));
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| words.letter(letter));
                    all.push_str(&value);
                }
                '\'' if !self.mode.no_quotes => {
                    let quoted = self.single()?;
                    words.raw(&quoted);
                    all.push_str(&quoted);
                }
                '"' if !self.mode.no_quotes => {
                    let quoted = self.double()?;
                    words.raw(&quoted);
                    all.push_str(&quoted);
                }
                '<' => {
                    let mark = self.angle();
                    words.raw(&mark);
                    all.push_str(&mark);
                }
                letter if letter == self.escape => {
                    self.rest.next();
                    if self.mode.raw_escapes {
                        words.raw(letter.encode_utf8(&mut [0; 4]));
                        all.push(letter);
                    }
                    let Some(escaped) = self.rest.next() else {
                        break;
                    };
                    words.raw(escaped.encode_utf8(&mut [0; 4]));
                    all.push(escaped);
                }
                letter => {
                    self.rest.next();
                    words.letter(letter);
                    all.push(letter);
                }
            }
            if all.len() > VALUE_LIMIT * 8 {
                return Err(ErrorKind::Bounds(
                    "this expands to more than 1 MiB; use shorter variables".into(),
                ));
            }
        }
        match stop {
            None => Ok((all, words.finish())),
            Some('}') => Err(unclosed()),
            Some(stop) => wrong(format!("{stop:?} is missing in a \"${{\"")),
        }
    }

    fn single(&mut self) -> Result<String, ErrorKind> {
        let mut text = String::new();
        self.rest.next();
        if self.mode.raw_quotes {
            text.push('\'');
        }
        loop {
            match self.rest.next() {
                None => return wrong("a ' is never closed"),
                Some('\'') => break,
                Some(letter) => text.push(letter),
            }
        }
        if self.mode.raw_quotes {
            text.push('\'');
        }
        self.budget.charge(text.len())?;
        Ok(text)
    }

    fn double(&mut self) -> Result<String, ErrorKind> {
        let mut text = String::new();
        self.rest.next();
        if self.mode.raw_quotes {
            text.push('"');
        }
        loop {
            self.budget.charge(1)?;
            match self.peek() {
                None => return wrong("a \" is never closed"),
                Some('"') => {
                    self.rest.next();
                    if self.mode.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(letter) => {
                    self.rest.next();
                    let mut taken = letter;
                    if letter == self.escape {
                        if self.mode.raw_escapes {
                            text.push(letter);
                        }
                        match self.peek() {
                            None => continue,
                            Some(next) if next == '"' || next == '$' || next == self.escape => {
                                self.rest.next();
                                taken = next;
                            }
                            // All other escape characters are themselves.
                            Some(_) => {}
                        }
                    }
                    text.push(taken);
                }
            }
        }
    }

    /// `<<` takes the blanks behind it, so that `<< EOF` is one word.
    fn angle(&mut self) -> String {
        self.rest.next();
        let mut mark = "<".to_owned();
        if self.peek() == Some('<') {
            self.rest.next();
            mark.push('<');
            while let Some(blank @ ('\t' | '\r' | ' ')) = self.peek() {
                mark.push(blank);
                self.rest.next();
            }
        }
        mark
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(digit) if digit.is_numeric() && !digit.is_alphabetic() => {
                while let Some(digit) = self.peek().filter(|letter| letter.is_numeric()) {
                    name.push(digit);
                    self.rest.next();
                }
                return name;
            }
            Some(special @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.rest.next();
                return special.to_string();
            }
            _ => {}
        }
        while let Some(letter) = self
            .peek()
            .filter(|letter| letter.is_alphanumeric() || *letter == '_')
        {
            name.push(letter);
            self.rest.next();
        }
        name
    }

    fn value(&mut self, name: &str, wanted: bool) -> Result<Option<&'a str>, ErrorKind> {
        let variables: &'a dyn Variables = self.variables;
        let value = variables.get(name);
        self.budget.charge(value.map_or(0, str::len))?;
        if value.is_none() && wanted {
            self.unset.insert(name.to_owned());
        }
        Ok(value)
    }

    fn dollar(&mut self) -> Result<String, ErrorKind> {
        self.rest.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.value(&name, true)? {
                None if self.mode.keep_unset => format!("${name}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        self.rest.next();
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ErrorKind::Bounds(format!(
                "more than {DEPTH} \"${{\" stand in each other"
            )));
        }
        let value = self.braces();
        self.depth -= 1;
        value
    }

    fn braces(&mut self) -> Result<String, ErrorKind> {
        match self.peek() {
            None => return Err(unclosed()),
            Some('{' | '}' | ':') => return wrong("a \"${\" names no variable"),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut sign) = self.rest.next() else {
            return Err(unclosed());
        };
        if sign == '}' {
            return Ok(match self.value(&name, true)? {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        if sign == '/' {
            return self.replace(&name);
        }
        let mut written = sign.to_string();
        let empty_is_unset = sign == ':';
        if empty_is_unset {
            sign = self.rest.next().ok_or_else(unclosed)?;
            written.push(sign);
        }
        let pattern = matches!(sign, '#' | '%');
        if !matches!(sign, '-' | '+' | '?' | '#' | '%') || (empty_is_unset && pattern) {
            return wrong(format!(
                "{written:?} behind ${{{name} is none of :- - :+ + :? ? # ## % %% / //"
            ));
        }
        let (word, _) = self.until(Some('}'), pattern)?;
        let found = self.value(&name, pattern)?;
        if found.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let given = found.filter(|value| !(empty_is_unset && value.is_empty()));
        match sign {
            '-' => Ok(given.map_or(word, str::to_owned)),
            '+' => Ok(given.map_or_else(String::new, |_| word)),
            '?' => match given {
                Some(value) => Ok(value.to_owned()),
                None if !word.is_empty() => wrong(format!("{name}: {word}")),
                None if found.is_some() => wrong(format!("{name} must not be empty")),
                None => wrong(format!("{name} must be set")),
            },
            _ => {
                let doubled = word.strip_prefix(sign);
                let glob = self.glob(doubled.unwrap_or(&word))?;
                let value = found.unwrap_or_default();
                if sign == '#' {
                    glob.without_prefix(value, doubled.is_some(), self.budget)
                } else {
                    glob.without_suffix(value, doubled.is_some(), self.budget)
                }
            }
        }
    }

    fn replace(&mut self, name: &str) -> Result<String, ErrorKind> {
        let all = self.peek() == Some('/');
        if all {
            self.rest.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let found = self.value(name, true)?;
        if found.is_none() && self.mode.keep_unset {
            let slash = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slash}{pattern}/{replacement}}}"));
        }
        self.glob(&pattern)?
            .replace(found.unwrap_or_default(), &replacement, all, self.budget)
    }

    fn glob(&self, pattern: &str) -> Result<Glob, ErrorKind> {
        Glob::parse(pattern)
            .map_err(|reason| ErrorKind::Variable(format!("the pattern {pattern:?} {reason}")))
    }
}

//! The words of an instruction, before anything in them is expanded.
//!
//! Owns the ways in which instructions are taken apart: the name, flags with their quotes, words
//! that keep theirs, JSON lists, and the fields of a mount. Each word knows where it stands.

use super::lines::Line;
use crate::text::Span;

/// A part of an instruction, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Span,
}

/// An instruction taken apart.
#[derive(Debug)]
pub(super) struct Split<'a> {
    /// As written.
    pub(super) name: Word,
    /// Where in the line's text the name begins.
    pub(super) name_at: usize,
    /// `--flag`s, without their quotes.
    pub(super) flags: Vec<Word>,
    /// What follows, trimmed.
    pub(super) rest: &'a str,
    /// Where in the line's text it begins.
    pub(super) rest_at: usize,
}

fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Takes the name and the flags of what begins at `at` in the line.
pub(super) fn split(line: &Line, at: usize, escape: char) -> Split<'_> {
    let text = line.text.trim_end();
    let at = at.min(text.len());
    let at = at + (text[at..].len() - text[at..].trim_start().len());
    let name_end = text[at..]
        .find(is_blank)
        .map_or(text.len(), |length| at + length);
    let (flags, rest_at) = flags(line, text, name_end, escape);
    let rest = &text[rest_at..];
    let rest_at = rest_at + (rest.len() - rest.trim_start().len());
    Split {
        name: Word {
            text: text[at..name_end].to_owned(),
            span: line.span(at, name_end),
        },
        name_at: at,
        flags,
        rest: text[rest_at..].trim_end(),
        rest_at,
    }
}

fn flags(line: &Line, text: &str, at: usize, escape: char) -> (Vec<Word>, usize) {
    let mut found = Vec::new();
    let mut at = at;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (found, at);
        }
        let mut word = String::new();
        let mut quote = None;
        let mut end = text.len();
        let mut letters = text[at..].char_indices();
        while let Some((offset, letter)) = letters.next() {
            match quote {
                None if letter.is_whitespace() => {
                    end = at + offset;
                    break;
                }
                None if letter == '\'' || letter == '"' => quote = Some(letter),
                Some(open) if letter == open => quote = None,
                _ if letter == escape => {
                    if let Some((_, escaped)) = letters.next() {
                        word.push(escaped);
                    }
                }
                _ => word.push(letter),
            }
        }
        if word == "--" {
            return (found, end);
        }
        found.push(Word {
            text: word,
            span: line.span(at, end),
        });
        at = end;
    }
}

/// Whether heredocs may stand in an instruction: `RUN`, `COPY` and `ADD` that are no JSON list,
/// also behind `ONBUILD`.
pub(super) fn takes_heredocs(text: &str, escape: char) -> bool {
    let line = Line {
        text: text.to_owned(),
        ..Line::default()
    };
    let mut found = split(&line, 0, escape);
    if found.name.text.eq_ignore_ascii_case("ONBUILD") {
        found = split(&line, found.rest_at, escape);
    }
    ["RUN", "COPY", "ADD"]
        .iter()
        .any(|name| found.name.text.eq_ignore_ascii_case(name))
        && !matches!(json(found.rest), Json::List(_))
}

/// What a text is as a JSON list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Strings.
    List(Vec<String>),
    /// A list of something else.
    NoStrings,
    /// No JSON list: the shell form.
    No,
}

pub(super) fn json(text: &str) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::No;
    }
    let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Json::No;
    };
    let strings = list.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings
        .collect::<Option<_>>()
        .map_or(Json::NoStrings, Json::List)
}

/// Words parted by blanks, quotes meaning nothing.
pub(super) fn plain(line: &Line, rest: &str, at: usize) -> Vec<Word> {
    let mut found = Vec::new();
    let mut start = 0;
    for part in rest.split(is_blank) {
        let end = start + part.len();
        if !part.is_empty() {
            found.push(Word {
                text: part.to_owned(),
                span: line.span(at + start, at + end),
            });
        }
        // What parts words is one byte.
        start = end + 1;
    }
    found
}

/// Words parted by white space outside of quotes; quotes and escapes stay.
pub(super) fn quoted(line: &Line, rest: &str, at: usize, escape: char) -> Vec<Word> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = rest.char_indices().peekable();
    while let Some((offset, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            if let Some(start) = start.take() {
                found.push(Word {
                    text: std::mem::take(&mut word),
                    span: line.span(at + start, at + offset),
                });
            }
            continue;
        }
        start.get_or_insert(offset);
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            _ => {}
        }
        // An escape takes the next letter with it, but for single quotes.
        if letter == escape && quote != Some('\'') {
            let Some((_, escaped)) = letters.next() else {
                break;
            };
            word.push(letter);
            word.push(escaped);
        } else {
            word.push(letter);
        }
    }
    if let Some(start) = start.filter(|_| !word.is_empty()) {
        found.push(Word {
            text: word,
            span: line.span(at + start, at + rest.len()),
        });
    }
    found
}

/// The fields of one line of CSV; None when its quotes do not close.
pub(super) fn fields(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        let Some(mut inside) = rest.strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            if field.contains('"') {
                return None;
            }
            found.push(field.to_owned());
            match more {
                Some(more) => rest = more,
                None => return Some(found),
            }
            continue;
        };
        loop {
            let (part, behind) = inside.split_once('"')?;
            field.push_str(part);
            match behind.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    inside = more;
                }
                None => {
                    inside = behind;
                    break;
                }
            }
        }
        found.push(field);
        if inside.is_empty() {
            return Some(found);
        }
        rest = inside.strip_prefix(',')?;
    }
}

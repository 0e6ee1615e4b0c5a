//! Where something stands in a text, and how a person is shown it.
//!
//! Positions are byte ranges until somebody asks for a [`Location`]: lines and columns count from
//! one, columns in characters. Quoted text is cleaned of control characters, since the file is
//! untrusted and the quote ends on a terminal. Read next: `error`.

use std::fmt;
use std::sync::Arc;

/// Characters of a long line that are quoted.
const QUOTE_WIDTH: usize = 120;

/// A byte range of a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A named text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) text: Arc<str>,
    /// Where each line begins, so that many places of a long text are found fast.
    lines: Arc<[usize]>,
}

/// A place in a file, with its line for quoting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, or the part of it around the place.
    quoted: String,
    /// Characters of `quoted` before the place.
    indent: usize,
    /// Characters of `quoted` to underline, at least one.
    width: usize,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Source {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Source {
            file: file.into(),
            text: text.into(),
            lines: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    pub(crate) fn locate(&self, span: Span) -> Location {
        let text: &str = &self.text;
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let line = self.lines.partition_point(|begin| *begin <= start);
        let line_start = self.lines[line - 1];
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let before: Vec<char> = text[line_start..start].chars().collect();
        let marked = text[start..end.min(line_end).max(start)]
            .trim_end()
            .chars()
            .count()
            .max(1);
        let skip = (before.len() + marked.min(QUOTE_WIDTH / 2))
            .saturating_sub(QUOTE_WIDTH)
            .min(before.len());
        let shown = text[line_start..line_end].trim_end_matches('\r');
        let quoted: String = shown
            .chars()
            .skip(skip)
            .take(QUOTE_WIDTH)
            .map(clean)
            .collect();
        let indent = before.len() - skip;
        let width = marked
            .min(quoted.chars().count().saturating_sub(indent))
            .max(1);
        Location {
            file: self.file.to_string(),
            line,
            column: before.len() + 1,
            quoted: quoted.trim_end().to_owned(),
            indent,
            width,
        }
    }
}

/// Control characters could steer the terminal the quote is shown on.
pub(crate) fn clean(letter: char) -> char {
    match letter {
        '\t' => ' ',
        // The second range reorders text on terminals.
        letter
            if letter.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&letter)
                || ('\u{2066}'..='\u{2069}').contains(&letter) =>
        {
            '\u{fffd}'
        }
        letter => letter,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl Location {
    /// The quoted line with carets below the place; two lines, no newline at the end.
    pub fn excerpt(&self) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        format!(
            "  {number} | {}\n  {margin} | {}{}",
            self.quoted,
            " ".repeat(self.indent),
            "^".repeat(self.width)
        )
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

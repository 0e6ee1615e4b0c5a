//! A Dockerfile as instructions' texts.
//!
//! Owns parser directives, comments, continued lines and heredocs, and remembers where in the file
//! each piece of a joined text stood. What an instruction means is `instruction`'s.
//!
//! A heredoc's body is never looked at: what ends it is found before anything else is.

use super::budget::Budget;
use super::lexer::{Lexer, Mode, NoVariables};
use super::words;
use crate::error::{Error, ErrorKind, Warning};
use crate::text::{Source, Span};

/// Most instructions of one file.
const INSTRUCTION_LIMIT: usize = 4096;

/// Text whose pieces stood at several places of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The instruction, continued lines joined, without heredocs' bodies.
    pub(super) text: String,
    /// Heredocs, in order.
    pub(super) heredocs: Vec<Heredoc>,
    /// Offset in `text` and in the file, for the beginning of each piece.
    pub(super) pieces: Vec<(usize, usize)>,
    /// Where all of it is said to stand: triggers stand in another file.
    pub(super) fixed: Option<Span>,
}

/// A heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// What ends it.
    pub(super) name: String,
    /// Its lines.
    pub(super) contents: String,
    /// Variables are expanded, since the name is not quoted.
    pub(super) expand: bool,
    /// `<<-`: leading tabs are taken away.
    pub(super) chomp: bool,
}

impl Line {
    /// Where a part of the text stands.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        let start = self.place(start);
        let end = if end == 0 { 0 } else { self.place(end - 1) + 1 };
        Span {
            start,
            end: end.max(start),
        }
    }

    fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(begin, _)| *begin <= at);
        match piece
            .checked_sub(1)
            .and_then(|piece| self.pieces.get(piece))
        {
            Some((begin, place)) => place + (at - begin),
            None => at,
        }
    }

    /// Where all of it stands.
    pub(super) fn whole(&self) -> Span {
        self.span(0, self.text.trim_end().len())
    }

    fn push(&mut self, piece: &str, place: usize) {
        self.pieces.push((self.text.len(), place));
        self.text.push_str(piece);
    }
}

/// All instructions of a text.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) lines: Vec<Line>,
    /// `\` or a backtick.
    pub(super) escape: char,
    pub(super) warnings: Vec<Warning>,
}

struct Directives {
    open: bool,
    seen: Vec<String>,
    escape: char,
}

impl Directives {
    /// Reads one line at the head of the file.
    fn read(&mut self, line: &str) -> Result<(), ErrorKind> {
        if !self.open {
            return Ok(());
        }
        self.open = false;
        let Some(comment) = line.strip_prefix('#') else {
            return Ok(());
        };
        let Some((name, value)) = comment.split_once('=') else {
            return Ok(());
        };
        let (name, value) = (name.trim().to_lowercase(), value.trim());
        if value.is_empty() || !["syntax", "escape", "check"].contains(&name.as_str()) {
            return Ok(());
        }
        self.open = true;
        if self.seen.contains(&name) {
            return Err(ErrorKind::Instruction(format!(
                "the directive {name:?} is given twice"
            )));
        }
        match name.as_str() {
            "escape" if value == "`" || value == "\\" => {
                self.escape = if value == "`" { '`' } else { '\\' };
            }
            "escape" => {
                return Err(ErrorKind::Instruction(format!(
                    "the escape character is \\ or `, not {value:?}"
                )));
            }
            "syntax" => {
                let frontend = value.split(' ').next().unwrap_or_default();
                let known = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
                let known = known.strip_prefix("docker/dockerfile").unwrap_or("?");
                let known = known.strip_prefix("-upstream").unwrap_or(known);
                if !known.is_empty() && !known.starts_with([':', '@']) {
                    return Err(ErrorKind::Unsupported {
                        path: format!("# syntax={frontend}"),
                        remedy: "only docker/dockerfile's own language is built".into(),
                    });
                }
            }
            _ => {}
        }
        self.seen.push(name);
        Ok(())
    }
}

/// The line without the continuation at its end; true when there is one.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next line with its end, and where it begins.
    fn line(&mut self) -> Option<(&'a str, usize)> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let start = self.at;
        self.at += end;
        Some((&rest[..end], start))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

impl Lines {
    /// Takes a text apart. With `fixed` everything is said to stand there.
    pub(super) fn read(
        source: &Source,
        text: &str,
        fixed: Option<Span>,
        budget: &Budget,
    ) -> Result<Lines, Error> {
        let mut found = Lines {
            lines: Vec::new(),
            escape: '\\',
            warnings: Vec::new(),
        };
        let mut directives = Directives {
            open: true,
            seen: Vec::new(),
            escape: '\\',
        };
        let mut reader = Reader { text, at: 0 };
        if text.starts_with('\u{feff}') {
            reader.at = '\u{feff}'.len_utf8();
        }
        while let Some((raw, start)) = reader.line() {
            let line = raw.trim_end_matches(['\r', '\n']);
            let stripped = line.trim_start();
            let start = start + (line.len() - stripped.len());
            let span = fixed.unwrap_or(Span {
                start,
                end: start + stripped.len(),
            });
            let fail = |kind| Error::new(source, span, kind);
            directives.read(stripped).map_err(fail)?;
            found.escape = directives.escape;
            if stripped.starts_with('#') {
                continue;
            }
            let (piece, mut continued) = without_continuation(stripped, found.escape);
            if piece.is_empty() && !continued {
                continue;
            }
            let mut instruction = Line {
                fixed,
                ..Line::default()
            };
            instruction.push(piece, start);
            let mut empty = None;
            while continued {
                let Some((raw, start)) = reader.line() else {
                    break;
                };
                let line = raw.trim_end_matches(['\r', '\n']);
                if is_comment(line) {
                    continue;
                }
                if line.trim().is_empty() {
                    empty = Some(start);
                    continue;
                }
                let (piece, more) = without_continuation(line, found.escape);
                instruction.push(piece, start);
                continued = more;
            }
            if let Some(start) = empty {
                let span = fixed.unwrap_or(Span { start, end: start });
                found.warnings.push(Warning::new(
                    source,
                    span,
                    "an empty line inside of a continued instruction; put # there, or nothing"
                        .into(),
                ));
            }
            if instruction.text.trim().is_empty() {
                continue;
            }
            found.heredocs(&mut instruction, &mut reader, source, budget)?;
            found.lines.push(instruction);
            if found.lines.len() > INSTRUCTION_LIMIT {
                let what = format!("a Dockerfile has at most {INSTRUCTION_LIMIT} instructions");
                return Err(fail(ErrorKind::Bounds(what)));
            }
        }
        Ok(found)
    }

    fn heredocs(
        &self,
        line: &mut Line,
        reader: &mut Reader<'_>,
        source: &Source,
        budget: &Budget,
    ) -> Result<(), Error> {
        if !line.text.contains("<<") || !words::takes_heredocs(&line.text, self.escape) {
            return Ok(());
        }
        let mode = Mode {
            raw_quotes: true,
            raw_escapes: true,
            keep_unset: true,
            ..Mode::default()
        };
        // Quotes that are never closed are the shell's business; then there are no heredocs.
        let words = Lexer::new(&line.text, '\\', mode, &NoVariables, budget)
            .words()
            .unwrap_or_default();
        for word in words {
            let Some(mut heredoc) = Heredoc::parse(&word, budget) else {
                continue;
            };
            loop {
                let Some((raw, _)) = reader.line() else {
                    let what = format!("the heredoc has no line {:?} that ends it", heredoc.name);
                    let span = match line.text.find(&word) {
                        Some(at) => line.span(at, at + word.len()),
                        None => line.whole(),
                    };
                    return Err(Error::new(source, span, ErrorKind::Instruction(what)));
                };
                let mut end = raw.trim_end_matches(['\r', '\n']);
                if heredoc.chomp {
                    end = end.trim_start_matches('\t');
                }
                if end == heredoc.name {
                    break;
                }
                heredoc.contents.push_str(raw);
            }
            line.heredocs.push(heredoc);
        }
        Ok(())
    }
}

impl Heredoc {
    /// A word that begins one: digits, `<<`, perhaps `-`, and a name, quoted or not.
    pub(super) fn parse(word: &str, budget: &Budget) -> Option<Heredoc> {
        let rest = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let rest = rest.strip_prefix("<<")?;
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim_start();
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let lex = |raw_quotes| {
            let mode = Mode {
                raw_quotes,
                keep_unset: true,
                ..Mode::default()
            };
            let words = Lexer::new(rest, '\\', mode, &NoVariables, budget).words();
            words.ok().filter(|words| words.len() == 1)
        };
        let (name, raw) = (lex(false)?.remove(0), lex(true)?.remove(0));
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Some(Heredoc {
            expand: quotes(&name) == quotes(&raw),
            name,
            contents: String::new(),
            chomp,
        })
    }

    /// The lines, without leading tabs for `<<-`.
    pub(super) fn text(&self) -> String {
        if !self.chomp {
            return self.contents.clone();
        }
        self.contents
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

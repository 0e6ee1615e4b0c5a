//! `.env` files and `env_file`s: `NAME=value`, `export`, comments, quotes, variables.
//!
//! As Compose reads them: single quotes keep everything, double quotes know `\n`, `\r`, `\t`,
//! `\"`, `\\` and `\$` and may go on over lines, a plain value ends at ` #`. A name alone takes
//! the caller's value. Variables see what stands above them, the caller's own first.

use super::interpolate::Variables;
use crate::TEXT_LIMIT;
use std::collections::BTreeMap;

/// Most variables of a file.
const LIMIT: usize = 5000;

/// One line's meaning; None takes the caller's value.
pub(super) type Pair = (String, Option<String>);

/// Reads a file; `Err` is line number and what is wrong. `raw` takes values as they are written.
pub(super) fn parse(
    text: &str,
    known: &BTreeMap<String, String>,
    raw: bool,
) -> Result<Vec<Pair>, (usize, String)> {
    if text.len() > TEXT_LIMIT {
        return Err((1, format!("has more than {TEXT_LIMIT} bytes")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs: Vec<Pair> = Vec::new();
    let mut variables = Variables::new(known.clone());
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let whole = rest[..end].trim_end_matches('\r');
        let written = whole.trim_start();
        if written.is_empty() || written.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            continue;
        }
        let written = match written.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start(),
            _ => written,
        };
        let stop = written.find(['=', ':']).unwrap_or(written.len());
        let name = written[..stop].trim_end();
        let good = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if !good || pairs.len() >= LIMIT {
            let what = "is no line NAME=value".to_owned();
            return Err((line, what));
        }
        if stop == written.len() {
            pairs.push((name.to_owned(), None));
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            continue;
        }
        // Where the value begins in `rest`: it may go on over lines. `written` ends `whole`.
        let begin = whole.len() - written.len() + stop + 1;
        let value = &rest[begin..];
        let bad = |reason: String| (line, reason);
        let (value, used) = if raw {
            (
                rest[begin..end].trim_end_matches('\r').to_owned(),
                end - begin,
            )
        } else {
            read_value(value, &variables).map_err(bad)?
        };
        if value.contains('\0') {
            return Err((line, "holds a NUL character".to_owned()));
        }
        let used = begin + used;
        line += rest[..used].matches('\n').count() + 1;
        rest = rest[used..]
            .find('\n')
            .map_or("", |at| &rest[used + at + 1..]);
        // The caller's own value stands over the file's for whoever refers to it.
        if !known.contains_key(name) {
            variables.values.insert(name.to_owned(), value.clone());
        }
        pairs.push((name.to_owned(), Some(value)));
    }
    Ok(pairs)
}

/// The value and how many bytes of the text it took.
fn read_value(text: &str, variables: &Variables) -> Result<(String, usize), String> {
    let line_end = text.find('\n').unwrap_or(text.len());
    let skipped = text[..line_end].len() - text[..line_end].trim_start().len();
    let value = &text[skipped..];
    if let Some(inside) = value.strip_prefix('\'') {
        let end = inside
            .find('\'')
            .ok_or("has a single quote that is not closed")?;
        return Ok((inside[..end].to_owned(), skipped + end + 2));
    }
    if let Some(inside) = value.strip_prefix('"') {
        let mut out = String::new();
        let mut letters = inside.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => return Ok((variables.text(&out)?, skipped + at + 2)),
                '\\' => match letters.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, '$')) => out.push_str("$$"),
                    Some((_, quoted @ ('"' | '\\'))) => out.push(quoted),
                    Some((_, other)) => {
                        out.push('\\');
                        out.push(other);
                    }
                    None => break,
                },
                letter => out.push(letter),
            }
        }
        return Err("has a double quote that is not closed".to_owned());
    }
    let written = text[..line_end].trim_end_matches('\r');
    let comment = written
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|at| *at == 0 || written[..*at].ends_with([' ', '\t']));
    let plain = written[..comment.unwrap_or(written.len())].trim();
    Ok((variables.text(plain)?, line_end))
}

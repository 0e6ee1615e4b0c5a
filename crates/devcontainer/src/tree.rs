//! JSON with comments, as a tree whose every node knows its place.
//!
//! The grammar is JSON plus `//` and `/* */` comments, trailing commas and a byte order mark, as
//! the specification's "JSON with Comments"; JSON5's further liberties are errors. Size and
//! nesting are checked before the recursive parser sees the text. Types are `config`'s business.

use crate::error::{Error, ErrorKind, Warning};
use crate::text::{Source, Span};
use crate::{DEPTH_LIMIT, TEXT_LIMIT};
use jsonc_parser::ast;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use std::collections::BTreeMap;

/// More warnings than this help nobody.
pub(crate) const WARNINGS_LIMIT: usize = 50;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Entry>),
}

/// A property; of several with one name only the last is kept.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Node {
    /// The JSON type with its article, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Object(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Whether any string below holds the start of a variable.
    pub(crate) fn has_variables(&self) -> bool {
        match &self.value {
            Value::String(text) => text.contains("${"),
            Value::Array(items) => items.iter().any(Node::has_variables),
            Value::Object(entries) => entries.iter().any(|entry| entry.node.has_variables()),
            _ => false,
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => text.clone().into(),
            Value::Array(items) => items.iter().map(Node::to_json).collect(),
            Value::Object(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect(),
        }
    }
}

/// Parses a text; repeated names in an object are reported as warnings.
pub(crate) fn parse(source: &Source, warnings: &mut Vec<Warning>) -> Result<Node, Error> {
    let text: &str = &source.text;
    if text.len() > TEXT_LIMIT {
        let what = format!(
            "this file has {} bytes; a configuration has at most {TEXT_LIMIT}",
            text.len()
        );
        return Err(Error::new(source, Span::default(), ErrorKind::Bounds(what)));
    }
    if let Some(at) = too_deep(text) {
        let what = format!("arrays and objects are nested deeper than {DEPTH_LIMIT} levels here");
        return Err(Error::new(
            source,
            Span {
                start: at,
                end: at + 1,
            },
            ErrorKind::Bounds(what),
        ));
    }
    let options = ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: false,
        allow_trailing_commas: true,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    // The byte order mark is blanked by its own length in spaces, so that positions stay right.
    let blanked = text
        .strip_prefix('\u{feff}')
        .map(|rest| format!("   {rest}"));
    let text = blanked.as_deref().unwrap_or(text);
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let range = error.range();
        let (mut start, mut end) = (range.start, range.end);
        // A missing comma is missed at the next token; people look for it where it belongs.
        if matches!(error.kind(), ParseErrorKind::ExpectedComma) {
            let before = text.get(..start).unwrap_or_default().trim_end();
            if !before.is_empty() && !ends_in_comment(before) {
                (start, end) = (before.len(), before.len());
            }
        }
        Error::new(
            source,
            Span { start, end },
            ErrorKind::Syntax(describe(error.kind())),
        )
    })?;
    let Some(value) = parsed.value else {
        let end = Span {
            start: text.len(),
            end: text.len(),
        };
        return Err(Error::new(
            source,
            end,
            ErrorKind::Syntax("the file is empty; write at least {}".into()),
        ));
    };
    convert(source, value, warnings)
}

fn ends_in_comment(before: &str) -> bool {
    before.ends_with("*/")
        || before
            .lines()
            .last()
            .is_some_and(|line| line.contains("//"))
}

fn describe(kind: &ParseErrorKind) -> String {
    match kind {
        ParseErrorKind::ExpectedComma => "a comma is missing here".into(),
        ParseErrorKind::ExpectedColonAfterObjectKey => {
            "a colon is missing after this property name".into()
        }
        ParseErrorKind::ExpectedObjectValue => "a value is missing after the colon".into(),
        ParseErrorKind::ExpectedStringObjectProperty => {
            "a property name must stand in double quotes".into()
        }
        ParseErrorKind::MultipleRootJsonValues => {
            "there is more after the end of the first value".into()
        }
        ParseErrorKind::SingleQuotedStringsNotAllowed => "strings stand in double quotes".into(),
        ParseErrorKind::UnterminatedArray => "this array is never closed with ]".into(),
        ParseErrorKind::UnterminatedCommentBlock => "this comment is never closed with */".into(),
        ParseErrorKind::UnterminatedObject => "this object is never closed with }".into(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            letters
                .next()
                .map(|first| first.to_lowercase().chain(letters).collect())
                .unwrap_or_default()
        }
    }
}

/// Where nesting passes the limit. Strings and comments are skipped as the parser does.
fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = text
                    .get(at..)
                    .and_then(|rest| rest.find('\n'))
                    .map_or(bytes.len(), |next| at + next);
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = text
                    .get(at + 2..)
                    .and_then(|rest| rest.find("*/"))
                    .map_or(bytes.len(), |next| at + 3 + next);
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_LIMIT {
                    return Some(at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

fn span(range: Range) -> Span {
    Span {
        start: range.start,
        end: range.end,
    }
}

fn convert(
    source: &Source,
    value: ast::Value<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Node, Error> {
    let place = span(value.range());
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::StringLit(literal) => {
            // The parser lets a string go on over lines; JSON does not, and it is a forgotten quote.
            let written = source.text.get(place.start..place.end).unwrap_or_default();
            if let Some(end) = written.find(['\n', '\r']) {
                let line = Span {
                    start: place.start,
                    end: place.start + end,
                };
                let what = "this string is not closed on its line; end it with a double quote";
                return Err(Error::new(source, line, ErrorKind::Syntax(what.to_owned())));
            }
            Value::String(literal.value.into_owned())
        }
        ast::Value::NumberLit(literal) => {
            Value::Number(serde_json::from_str(literal.value).map_err(|_| {
                Error::new(
                    source,
                    place,
                    ErrorKind::Syntax(format!("{} is no number", literal.value)),
                )
            })?)
        }
        ast::Value::Array(array) => Value::Array(
            array
                .elements
                .into_iter()
                .map(|element| convert(source, element, warnings))
                .collect::<Result<_, _>>()?,
        ),
        ast::Value::Object(object) => {
            let mut places = BTreeMap::new();
            let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let key_span = span(property.name.range());
                let key = property.name.into_string();
                let node = convert(source, property.value, warnings)?;
                let entry = Entry {
                    key,
                    key_span,
                    node,
                };
                match places.get(&entry.key) {
                    Some(place) => {
                        if warnings.len() < WARNINGS_LIMIT {
                            let message =
                                format!("{:?} is given twice; the last one counts", entry.key);
                            warnings.push(Warning::new(source, key_span, message));
                        }
                        let place: usize = *place;
                        entries[place] = entry;
                    }
                    None => {
                        places.insert(entry.key.clone(), entries.len());
                        entries.push(entry);
                    }
                }
            }
            Value::Object(entries)
        }
    };
    Ok(Node { span: place, value })
}

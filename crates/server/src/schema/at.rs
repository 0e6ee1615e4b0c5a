//! Where a walk is in an object, written out only when something is to be said of it.
//!
//! Almost nothing is: most objects are good, and a path for each of their members would cost more
//! than looking at it.

use std::fmt;

/// A step from the object to what is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

fn is_plain(field: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    field.chars().all(plain) && !field.is_empty()
}

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Item(from, number) => write!(formatter, "{from}[{number}]"),
            Self::Member(from, field) if !is_plain(field) => write!(formatter, "{from}[{field}]"),
            Self::Member(Self::Root, field) => formatter.write_str(field),
            Self::Member(from, field) => write!(formatter, "{from}.{field}"),
        }
    }
}

impl From<At<'_>> for String {
    fn from(at: At<'_>) -> Self {
        at.to_string()
    }
}

/// The path of a member of what is at a path.
pub(super) fn join(path: &str, field: &str) -> String {
    if !is_plain(field) {
        format!("{path}[{field}]")
    } else if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

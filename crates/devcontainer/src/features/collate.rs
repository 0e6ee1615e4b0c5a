//! The order of names: the reference sorts by the Unicode collation of its language, in which `-`
//! comes before `/`, and case decides last.
//!
//! Identifiers are ASCII but for local paths; other letters come after ASCII, by code point.

use std::cmp::Ordering;

/// ASCII's printable characters before digits and letters, in the order of the root collation.
const SIGNS: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// Compares two names.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    left.chars()
        .map(primary)
        .cmp(right.chars().map(primary))
        // Lower case comes before upper case.
        .then_with(|| {
            let upper = |letter: char| letter.is_ascii_uppercase();
            left.chars().map(upper).cmp(right.chars().map(upper))
        })
        .then_with(|| left.cmp(right))
}

fn primary(letter: char) -> (u8, u32) {
    match SIGNS.find(letter) {
        Some(place) => (0, u32::try_from(place).unwrap_or(u32::MAX)),
        None if letter.is_ascii_digit() => (1, u32::from(letter)),
        None => (2, u32::from(letter.to_ascii_lowercase())),
    }
}

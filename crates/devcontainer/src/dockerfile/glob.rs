//! The patterns of `${name#pattern}` and `${name/pattern/replacement}`.
//!
//! Owns `*` and `?`, which match anything but a line's end, and `\` before them. There are no
//! brackets. Matching walks all states at once: no pattern makes it exponential, and what it costs
//! is charged.

use super::budget::{Budget, VALUE_LIMIT};
use crate::error::ErrorKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Letter(char),
    Any,
    Star,
}

/// A pattern.
#[derive(Clone, Debug)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    pub(super) fn parse(pattern: &str) -> Result<Glob, &'static str> {
        let mut tokens = Vec::new();
        let mut letters = pattern.chars().peekable();
        while let Some(letter) = letters.next() {
            tokens.push(match letter {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match letters.peek() {
                    // They are escaped for the braces' sake; the escape is none of the pattern's.
                    Some('}' | '/') => continue,
                    Some(escaped @ ('*' | '?' | '\\')) => {
                        let escaped = *escaped;
                        letters.next();
                        Token::Letter(escaped)
                    }
                    _ => return Err("escapes what needs no escape"),
                },
                letter => Token::Letter(letter),
            });
        }
        Ok(Glob(tokens))
    }

    /// How many letters it matches at the beginning.
    fn matched(
        &self,
        text: &[char],
        longest: bool,
        budget: &Budget,
    ) -> Result<Option<usize>, ErrorKind> {
        let end = self.0.len();
        let mut states = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        states[0] = true;
        let mut found = None;
        for (at, letter) in text
            .iter()
            .map(Some)
            .chain(std::iter::once(None))
            .enumerate()
        {
            budget.charge(end + 1)?;
            for state in 0..end {
                if states[state] && self.0[state] == Token::Star {
                    states[state + 1] = true;
                }
            }
            if states[end] {
                found = Some(at);
                if !longest {
                    break;
                }
            }
            let Some(letter) = letter else { break };
            next.fill(false);
            let mut alive = false;
            for state in (0..end).filter(|state| states[*state]) {
                let to = match self.0[state] {
                    Token::Letter(wanted) if wanted == *letter => state + 1,
                    Token::Any if *letter != '\n' => state + 1,
                    Token::Star if *letter != '\n' => state,
                    _ => continue,
                };
                next[to] = true;
                alive = true;
            }
            if !alive {
                break;
            }
            std::mem::swap(&mut states, &mut next);
        }
        Ok(found)
    }

    /// The value without the shortest or longest beginning that matches.
    pub(super) fn without_prefix(
        &self,
        value: &str,
        longest: bool,
        budget: &Budget,
    ) -> Result<String, ErrorKind> {
        let letters: Vec<char> = value.chars().collect();
        let matched = self.matched(&letters, longest, budget)?.unwrap_or(0);
        Ok(letters[matched..].iter().collect())
    }

    /// The value without the shortest or longest end that matches.
    pub(super) fn without_suffix(
        &self,
        value: &str,
        longest: bool,
        budget: &Budget,
    ) -> Result<String, ErrorKind> {
        let backwards = Glob(self.0.iter().rev().copied().collect());
        let letters: Vec<char> = value.chars().rev().collect();
        let matched = backwards.matched(&letters, longest, budget)?.unwrap_or(0);
        Ok(letters[matched..].iter().rev().collect())
    }

    /// The value with what matches replaced: the first place, or all.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        budget: &Budget,
    ) -> Result<String, ErrorKind> {
        let letters: Vec<char> = value.chars().collect();
        let mut made = String::new();
        let mut at = 0;
        let mut after_match = false;
        while at <= letters.len() {
            match self.matched(&letters[at..], true, budget)? {
                // Nothing is replaced right behind a replaced part.
                Some(matched) if matched > 0 || !after_match => {
                    budget.charge(replacement.len())?;
                    made.push_str(replacement);
                    at += matched;
                    after_match = matched > 0;
                    if !all {
                        break;
                    }
                    if matched > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            after_match = false;
            if let Some(letter) = letters.get(at) {
                made.push(*letter);
            }
            at += 1;
            if made.len() > VALUE_LIMIT * 8 {
                return Err(ErrorKind::Bounds(
                    "a replacement makes a value of more than 1 MiB".into(),
                ));
            }
        }
        made.extend(letters.get(at..).unwrap_or_default());
        Ok(made)
    }
}

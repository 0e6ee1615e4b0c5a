//! Patterns of paths: the sources of `COPY`, and one line of a `.dockerignore`.
//!
//! Owns Go's `filepath.Match` (`*`, `?`, `[a-z]`, `\`), and `**` where it has a meaning. All states
//! are walked at once, so a match costs the path's length times the pattern's.

/// A pattern for relative paths with `/` between their parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// The pattern, when it is a plain path.
    plain: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// Any but `/`.
    Any,
    /// Any number of any but `/`.
    Star,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**/`: nothing, or what [`Token::Inside`] takes. Two states, since nothing may be skipped
    /// once something was taken.
    Folders,
    /// Anything up to a `/`.
    Inside,
    /// `**` at an end: anything.
    All,
}

/// Why a pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern has a bracket that is not closed, or ends in \\")]
pub struct BadPattern;

impl Pattern {
    /// A source of `COPY`: `**` is `*`.
    pub fn new(pattern: &str) -> Result<Pattern, BadPattern> {
        Pattern::compile(pattern, false)
    }

    /// A pattern in which `**` is any number of folders: `.dockerignore`, `--exclude`, `--parents`.
    pub fn deep(pattern: &str) -> Result<Pattern, BadPattern> {
        Pattern::compile(pattern, true)
    }

    fn compile(pattern: &str, deep: bool) -> Result<Pattern, BadPattern> {
        let mut tokens = Vec::new();
        let mut letters = pattern.chars().peekable();
        let mut plain = true;
        while let Some(letter) = letters.next() {
            let special = matches!(letter, '*' | '?' | '\\' | '[');
            plain &= !special;
            let token = match letter {
                '*' if deep && letters.peek() == Some(&'*') => {
                    letters.next();
                    let slash = letters.next_if_eq(&'/').is_some();
                    let mut rest = letters.clone();
                    let last = rest.clone().next().is_none();
                    let special = rest.any(|letter| "*?\\[]".contains(letter));
                    // As Docker has it, `**.log` is whatever ends in `.log`.
                    if last || (tokens.is_empty() && !slash && !special) {
                        Token::All
                    } else {
                        tokens.push(Token::Folders);
                        Token::Inside
                    }
                }
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::Letter(letters.next().ok_or(BadPattern)?),
                '[' => class(&mut letters)?,
                letter => Token::Letter(letter),
            };
            tokens.push(token);
        }
        Ok(Pattern {
            tokens,
            plain: plain.then(|| pattern.to_owned()),
        })
    }

    /// Whether there is nothing special in it: then it is a path.
    pub fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// Whether a path matches, all of it.
    pub fn matches(&self, path: &str) -> bool {
        match &self.plain {
            Some(plain) => plain == path,
            None => self.walk(path).0,
        }
    }

    /// Whether a path or a folder it is in matches.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        match &self.plain {
            Some(plain) => path
                .strip_prefix(plain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            None => {
                let (all, parent, _) = self.walk(path);
                all || parent
            }
        }
    }

    /// Whether something in a folder may match, however deep.
    pub fn may_match_below(&self, folder: &str) -> bool {
        if matches!(folder, "" | ".") {
            return true;
        }
        match &self.plain {
            Some(plain) => plain
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/')),
            None => self.walk(&format!("{folder}/")).2,
        }
    }

    /// Whether all of the path matches, whether a folder of it does, and whether it could go on.
    fn walk(&self, path: &str) -> (bool, bool, bool) {
        let end = self.tokens.len();
        let mut states = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        states[0] = true;
        self.skip(&mut states);
        let mut parent = false;
        for letter in path.chars() {
            if letter == '/' && states[end] {
                parent = true;
            }
            next.fill(false);
            for state in (0..end).filter(|state| states[*state]) {
                match &self.tokens[state] {
                    Token::Letter(wanted) => next[state + 1] |= *wanted == letter,
                    Token::Any => next[state + 1] |= letter != '/',
                    Token::Star => next[state] |= letter != '/',
                    Token::Class { negated, ranges } => {
                        let within =
                            |(first, last): &(char, char)| (*first..=*last).contains(&letter);
                        next[state + 1] |= letter != '/' && ranges.iter().any(within) != *negated;
                    }
                    Token::Folders => {}
                    Token::Inside => {
                        next[state] = true;
                        next[state + 1] |= letter == '/';
                    }
                    Token::All => next[state] = true,
                }
            }
            std::mem::swap(&mut states, &mut next);
            self.skip(&mut states);
        }
        let alive = states[..end].contains(&true);
        (states[end], parent, alive)
    }

    /// Steps over what may match nothing.
    fn skip(&self, states: &mut [bool]) {
        for (state, token) in self.tokens.iter().enumerate() {
            match token {
                Token::Star | Token::All if states[state] => states[state + 1] = true,
                Token::Folders if states[state] => {
                    states[state + 1] = true;
                    // `Inside` always follows.
                    states[state + 2] = true;
                }
                _ => {}
            }
        }
    }
}

fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && letters.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let mut one = || match letters.next() {
            Some('\\') => letters.next().ok_or(BadPattern),
            Some(']' | '-') | None => Err(BadPattern),
            Some(letter) => Ok(letter),
        };
        let first = one()?;
        let last = match letters.next_if_eq(&'-') {
            None => first,
            Some(_) => match letters.next() {
                Some('\\') => letters.next().ok_or(BadPattern)?,
                Some(']' | '-') | None => return Err(BadPattern),
                Some(letter) => letter,
            },
        };
        ranges.push((first, last));
    }
}

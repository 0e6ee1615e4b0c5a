//! `.dockerignore`: which files of a context a build sees.
//!
//! Owns the lines' meaning as Docker has it: the last pattern that matches a path, or a folder the
//! path is in, decides; `!` includes again; slashes at both ends say nothing; `**` is any number of
//! folders. Which file is read is the caller's: the first of [`Ignore::candidates`] that there is.
//!
//! A folder that is left out still has to be entered when something in it may be included again:
//! [`Ignore::may_include_below`].

use super::pattern::Pattern;
use super::values;
use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};

/// Most patterns of one file.
const PATTERN_LIMIT: usize = 4096;

/// The patterns of one `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    include: bool,
    pattern: Pattern,
}

impl Ignore {
    /// Where it may stand, for a Dockerfile by its path: beside it under its own name, then at the
    /// root of the context. Only the first that exists counts.
    pub fn candidates(dockerfile: &str) -> [String; 2] {
        [format!("{dockerfile}.dockerignore"), ".dockerignore".into()]
    }

    /// Reads a file. Its name is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Ignore, Error> {
        let source = Source::new(file, text);
        let bounds = |span, what: String| Err(Error::new(&source, span, ErrorKind::Bounds(what)));
        if text.len() > crate::TEXT_LIMIT {
            let limit = crate::TEXT_LIMIT >> 10;
            return bounds(
                Span::default(),
                format!("a .dockerignore has at most {limit} KiB"),
            );
        }
        let mut rules = Vec::new();
        let mut start = 0;
        for raw in text.split_inclusive('\n') {
            let at = start;
            start += raw.len();
            let line = raw.trim_start_matches('\u{feff}');
            let span = Span {
                start: at,
                end: at + raw.trim_end().len(),
            };
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let fail = |what: &str| {
                let kind = ErrorKind::Instruction(what.to_owned());
                Err(Error::new(&source, span, kind))
            };
            let line = line.trim();
            let (include, path) = match line.strip_prefix('!') {
                Some(path) => (true, path.trim()),
                None => (false, line),
            };
            if include && path.is_empty() {
                return fail("! needs a pattern behind it");
            }
            let path = clean(path);
            let Ok(pattern) = Pattern::deep(&path) else {
                return fail("the pattern has a bracket that is not closed, or ends in \\");
            };
            rules.push(Rule { include, pattern });
            if rules.len() > PATTERN_LIMIT {
                let what = format!("a .dockerignore has at most {PATTERN_LIMIT} patterns");
                return bounds(span, what);
            }
        }
        Ok(Ignore { rules })
    }

    /// Whether a file or folder is left out; its path is relative to the context, without `./`.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // Only what would change the answer is asked.
            if rule.include == excluded && rule.pattern.matches_or_parent(path) {
                excluded = !rule.include;
            }
        }
        excluded
    }

    /// Whether a path does not exist for a build: it is left out, and nothing in it comes back.
    pub fn hides(&self, path: &str, is_folder: bool) -> bool {
        self.excludes(path) && !(is_folder && self.may_include_below(path))
    }

    /// Whether something in a folder that is left out may be included again.
    pub fn may_include_below(&self, folder: &str) -> bool {
        let mut including = self.rules.iter().filter(|rule| rule.include);
        including.any(|rule| rule.pattern.may_match_below(folder))
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.iter().all(|rule| rule.include)
    }
}

/// A pattern without what says nothing. What leads out of the context matches nothing.
fn clean(pattern: &str) -> String {
    let relative = pattern.trim_start_matches('/');
    let mut depth = 0_usize;
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 && !pattern.starts_with('/') => return "..".into(),
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    match values::join("/", pattern).split_off(1) {
        all if all.is_empty() => ".".into(),
        path => path,
    }
}

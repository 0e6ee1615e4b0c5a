//! How many tests passed, failed and skipped, read from the lines of either test runner.
//!
//! Owns the reading only. A test counts as skipped when its runner ignored it or when it said so
//! itself with a line that starts with `skipped: `; such a one is taken off those that passed.
//!
//! Read next: [`super::test`].

use std::collections::BTreeSet;
use std::fmt;

#[derive(Debug, Default)]
pub(super) struct Count {
    /// Set when nextest runs, which shows libtest's own result of every single test as well.
    only_summary: bool,
    passed: u64,
    pub(super) failed: u64,
    ignored: u64,
    said: u64,
    seen: BTreeSet<String>,
}

impl Count {
    pub(super) fn of(only_summary: bool) -> Self {
        Self {
            only_summary,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, line: &str) {
        let line = line.trim();
        if line.to_ascii_lowercase().starts_with("skipped: ") {
            self.said += 1;
        } else if (!self.only_summary && line.starts_with("test result: "))
            || line.starts_with("Summary [") && self.seen.insert(line.to_owned())
        {
            self.passed += number_before(line, "passed");
            self.failed += number_before(line, "failed") + number_before(line, "timed");
            self.ignored += number_before(line, "ignored") + number_before(line, "skipped");
        }
    }
}

/// Whether a line of nextest is what libtest says around a single test that passed.
pub(super) fn is_noise(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line == "running 1 test"
        || line.starts_with("stdout \u{2500}")
        || line.starts_with("test result: ok.")
        || (line.starts_with("test ") && line.ends_with(" ... ok"))
}

fn number_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';')
        .filter(|w| !w.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.said);
        write!(
            f,
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.ignored + self.said
        )
    }
}

#[cfg(test)]
mod tests;

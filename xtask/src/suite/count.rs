//! How many tests passed, failed and skipped, read from the lines of either test runner.
//!
//! Owns the reading only. A test counts as skipped when its runner ignored it or when it said so
//! itself with a line that starts with `skipped: `; such a one is taken off those that passed.
//!
//! Read next: [`super::test`].

use std::collections::BTreeSet;
use std::fmt;

#[derive(Debug, Default)]
pub(crate) struct Count {
    passed: u64,
    pub(super) failed: u64,
    ignored: u64,
    /// Why tests skipped themselves, in the order they said it.
    said: Vec<String>,
    seen: BTreeSet<String>,
}

impl Count {
    /// Takes one line of what libtest prints.
    pub(crate) fn take(&mut self, line: &str) {
        let line = line.trim();
        if is_skip(line) {
            self.said.push(line.to_owned());
        } else if line.starts_with("test result: ") {
            self.add(line);
        }
    }

    /// Takes what was counted elsewhere.
    pub(crate) fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.said.extend(other.said);
    }

    /// Takes one line of what nextest prints. It also shows what libtest says of a failed test, and
    /// may show its summary twice.
    pub(super) fn take_summary(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Summary [") && self.seen.insert(line.to_owned()) {
            self.add(line);
        }
    }

    fn add(&mut self, line: &str) {
        self.passed += number_before(line, "passed");
        self.failed += number_before(line, "failed") + number_before(line, "timed");
        self.ignored += number_before(line, "ignored") + number_before(line, "skipped");
    }

    /// Takes nextest's report of what every test said; its results were taken from its summary.
    pub(super) fn take_report(&mut self, report: &str) {
        // The opening tag stands on the line of the first word of output.
        let lines = report.lines().flat_map(|line| line.rsplit('>'));
        let said = lines.map(str::trim).filter(|line| is_skip(line));
        self.said.extend(said.map(str::to_owned));
    }

    /// Why tests skipped themselves.
    pub(super) fn said(&self) -> &[String] {
        &self.said
    }
}

fn is_skip(line: &str) -> bool {
    line.to_ascii_lowercase().starts_with("skipped: ")
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
        let said = u64::try_from(self.said.len()).unwrap_or(u64::MAX);
        let passed = self.passed.saturating_sub(said);
        write!(
            f,
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.ignored + said
        )
    }
}

#[cfg(test)]
mod tests;

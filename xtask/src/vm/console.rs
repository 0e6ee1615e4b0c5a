//! What the machine says on its console, and what follows from it.
//!
//! Owns the reading only: marks (`vm: up`, `vm: run`, `vm: exit`, `vm: end`) and the lines of
//! libtest between them. A machine that ends without its last mark has failed, whatever was said
//! before.
//!
//! Read next: `run.sh`, which prints the marks.

use crate::suite::Count;
use anyhow::{Result, bail};

/// Everything of note in the console's lines so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    count: Count,
    up: bool,
    ended: bool,
    ran: u32,
    exited: u32,
    /// Programs that ended other than with 0.
    bad: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    pub(super) fn take(&mut self, line: &str) {
        let line = line.trim();
        self.count.take(line);
        if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(test.to_owned());
        }
        let Some(mark) = line.strip_prefix("vm: ") else {
            return;
        };
        let words: Vec<&str> = mark.split(' ').collect();
        match words.as_slice() {
            ["up,", ..] => self.up = true,
            ["run", _] => self.ran += 1,
            ["exit", code, program] => {
                self.exited += 1;
                if *code != "0" {
                    self.bad.push(format!("{program} ended with {code}"));
                }
            }
            ["end"] => self.ended = true,
            _ => {}
        }
    }

    /// Whether the machine has come as far as running programs.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn summary(&self) -> String {
        self.count.to_string()
    }

    pub(super) fn into_count(self) -> Count {
        self.count
    }

    /// Whether everything ran to its end and passed.
    pub(super) fn verdict(&self) -> Result<()> {
        if !self.up {
            bail!("the machine did not come up");
        }
        if !self.ended || self.ran == 0 || self.exited < self.ran {
            bail!("the machine ended before the tests did");
        }
        if !self.failed.is_empty() || !self.bad.is_empty() {
            let failed = [self.failed.clone(), self.bad.clone()].concat();
            bail!("failed in the machine: {}", failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

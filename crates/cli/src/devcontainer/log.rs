//! Logs on standard error, as text or one JSON object a line.

use super::VERSION;
use super::args::Logging;
use crate::lifecycle::asked_now;
use serde_json::json;

/// How much a line matters, in the reference's numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Trace = 1,
    Debug = 2,
    Info = 3,
    Warning = 4,
    Error = 5,
}

/// Where a verb logs to.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    json: bool,
    level: u8,
}

impl Log {
    /// Begins, saying who logs.
    pub(crate) fn begin(logging: &Logging) -> Self {
        let log = Self::of(&logging.log_level, logging.log_format == "json");
        log.info(&format!(
            "@devcontainers/cli {VERSION} by boatyard {}.",
            env!("CARGO_PKG_VERSION")
        ));
        log
    }

    /// One of a level's name that says nothing yet.
    pub(crate) fn of(level: &str, json: bool) -> Self {
        let level = match level {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "error" => Level::Error,
            _ => Level::Info,
        };
        Self {
            json,
            level: level as u8,
        }
    }

    pub(crate) fn info(&self, text: &str) {
        self.line(Level::Info, text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.line(Level::Warning, text);
    }

    pub(crate) fn error(&self, text: &str) {
        self.line(Level::Error, text);
    }

    /// Output of a command, as it comes.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if self.json {
            let text = String::from_utf8_lossy(bytes);
            eprintln!(
                "{}",
                json!({"type": "raw", "level": Level::Info as u8, "timestamp": millis(&asked_now()), "text": text})
            );
        } else {
            // Whoever closed standard error does not want it.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), bytes);
        }
    }

    fn line(&self, level: Level, text: &str) {
        if (level as u8) < self.level {
            return;
        }
        let now = asked_now();
        if self.json {
            let now = millis(&now);
            let line =
                json!({"type": "text", "level": level as u8, "timestamp": now, "text": text});
            eprintln!("{line}");
        } else {
            eprintln!("[{now}] {text}");
        }
    }
}

/// Milliseconds since 1970, as the reference's JSON has times.
fn millis(time: &str) -> i64 {
    let time: Result<jiff::Timestamp, _> = time.parse();
    time.map(|time| time.as_millisecond()).unwrap_or_default()
}

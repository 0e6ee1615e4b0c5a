//! What a verb prints at its end: one line of JSON, and the exit code that goes with it.

use super::log::Log;
use crate::failure::Failure;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Why a verb did not do what it should.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    description: String,
    container: Option<String>,
}

impl Problem {
    /// One whose sentence says it all.
    pub(crate) fn told(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            description: message.to_owned(),
            container: None,
        }
    }

    /// All of it, for a log.
    pub(crate) fn told_all(&self) -> String {
        if self.message == self.description {
            self.message.clone()
        } else {
            format!("{} {}", self.description, self.message)
        }
    }

    /// The same with what was being done.
    pub(crate) fn described(self, description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            ..self
        }
    }

    /// The same, of an environment that is there.
    pub(crate) fn of(self, id: String) -> Self {
        Self {
            container: Some(id),
            ..self
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::told(&failure.told())
    }
}

/// Prints how it ended.
pub(crate) fn print(
    log: &Log,
    outcome: Result<Map<String, Value>, Problem>,
) -> Result<ExitCode, Failure> {
    let (line, code) = match outcome {
        Ok(mut members) => {
            members.insert("outcome".into(), "success".into());
            (Value::Object(members), ExitCode::SUCCESS)
        }
        Err(problem) => {
            log.error(&format!("Error: {}", problem.message));
            let mut line = json!({"outcome": "error", "message": problem.message, "description": problem.description});
            if let Some(container) = problem.container {
                line["containerId"] = container.into();
            }
            (line, ExitCode::FAILURE)
        }
    };
    crate::output::print(&format!("{line}\n"))?;
    Ok(code)
}

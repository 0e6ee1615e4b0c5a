//! Limits of the processor's time: of each process the agent starts, never its own.
//!
//! The sandbox sets all other limits on PID 1, from which everything inherits them. These count what a
//! process has used, and their hard ones end it: PID 1 has none of them, and each [`stage`] takes them
//! before it becomes the process asked for, which hands them on like any other.
//!
//! [`stage`]: crate::stage

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

/// Soft and hard limit; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    of: Of,
    soft: Option<u64>,
    hard: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Of {
    /// Seconds of the processor.
    Cpu,
    /// Microseconds in a row of a process that is scheduled in real time.
    Rttime,
}

impl Limit {
    /// `cpu=SOFT:HARD` or `rttime=SOFT:HARD`, with nothing in place of a number for no limit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, values) = text.split_once('=')?;
        let of = match name {
            "cpu" => Of::Cpu,
            "rttime" => Of::Rttime,
            _ => return None,
        };
        let (soft, hard) = values.split_once(':')?;
        let bound = |text: &str| match text {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        Some(Self {
            of,
            soft: bound(soft)?,
            hard: bound(hard)?,
        })
    }

    /// Takes it on, as far as the hard limit there is allows.
    pub(crate) fn take(self) -> rustix::io::Result<()> {
        let resource = match self.of {
            Of::Cpu => Resource::Cpu,
            Of::Rttime => Resource::Rttime,
        };
        // None is the largest of all.
        let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let maximum = least(self.hard, rustix::process::getrlimit(resource).maximum);
        let current = least(self.soft, maximum);
        rustix::process::setrlimit(resource, Rlimit { current, maximum })
    }
}

#[cfg(test)]
mod tests {
    //! How they are written.
    use super::*;

    #[test]
    fn limits_are_read_as_the_runner_writes_them() {
        let limit = |of, soft, hard| Some(Limit { of, soft, hard });
        assert_eq!(Limit::parse("cpu=1:2"), limit(Of::Cpu, Some(1), Some(2)));
        assert_eq!(Limit::parse("cpu=5:"), limit(Of::Cpu, Some(5), None));
        assert_eq!(Limit::parse("rttime=:"), limit(Of::Rttime, None, None));
        for wrong in ["", "cpu", "cpu=1", "cpu=a:1", "cpu=-1:1", "nofile=1:2"] {
            assert_eq!(Limit::parse(wrong), None, "{wrong}");
        }
    }
}

//! Live figures of one environment: what travels through a stream to
//! [`crate::tunnel::TargetKind::Usage`].
//!
//! Nothing is asked; the runner sends one [`Live`] as a line of JSON at once and one a second from then
//! on, until the caller goes or the environment ends.

use boatyard_api::environment::ResourcesStatus;
use serde::{Deserialize, Serialize};

/// Longest line.
pub const LONGEST_LINE: usize = 64 * 1024;

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Limits, and why it is slowed; its figures may be a few seconds old.
    pub resources: ResourcesStatus,
    /// Thousandths of a processor used.
    pub cpu_millis: u64,
    /// Bytes of memory used that cannot be dropped.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How much of the last ten seconds something inside waited; absent where the kernel does not
    /// tell it of single cgroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Percent of the time in which something waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pressure {
    /// For a processor.
    pub cpu: f64,
    /// For memory.
    pub memory: f64,
    /// For a disk.
    pub io: f64,
}

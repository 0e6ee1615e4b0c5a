//! When a runner's disk is cleared of what only might be of use again, and of how much.
//!
//! Two reasons, as kubelet and BuildKit have them: the file system is fuller than a threshold, and
//! then as much goes as brings it below a lower one; or it is time to hold the cache of builds to
//! its size and age. What goes first, and what never does, is the image store's.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Between two collections that only hold the cache to its size and age.
const ROUTINE: Duration = Duration::from_secs(3600);
/// A collection that freed nothing is not tried again for so many looks.
const PATIENCE: u32 = 10;

/// What whoever runs a runner decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Percent of the file system from which on it is too full.
    pub high_percent: u8,
    /// Percent to which it is then cleared.
    pub low_percent: u8,
    /// Bytes that the cache of builds may have.
    pub cache_bytes: u64,
    /// How long it keeps what nobody uses.
    pub cache_age: Duration,
    /// How long pulled images stay unused; None for as long as there is room.
    pub image_age: Option<Duration>,
    /// What was used within this time stays, however full the disk is.
    pub min_age: Duration,
    /// Between two looks at the disk.
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            cache_bytes: 20 << 30,
            cache_age: Duration::from_secs(7 * 24 * 3600),
            image_age: None,
            min_age: Duration::from_secs(600),
            interval: Duration::from_secs(60),
        }
    }
}

/// How full the file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes there are.
    pub bytes: u64,
    /// Bytes that are left.
    pub free: u64,
}

impl Disk {
    /// How much of it is used, rounded down.
    #[must_use]
    pub fn percent(self) -> u8 {
        let used = u128::from(self.bytes.saturating_sub(self.free));
        let percent = used * 100 / u128::from(self.bytes.max(1));
        u8::try_from(percent).unwrap_or(100)
    }
}

/// What was done before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Since the last collection, or the runner's start.
    pub since: Duration,
    /// Whether it was for a full disk and freed nothing.
    pub in_vain: bool,
    /// Whether something was built since.
    pub built: bool,
}

/// Why there is a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The disk is too full.
    Full,
    /// The cache is held to its size and age.
    Bounds,
}

/// One collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Why.
    pub reason: Reason,
    /// Bytes to be made free beyond what size and age say.
    pub free: u64,
}

/// What to do at a look at the disk.
#[must_use]
pub fn next(settings: &Settings, disk: Disk, past: Past) -> Option<Collection> {
    if disk.percent() >= settings.high_percent {
        if past.in_vain && past.since < settings.interval * PATIENCE {
            return None;
        }
        let stay = u128::from(disk.bytes) * u128::from(settings.low_percent) / 100;
        let used = disk.bytes.saturating_sub(disk.free);
        return Some(Collection {
            reason: Reason::Full,
            free: used.saturating_sub(u64::try_from(stay).unwrap_or(u64::MAX)),
        });
    }
    let due = past.since >= ROUTINE || past.built && past.since >= settings.interval;
    due.then_some(Collection {
        reason: Reason::Bounds,
        free: 0,
    })
}

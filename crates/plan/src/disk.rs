//! How large an environment's disk is, and when it is nearly full.
//!
//! A disk only grows: what is written cannot be taken from its owner. It counts as nearly full from
//! [`WARN`] percent of its bytes or files on, and no more below [`CLEAR`], so that the warning does
//! not come and go with every file.

/// Percent from which on a disk is nearly full.
pub const WARN: u64 = 90;
/// Percent below which it is so no more.
pub const CLEAR: u64 = 85;
/// Left over to what the runner itself writes when an environment starts, so that one with a full
/// disk does.
const RESERVE: u64 = 16 << 20;

/// What a disk is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sized {
    /// Its bytes; None for no limit.
    pub bytes: Option<u64>,
    /// Why it is not what its class says.
    pub kept: Option<String>,
}

/// The size of a disk that has `granted` bytes when its class says `wanted`.
#[must_use]
pub fn sized(granted: Option<u64>, wanted: Option<u64>) -> Sized {
    let kept = match (granted, wanted) {
        (Some(granted), Some(wanted)) if wanted < granted => Some(format!(
            "its disk stays at {}: a disk is not made smaller than it was ({} in its class); make another environment for less",
            size(granted),
            size(wanted)
        )),
        (Some(granted), None) => Some(format!(
            "its disk stays at {}, though its class has no limit any more; make another environment for one without",
            size(granted)
        )),
        _ => None,
    };
    let bytes = match kept {
        Some(_) => granted,
        None => wanted,
    };
    Sized { bytes, kept }
}

/// Bytes that are kept for the runner on a disk of so many.
#[must_use]
pub fn reserve(bytes: u64) -> u64 {
    RESERVE.min(bytes / 16)
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes there are, without those kept for the runner.
    pub bytes: u64,
    /// Bytes that are left.
    pub bytes_free: u64,
    /// Files there can be.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}

/// What to say of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    #[default]
    None,
    /// There will soon be no more files.
    Inodes,
    /// There will soon be no more bytes.
    Bytes,
}

impl Pressure {
    /// Stable reason code.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::None => "DiskHasRoom",
            Self::Inodes => "InodesNearlyExhausted",
            Self::Bytes => "DiskNearlyFull",
        }
    }

    /// The one with this code.
    #[must_use]
    pub fn named(reason: &str) -> Option<Self> {
        [Self::None, Self::Inodes, Self::Bytes]
            .into_iter()
            .find(|one| one.reason() == reason)
    }
}

/// Whether a disk is nearly full, given what was said of it before.
#[must_use]
pub fn pressure(before: Pressure, usage: &Usage) -> Pressure {
    let percent = |all: u64, free: u64| match all {
        0 => 0,
        all => u64::try_from(u128::from(all.saturating_sub(free)) * 100 / u128::from(all))
            .unwrap_or(100),
    };
    let over = |kind: Pressure, percent: u64| percent >= if before == kind { CLEAR } else { WARN };
    if over(Pressure::Bytes, percent(usage.bytes, usage.bytes_free)) {
        Pressure::Bytes
    } else if over(Pressure::Inodes, percent(usage.inodes, usage.inodes_free)) {
        Pressure::Inodes
    } else {
        Pressure::None
    }
}

/// One sentence about a disk; `largest` are the largest things on it.
#[must_use]
pub fn message(pressure: Pressure, usage: &Usage, largest: &[(String, u64)]) -> String {
    let mut text = match pressure {
        Pressure::None => {
            return format!("less than {WARN}% of its {} are used", size(usage.bytes));
        }
        Pressure::Bytes => format!("its disk of {} is nearly full", size(usage.bytes)),
        Pressure::Inodes => format!(
            "its disk can hold {} files, and nearly all are there",
            usage.inodes
        ),
    };
    if !largest.is_empty() {
        let unit = |count: u64| match pressure {
            Pressure::Inodes => format!("{count} files"),
            Pressure::None | Pressure::Bytes => size(count),
        };
        let named = largest
            .iter()
            .map(|(name, count)| format!("{name} ({})", unit(*count)));
        text.push_str("; most is in ");
        text.push_str(&named.collect::<Vec<_>>().join(", "));
    }
    text.push_str("; remove what is not needed, or give it a class with a larger disk");
    text
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB")] {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenth = ((bytes - (whole << shift)) * 10) >> shift;
            return if tenth == 0 || whole >= 100 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenth} {unit}")
            };
        }
    }
    format!("{} KiB", bytes >> 10)
}

#[cfg(test)]
mod tests;

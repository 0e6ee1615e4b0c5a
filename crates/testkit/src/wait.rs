//! Waiting on a condition with a deadline, instead of sleeping.

use std::time::{Duration, Instant};

/// Longest any condition may take on a busy two-core machine, by emulation too.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives a value.
///
/// # Panics
/// When it does not within the deadline; `what` says what was waited for.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_or(what, String::new, condition)
}

/// The same; `why` says at the deadline what was seen instead.
///
/// # Panics
/// When it does not within the deadline.
pub fn until_or<T>(
    what: &str,
    why: impl Fn() -> String,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "waited {}s for {what} {}",
            DEADLINE.as_secs(),
            why()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

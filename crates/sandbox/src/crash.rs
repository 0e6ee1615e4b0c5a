//! Crash points: numbered places where a test may kill the process that passes them.
//!
//! Every step of spawner, monitor and init that changes something calls [`point`]. With the
//! feature `kill-points` (tests only; the crate's own tests switch it on) the Nth call in the line
//! from spawner to monitor is SIGKILL to the caller; init, which runs beside its monitor, counts
//! from [`INIT`] on. Without the feature the calls vanish.

/// Numbers above this count the steps of init.
#[cfg(feature = "kill-points")]
const INIT: u32 = 1000;

#[cfg(feature = "kill-points")]
mod counting {
    use super::INIT;
    use std::sync::atomic::{AtomicU32, Ordering};

    static LEFT: AtomicU32 = AtomicU32::new(0);
    static LEFT_IN_INIT: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn arm(at: u32) {
        let (monitor, init) = if at > INIT { (0, at - INIT) } else { (at, 0) };
        LEFT.store(monitor, Ordering::Relaxed);
        LEFT_IN_INIT.store(init, Ordering::Relaxed);
    }

    pub(crate) fn become_init() {
        LEFT.store(LEFT_IN_INIT.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn point() {
        let left = LEFT.load(Ordering::Relaxed);
        if left == 1 {
            crate::sys::process::kill_self();
        }
        LEFT.store(left.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(not(feature = "kill-points"))]
mod counting {
    pub(crate) fn arm(_at: u32) {}
    pub(crate) fn become_init() {}
    pub(crate) fn point() {}
}

/// Dies at the `at`th [`point`] from now; 0 disarms.
pub(crate) fn arm(at: u32) {
    counting::arm(at);
}

/// This process is init from here on.
pub(crate) fn become_init() {
    counting::become_init();
}

/// A step begins.
pub(crate) fn point() {
    counting::point();
}

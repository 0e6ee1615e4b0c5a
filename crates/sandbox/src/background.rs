//! Work of the host's own that gives way: images that are unpacked, layers that are built, disks that
//! are made.
//!
//! By the thread's class at disks ("idle": served when nobody else asks, and after a while all the
//! same), which mq-deadline and bfq honour and what it starts inherits. Pages that the kernel writes
//! back later have none. The processor is not part of it.

use crate::sys::process;
use std::marker::PhantomData;

/// `IOPRIO_CLASS_IDLE` of include/uapi/linux/ioprio.h.
const IDLE: i32 = 3 << 13;

/// The calling thread works in the background until this is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it does nothing"]
pub struct Background {
    before: Option<i32>,
    /// It is the thread's own.
    here: PhantomData<*const ()>,
}

impl Background {
    /// From now on. Best effort: a kernel without classes takes no notice.
    pub fn enter() -> Self {
        let before = process::io_class().ok();
        let changed = before.filter(|_| process::set_io_class(IDLE).is_ok());
        Self {
            before: changed,
            here: PhantomData,
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // What was allowed before is allowed again.
            let _ = process::set_io_class(before);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_comes_back() {
        let before = process::io_class().unwrap();
        let outer = Background::enter();
        assert_eq!(process::io_class().unwrap(), IDLE);
        let here = std::thread::spawn(|| process::io_class().unwrap());
        assert_eq!(here.join().unwrap(), IDLE, "what it starts gives way too");
        drop(Background::enter());
        assert_eq!(process::io_class().unwrap(), IDLE);
        drop(outer);
        assert_eq!(process::io_class().unwrap(), before);
    }
}

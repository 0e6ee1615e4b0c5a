//! Acting for a moment as another user, in the calling thread alone.

use rustix::process::Uid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_uid,
};
use std::io;

/// Calls `work` with the effective user id `uid`: with the thread's capabilities, or with none. The
/// caller's thread has its former ids and capabilities again on return.
///
/// # Errors
/// When the thread may not change its ids. That it could not change back is no error but the end of
/// the process: nothing it did afterwards would be right.
pub(super) fn acting_as<T>(uid: u32, capable: bool, work: impl FnOnce() -> T) -> io::Result<T> {
    let former = (rustix::process::geteuid(), capabilities(None)?);
    // Real and saved ids stay: by them it comes back.
    set_thread_res_uid(None, Some(Uid::from_raw(uid)), None)?;
    let restore = Restore(former);
    let sets = former.1;
    let effective = if capable {
        sets.permitted
    } else {
        CapabilitySet::empty()
    };
    set_capabilities(None, CapabilitySets { effective, ..sets })?;
    let done = work();
    drop(restore);
    Ok(done)
}

struct Restore((Uid, CapabilitySets));

impl Drop for Restore {
    fn drop(&mut self) {
        let (uid, sets) = self.0;
        let back = set_thread_res_uid(None, Some(uid), None);
        if back.and_then(|()| set_capabilities(None, sets)).is_err() {
            std::process::abort();
        }
    }
}

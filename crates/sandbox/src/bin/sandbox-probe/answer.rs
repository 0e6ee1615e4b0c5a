//! The neighbour: init of a sandbox that nobody attacks on purpose.
//!
//! Each connection is answered by starting a small program, as a shell would, and one byte.

use boatyard_sandbox::probing;
use std::io::{self, Write};
use std::process::{Command, Stdio};

pub(super) fn run() -> io::Result<()> {
    let listener = probing::listener();
    loop {
        let (mut caller, _) = listener.accept()?;
        let status = Command::new("/bin/true").stdin(Stdio::null()).status();
        let word = if status.is_ok_and(|status| status.success()) {
            b'y'
        } else {
            b'n'
        };
        // A caller that has gone wants no answer.
        let _ = caller.write_all(&[word]);
    }
}

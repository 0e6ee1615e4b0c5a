//! The neighbour: init of a sandbox that nobody attacks on purpose.
//!
//! Each connection brings a script for its shell, until its writing half is closed, and gets what
//! the script printed.

use boatyard_sandbox::probing;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

pub(super) fn run() -> io::Result<()> {
    let listener = probing::listener();
    loop {
        let (mut caller, _) = listener.accept()?;
        let mut script = String::new();
        caller.read_to_string(&mut script)?;
        let output = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .output();
        let said = match output {
            Ok(output) => output.stdout,
            Err(error) => format!("it could not start a program: {error}\n").into_bytes(),
        };
        // A caller that has gone wants no answer.
        let _ = caller.write_all(&said);
    }
}

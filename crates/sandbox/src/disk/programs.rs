//! The programs of e2fsprogs, which make and mend the file system in an image.
//!
//! Owns starting them. Whoever works on an image holds its lock, and so does the program, which
//! has the locked file as its standard input: when the runner is killed meanwhile the program goes
//! on, and the next runner waits for it rather than mounting under its hands.

use super::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) const MKE2FS: &str = "mke2fs";
pub(super) const E2FSCK: &str = "e2fsck";
pub(super) const RESIZE2FS: &str = "resize2fs";

/// Where a program is.
pub(super) fn find(program: &'static str) -> Result<PathBuf, Error> {
    ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
        .ok_or(Error::NoProgram(program))
}

/// Runs a program on a locked image; its exit code must not be above `good`.
pub(super) fn run(
    program: &'static str,
    arguments: &[&std::ffi::OsStr],
    (image, locked): (&Path, &File),
    good: i32,
) -> Result<(), Error> {
    let failed = |said: String| Error::Program {
        program,
        image: image.to_owned(),
        said,
    };
    let locked = locked
        .try_clone()
        .map_err(|error| failed(error.to_string()))?;
    let output = Command::new(find(program)?)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::from(locked))
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.code().is_some_and(|code| code <= good) {
        return Ok(());
    }
    if output.status.code().is_none() {
        let image = image.to_owned();
        return Err(Error::Killed { program, image });
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let end = lines[lines.len().saturating_sub(3)..].join("; ");
    Err(failed(format!("{end} ({})", output.status)))
}

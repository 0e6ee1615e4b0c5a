//! Which checkout is built, where several share cargo's target directory.
//!
//! Sharing it saves building the dependencies for each checkout. But cargo gives the crates of the
//! house the same file names in all of them and judges by times of change alone: a checkout whose
//! sources are older than another's last build would silently get the other's programs. So:
//!
//! - the directory belongs to one checkout at a time: [`own`] waits for a lock that is held as long
//!   as a verb builds and runs what it built;
//! - when another checkout had it last, the sources here get a new time of change, so that the
//!   crates of the house are built again, and the dependencies are not;
//! - this program too may be another checkout's: then it starts again from its own sources.
//!
//! The lock and the note of who had it last lie in the target directory. A killed run leaves the
//! note of a checkout whose build may be unfinished, which cargo itself copes with. Cargo started by
//! hand is not guarded: by default it uses the checkout's own `target`.
//!
//! Read next: `process`, which starts cargo.

use crate::process;
use anyhow::{Context, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Set for the program that was started again, so that this happens once.
const AGAIN: &str = "BOATYARD_XTASK_AGAIN";

/// What cargo reads of a checkout.
const SOURCES: &[&str] = &["crates", "xtask", "Cargo.toml", "Cargo.lock"];

/// The top of the checkout that cargo was called in.
pub(crate) fn root() -> PathBuf {
    let called = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = called.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// Starts again when this program was built from another checkout; does not return then.
pub(crate) fn built_here(root: &Path) -> Result<()> {
    if Path::new(env!("CARGO_MANIFEST_DIR")).parent() == Some(root)
        || std::env::var_os(AGAIN).is_some()
    {
        return Ok(());
    }
    renew(&root.join("xtask"))?;
    let mut again = process::cargo(root);
    again
        .args(["run", "--quiet", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .env(AGAIN, "1");
    let status = again.status().context("cannot start cargo")?;
    std::process::exit(status.code().unwrap_or(1));
}

/// The target directory for this checkout alone, until what is returned is dropped.
pub(crate) fn own(root: &Path) -> Result<File> {
    let target = process::target(root);
    std::fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    let lock = File::create(target.join("checkout.lock")).context("checkout.lock")?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        println!(
            "waiting: another run of xtask builds in {}",
            target.display()
        );
    }
    lock.lock().context("checkout.lock")?;
    let note = target.join("checkout");
    let here = root.to_string_lossy();
    let last = std::fs::read_to_string(&note).unwrap_or_default();
    if last != here {
        for source in SOURCES {
            renew(&root.join(source))?;
        }
        std::fs::write(&note, here.as_bytes()).with_context(|| note.display().to_string())?;
    }
    Ok(lock)
}

/// Gives a file, or every file below a folder, the present as its time of change.
fn renew(path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            renew(&entry?.path())?;
        }
        return Ok(());
    }
    if path.is_symlink() {
        return Ok(());
    }
    let file = File::options().append(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let now = SystemTime::now();
    file.set_modified(now)
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;

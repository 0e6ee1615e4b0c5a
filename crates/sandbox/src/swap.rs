//! Swap in compressed memory (zram), where the runner is told to have some.
//!
//! Owns one device of the kernel's, known by the label in its header. Nothing takes it away again:
//! what environments hold lies in it, and they outlive the runner. A host that is started anew has
//! none until the runner is.
//!
//! Crash behaviour: a device is made, sized, labelled and switched on in this order. One killed after
//! the label is found and switched on by the next; killed before, an empty device stays behind, which
//! holds no memory.
//!
//! When what is swapped out is `plan`'s (`memory`).

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const LABEL: &[u8; 16] = b"boatyard-swap\0\0\0";
const PAGE: usize = 4096;
/// Where the header's fields begin (`union swap_header` of include/linux/swap.h).
const FIELDS: usize = 1024;
const NAME: usize = FIELDS + 28;
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
/// Before swap on disks, which has negative ones unless somebody says otherwise.
const PRIORITY: u16 = 100;

/// Why there is no swap.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing in this kernel makes such devices.
    #[error("this kernel has no zram; load its module (modprobe zram) before the runner starts")]
    NoZram,
    /// A step failed.
    #[error("cannot {verb} {}", path.display())]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Failed { verb, path, source }
}

/// Sees to it that there is swap in compressed memory for so many bytes of pages; one that is there
/// stays as large as it was made. Answers its device.
///
/// # Errors
/// When there is none afterwards.
pub fn in_compressed_memory(bytes: u64) -> Result<PathBuf, Error> {
    if let Some(device) = ours() {
        switch_on(&device)?;
        return Ok(device);
    }
    let adding = Path::new("/sys/class/zram-control/hot_add");
    // Reading it makes one.
    let number = match std::fs::read_to_string(adding) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoZram),
        read => read.map_err(failed("make a device by", adding))?,
    };
    let name = format!("zram{}", number.trim());
    let size = Path::new("/sys/block").join(&name).join("disksize");
    let bytes = bytes.next_multiple_of(PAGE as u64).max(16 * PAGE as u64);
    std::fs::write(&size, bytes.to_string()).map_err(failed("write", &size))?;
    let device = Path::new("/dev").join(&name);
    label(&device, bytes).map_err(failed("write a header to", &device))?;
    switch_on(&device)?;
    Ok(device)
}

/// The device with our label.
fn ours() -> Option<PathBuf> {
    let blocks = std::fs::read_dir("/sys/block").ok()?;
    let names = blocks.flatten().map(|block| block.file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("zram"))
        .map(|name| Path::new("/dev").join(name))
        .find(|device| is_labelled(device).unwrap_or(false))
}

fn is_labelled(device: &Path) -> io::Result<bool> {
    let mut page = [0; PAGE];
    File::open(device)?.read_exact(&mut page)?;
    let name = page.get(NAME..NAME + LABEL.len());
    Ok(page.ends_with(MAGIC) && name == Some(LABEL.as_slice()))
}

fn label(device: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(device)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header(bytes))?;
    file.sync_all()
}

/// The first page of a swap device of so many bytes.
fn header(bytes: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let pages = u32::try_from(bytes / PAGE as u64).unwrap_or(u32::MAX);
    let fields = [1_u32.to_ne_bytes(), pages.saturating_sub(1).to_ne_bytes()];
    for (at, byte) in fields.iter().flatten().enumerate() {
        page[FIELDS + at] = *byte;
    }
    page[NAME..NAME + LABEL.len()].copy_from_slice(LABEL);
    page[PAGE - MAGIC.len()..].copy_from_slice(MAGIC);
    page
}

fn switch_on(device: &Path) -> Result<(), Error> {
    match sys::disk::swap_on(device, PRIORITY) {
        // It is on.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        done => done.map_err(failed("swap to", device)),
    }
}

#[cfg(test)]
mod tests;

//! What is needed, beside the unpacked tree, to write a layer's tar again,
//! bit for bit.
//!
//! The compressed blobs of an image cost about 40% on top of its unpacked
//! layers. They are dropped; what is kept instead is all of the tar that is
//! not some file's content (headers, padding, the end), compressed to about
//! one percent. An export plays the recipe against the tree and checks the
//! result against the diff id, so the image id stays what the registry gave.
//! What does change is the compressed digest, and with it the manifest's.
//!
//! On disk: a zstd stream of records, each a tag, a length (u64, little
//! endian) and bytes. `R` raw bytes; `F` that many bytes of content, followed
//! by the length of a path (u32) and the path in the tree; `M` a path that was
//! set aside because a later entry replaced it: its number in `shadow/`, then
//! path length and path.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use boatyard_sandbox::beneath;
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// One record is never longer; also bounds memory when playing.
const RAW_LIMIT: usize = 1 << 16;

pub(crate) struct Writer {
    output: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    pending: Vec<u8>,
    shadows: u64,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let output = zstd::stream::write::Encoder::new(BufWriter::new(file), 3)?;
        Ok(Writer {
            output,
            pending: Vec::with_capacity(RAW_LIMIT),
            shadows: 0,
        })
    }

    pub(crate) fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let length = bytes.len().min(RAW_LIMIT - self.pending.len());
            self.pending.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if self.pending.len() == RAW_LIMIT {
                self.flush_raw()?;
            }
        }
        Ok(())
    }

    pub(crate) fn content(&mut self, path: &[u8], length: u64) -> io::Result<()> {
        self.flush_raw()?;
        self.record(b'F', length, Some(path))
    }

    /// Gives the number under which the replaced thing is to be set aside.
    pub(crate) fn shadow(&mut self, path: &[u8]) -> io::Result<u64> {
        self.flush_raw()?;
        let number = self.shadows;
        self.shadows += 1;
        self.record(b'M', number, Some(path))?;
        Ok(number)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush_raw()?;
        self.output.finish()?.flush()
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.record(b'R', self.pending.len() as u64, None)?;
        self.output.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn record(&mut self, tag: u8, length: u64, path: Option<&[u8]>) -> io::Result<()> {
        self.output.write_all(&[tag])?;
        self.output.write_all(&length.to_le_bytes())?;
        if let Some(path) = path {
            let length = u32::try_from(path.len()).map_err(io::Error::other)?;
            self.output.write_all(&length.to_le_bytes())?;
            self.output.write_all(path)?;
        }
        Ok(())
    }
}

enum Record {
    Raw(Vec<u8>),
    Content { path: Vec<u8>, length: u64 },
    Shadow { path: Vec<u8>, number: u64 },
}

struct Records<R>(R);

impl<R: Read> Records<R> {
    fn next(&mut self) -> io::Result<Option<Record>> {
        let mut tag = [0];
        if self.0.read(&mut tag)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 8];
        self.0.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "the layer's recipe is damaged");
        match tag[0] {
            b'R' => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= RAW_LIMIT)
                    .ok_or_else(broken)?;
                let mut bytes = vec![0; length];
                self.0.read_exact(&mut bytes)?;
                Ok(Some(Record::Raw(bytes)))
            }
            b'F' => Ok(Some(Record::Content {
                path: self.path()?,
                length,
            })),
            b'M' => Ok(Some(Record::Shadow {
                path: self.path()?,
                number: length,
            })),
            _ => Err(broken()),
        }
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > RAW_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the layer's recipe is damaged",
            ));
        }
        let mut path = vec![0; length];
        self.0.read_exact(&mut path)?;
        Ok(path)
    }
}

/// Writes the layer's tar. The caller checks the digest.
pub(crate) fn play(
    recipe: &Path,
    tree: &Path,
    shadow: &Path,
    output: &mut dyn Write,
) -> io::Result<()> {
    let open = || -> io::Result<_> {
        Ok(Records(BufReader::new(zstd::stream::read::Decoder::new(
            File::open(recipe)?,
        )?)))
    };
    // What was set aside is found by who set it aside first after the content
    // was written, so these records are needed before the rest.
    let mut moves = Vec::new();
    let mut at = 0u64;
    let mut records = open()?;
    while let Some(record) = records.next()? {
        if let Record::Shadow { path, number } = record {
            moves.push((at, path, number));
        }
        at += 1;
    }
    let tree = open_directory(tree)?;
    let shadow = if moves.is_empty() {
        None
    } else {
        Some(open_directory(shadow)?)
    };
    let mut records = open()?;
    let mut at = 0u64;
    while let Some(record) = records.next()? {
        match record {
            Record::Raw(bytes) => output.write_all(&bytes)?,
            Record::Shadow { .. } => {}
            Record::Content { path, length } => {
                let moved = moves
                    .iter()
                    .find(|(when, prefix, _)| *when > at && within(&path, prefix));
                let file = match (moved, &shadow) {
                    (Some((_, prefix, number)), Some(shadow)) => {
                        let mut place = number.to_string().into_bytes();
                        place.extend_from_slice(&path[prefix.len()..]);
                        open_file(shadow, &place)?
                    }
                    _ => open_file(&tree, &path)?,
                };
                let copied = io::copy(&mut file.take(length), output)?;
                if copied != length {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "{} is shorter than it was when unpacked",
                            String::from_utf8_lossy(&path)
                        ),
                    ));
                }
            }
        }
        at += 1;
    }
    Ok(())
}

fn within(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn open_directory(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn open_file(directory: &rustix::fd::OwnedFd, path: &[u8]) -> io::Result<File> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
    let file = beneath::open(directory, path, flags, ResolveFlags::BENEATH)?;
    Ok(File::from(file))
}

//! Reads a tar stream, entry by entry, and hands out what each entry says.
//!
//! Understands ustar, PAX (local and global headers, xattrs), GNU long names
//! and links, base-256 numbers, and the four kinds of sparse files. It touches
//! no file system and trusts nothing: every extension that is kept in memory
//! has a bound. What the entries mean for a layer is decided in `unpack`.
//!
//! The `tar` crate is not used for reading because it keeps extension headers
//! of any size in memory, knows no PAX sparse files, and does not give the
//! bytes between the files, which the layer's recipe needs (see `recipe`).
//!
//! Format: POSIX.1-2017 pax, "Extended Interchange Format"; the GNU tar
//! manual's appendix on sparse formats.

use std::io::{self, BufRead};

use crate::recipe;

const BLOCK: usize = 512;
/// PAX headers hold xattrs (64 KiB each at most on Linux) and names.
const EXTENSION_LIMIT: u64 = 1 << 20;
const SPARSE_LIMIT: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
    Unknown(u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: (i64, u32),
    /// Bytes of the file once written, holes included.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Read(error)
    }
}

#[derive(Default, Clone)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_major: Option<u64>,
    sparse_offsets: Vec<u64>,
    sparse_map: Option<Vec<(u64, u64)>>,
}

pub(crate) struct Archive<R> {
    reader: R,
    /// Payload bytes of the current entry not yet read.
    remaining: u64,
    padding: u64,
    global: Extensions,
    recipe: Option<recipe::Writer>,
    ended: bool,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(reader: R, recipe: Option<recipe::Writer>) -> Self {
        Archive {
            reader,
            remaining: 0,
            padding: 0,
            global: Extensions::default(),
            recipe,
            ended: false,
        }
    }

    /// The next entry, or None at the end. What was not read of the entry
    /// before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.skip()?;
        let mut local = Extensions::default();
        let mut long_path = None;
        let mut long_link = None;
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = number(&header[124..136])?;
            match header[156] {
                b'L' => long_path = Some(until_nul(&self.extension(size)?)),
                b'K' => long_link = Some(until_nul(&self.extension(size)?)),
                b'x' => {
                    let bytes = self.extension(size)?;
                    pax(&bytes, &mut local)?;
                }
                b'g' => {
                    let bytes = self.extension(size)?;
                    let mut global = std::mem::take(&mut self.global);
                    pax(&bytes, &mut global)?;
                    // Only what may sensibly hold for every entry.
                    self.global = Extensions {
                        uid: global.uid,
                        gid: global.gid,
                        mtime: global.mtime,
                        ..Extensions::default()
                    };
                }
                flag => {
                    return self
                        .entry(&header, flag, size, local, long_path, long_link)
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        flag: u8,
        size: u64,
        local: Extensions,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, Error> {
        let plain_path = header_path(header);
        let path = local
            .sparse_name
            .clone()
            .or(local.path.clone())
            .or(long_path)
            .unwrap_or(plain_path);
        let link = local
            .link
            .clone()
            .or(long_link)
            .unwrap_or_else(|| until_nul(&header[157..257]));
        let kind = match flag {
            b'0' | 0 | b'7' | b'S' if path.ends_with(b"/") && size == 0 => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Unknown(other),
        };
        // Only regular files (and kinds nobody knows) have a payload; a size
        // on a link or directory is historical noise.
        let stored = match kind {
            Kind::Regular | Kind::Unknown(_) => local.size.unwrap_or(size),
            _ => 0,
        };
        self.remaining = stored;
        self.padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
        let mode = u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0);
        let mut entry = Entry {
            path,
            link,
            kind,
            mode,
            uid: match local.uid.or(self.global.uid) {
                Some(uid) => uid,
                None => number(&header[108..116])?,
            },
            gid: match local.gid.or(self.global.gid) {
                Some(gid) => gid,
                None => number(&header[116..124])?,
            },
            mtime: match local.mtime.or(self.global.mtime) {
                Some(mtime) => mtime,
                None => (signed_number(&header[136..148])?, 0),
            },
            size: stored,
            xattrs: local.xattrs.clone(),
            sparse: None,
        };
        if kind == Kind::Regular {
            self.sparse(header, flag, &local, &mut entry)?;
        }
        Ok(entry)
    }

    fn sparse(
        &mut self,
        header: &[u8; BLOCK],
        flag: u8,
        local: &Extensions,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let map = if flag == b'S' {
            // The map's continuation lies between header and payload and is
            // not counted in the size.
            let stored = self.remaining;
            let padding = self.padding;
            let mut map = Vec::new();
            sparse_slots(&header[386..482], &mut map)?;
            let mut more = header[482] != 0;
            while more {
                let block = self
                    .block()?
                    .ok_or(Error::Malformed("a sparse file's map is cut off"))?;
                sparse_slots(&block[..504], &mut map)?;
                more = block[504] != 0;
            }
            self.remaining = stored;
            self.padding = padding;
            entry.size = number(&header[483..495])?;
            map
        } else if local.sparse_major == Some(1) {
            entry.size = local
                .sparse_size
                .ok_or(Error::Malformed("a sparse file has no size"))?;
            self.sparse_map_in_payload()?
        } else if let Some(map) = local.sparse_map.clone() {
            entry.size = local
                .sparse_size
                .ok_or(Error::Malformed("a sparse file has no size"))?;
            map
        } else {
            return Ok(());
        };
        let mut end = 0;
        let mut total: u64 = 0;
        for &(offset, length) in &map {
            let stop = offset
                .checked_add(length)
                .ok_or(Error::Malformed("a sparse file's map overflows"))?;
            if offset < end || stop > entry.size {
                return Err(Error::Malformed("a sparse file's map is out of order"));
            }
            end = stop;
            total += length;
        }
        if total != self.remaining {
            return Err(Error::Malformed(
                "a sparse file's map does not fit its content",
            ));
        }
        entry.sparse = Some(map);
        Ok(())
    }

    fn sparse_map_in_payload(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut current: Option<u64> = None;
        let mut block = [0; BLOCK];
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(Error::Malformed("a sparse file's map is cut off"));
            }
            self.exact(&mut block)?;
            self.remaining -= BLOCK as u64;
            for byte in block {
                match byte {
                    b'0'..=b'9' => {
                        let digit = u64::from(byte - b'0');
                        let value = current
                            .unwrap_or(0)
                            .checked_mul(10)
                            .and_then(|value| value.checked_add(digit));
                        current =
                            Some(value.ok_or(Error::Malformed("a sparse file's map overflows"))?);
                    }
                    b'\n' => {
                        let value = current
                            .take()
                            .ok_or(Error::Malformed("a sparse file's map is no map"))?;
                        match wanted {
                            None => {
                                let count = usize::try_from(value)
                                    .ok()
                                    .filter(|count| *count <= SPARSE_LIMIT);
                                wanted = Some(
                                    2 * count.ok_or(Error::Malformed(
                                        "a sparse file has too many holes",
                                    ))?,
                                );
                            }
                            Some(_) => numbers.push(value),
                        }
                        if Some(numbers.len()) == wanted {
                            return Ok(numbers
                                .chunks_exact(2)
                                .map(|pair| (pair[0], pair[1]))
                                .collect());
                        }
                    }
                    _ => return Err(Error::Malformed("a sparse file's map is no map")),
                }
            }
        }
    }

    /// Content of the current entry, as it lies in the buffer; empty at its
    /// end.
    pub(crate) fn payload(&mut self) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let buffer = self.reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(Error::Malformed("the archive ends in the middle of a file"));
        }
        Ok(&buffer[..buffer.len().min(most)])
    }

    /// `kept` says that these bytes can be found again in the unpacked tree,
    /// so that the recipe need not hold them.
    pub(crate) fn consume(&mut self, length: usize, kept: bool) -> io::Result<()> {
        if !kept && let Some(recipe) = &mut self.recipe {
            recipe.raw(&self.reader.fill_buf()?[..length])?;
        }
        self.reader.consume(length);
        self.remaining -= length as u64;
        Ok(())
    }

    /// At the current entry's content, as far as that was read.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    pub(crate) fn recipe(&mut self) -> Option<&mut recipe::Writer> {
        self.recipe.as_mut()
    }

    /// Reads what follows the archive's end, which counts for the digest.
    pub(crate) fn finish(mut self) -> Result<(R, Option<recipe::Writer>), Error> {
        loop {
            let length = {
                let buffer = self.reader.fill_buf()?;
                if buffer.is_empty() {
                    break;
                }
                if let Some(recipe) = &mut self.recipe {
                    recipe.raw(buffer)?;
                }
                buffer.len()
            };
            self.reader.consume(length);
        }
        Ok((self.reader, self.recipe))
    }

    fn skip(&mut self) -> Result<(), Error> {
        loop {
            let length = self.payload()?.len();
            if length == 0 {
                break;
            }
            self.consume(length, false)?;
        }
        let mut padding = [0; BLOCK];
        let length = usize::try_from(self.padding).unwrap_or(0);
        self.padding = 0;
        self.exact(&mut padding[..length])
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.reader
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::Malformed("the archive is cut off"),
                _ => Error::Read(error),
            })?;
        if let Some(recipe) = &mut self.recipe {
            recipe.raw(bytes)?;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let stated = number(&block[148..156])?;
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    u64::from(b' ')
                } else {
                    u64::from(*byte)
                }
            })
            .sum();
        if stated != sum {
            return Err(Error::Malformed("a header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_LIMIT {
            return Err(Error::Malformed("an extension header is larger than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.exact(&mut bytes)?;
        let mut padding = [0; BLOCK];
        let length = (BLOCK - bytes.len() % BLOCK) % BLOCK;
        self.exact(&mut padding[..length])?;
        Ok(bytes)
    }
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let posix = &header[257..263] == b"ustar\0";
    let prefix = until_nul(&header[345..500]);
    if posix && !prefix.is_empty() {
        let mut path = prefix;
        path.push(b'/');
        path.extend_from_slice(&name);
        return path;
    }
    name
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn number(field: &[u8]) -> Result<u64, Error> {
    u64::try_from(signed_number(field)?)
        .map_err(|_| Error::Malformed("a header holds a negative number"))
}

fn signed_number(field: &[u8]) -> Result<i64, Error> {
    let broken = Error::Malformed("a header's number is no number");
    if field[0] & 0x80 != 0 {
        // Base 256, two's complement, the top bit being the mark.
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative {
                byte & 0x7f
            } else {
                *byte
            };
            value = (value << 8) | i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return Err(broken);
            }
        }
        return i64::try_from(value).map_err(|_| broken);
    }
    let mut value: i64 = 0;
    let digits = field
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| **byte != b' ' && **byte != 0);
    for byte in digits {
        if !(b'0'..=b'7').contains(byte) {
            return Err(broken);
        }
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(byte - b'0')))
            .ok_or(Error::Malformed("a header's number overflows"))?;
    }
    Ok(value)
}

fn sparse_slots(slots: &[u8], map: &mut Vec<(u64, u64)>) -> Result<(), Error> {
    for slot in slots.chunks_exact(24) {
        if slot[0] == 0 {
            break;
        }
        if map.len() >= SPARSE_LIMIT {
            return Err(Error::Malformed("a sparse file has too many holes"));
        }
        map.push((number(&slot[..12])?, number(&slot[12..])?));
    }
    Ok(())
}

/// Records of the form `LENGTH KEY=VALUE\n`, the length counting itself.
fn pax(mut bytes: &[u8], extensions: &mut Extensions) -> Result<(), Error> {
    let broken = || Error::Malformed("a PAX header is malformed");
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(broken)?;
        let length: usize = text(&bytes[..space])?.parse().map_err(|_| broken())?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(broken());
        }
        let record = &bytes[space + 1..length - 1];
        bytes = &bytes[length..];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let decimal = || text(value)?.parse::<u64>().map_err(|_| broken());
        match key {
            b"path" => extensions.path = Some(value.to_vec()),
            b"linkpath" => extensions.link = Some(value.to_vec()),
            b"size" => extensions.size = Some(decimal()?),
            b"uid" => extensions.uid = Some(decimal()?),
            b"gid" => extensions.gid = Some(decimal()?),
            b"mtime" => extensions.mtime = Some(time(text(value)?).ok_or_else(broken)?),
            b"GNU.sparse.name" => extensions.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                extensions.sparse_size = Some(decimal()?)
            }
            b"GNU.sparse.major" => extensions.sparse_major = Some(decimal()?),
            b"GNU.sparse.offset" => extensions.sparse_offsets.push(decimal()?),
            b"GNU.sparse.numbytes" => {
                let offset = extensions.sparse_offsets.pop().ok_or_else(broken)?;
                extensions
                    .sparse_map
                    .get_or_insert_default()
                    .push((offset, decimal()?));
            }
            b"GNU.sparse.map" => {
                let numbers = text(value)?
                    .split(',')
                    .filter(|number| !number.is_empty())
                    .map(|number| number.parse::<u64>().map_err(|_| broken()))
                    .collect::<Result<Vec<_>, _>>()?;
                extensions.sparse_map = Some(
                    numbers
                        .chunks_exact(2)
                        .map(|pair| (pair[0], pair[1]))
                        .collect(),
                );
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extensions.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Malformed("a PAX header is malformed"))
}

/// Seconds with an optional fraction, possibly before 1970.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests;

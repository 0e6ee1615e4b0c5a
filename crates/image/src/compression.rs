//! Finds out how a layer is compressed and undoes it.
//!
//! By its first bytes, never by its media type: registries hold layers whose
//! media type is wrong, and every puller looks at the bytes.

use std::io::{self, BufRead, Read};

/// 128 MiB: what `zstd --ultra` may ask for, and a bound on memory.
const ZSTD_WINDOW_LOG: u32 = 27;

pub(crate) fn decompress<'a, R: BufRead + Send + 'a>(
    mut reader: R,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    // A first read may give fewer than four bytes; the magic is looked at in
    // front of the rest.
    let mut magic = [0; 4];
    let mut length = 0;
    while length < magic.len() {
        let count = reader.read(&mut magic[length..])?;
        if count == 0 {
            break;
        }
        length += count;
    }
    let reader = io::Cursor::new(magic).take(length as u64).chain(reader);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd] => zstd_decoder(reader)?,
        // Skippable frames may come first (as zstd:chunked and seekable do).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => zstd_decoder(reader)?,
        _ => Box::new(reader),
    })
}

pub(crate) fn is_compressed(start: &[u8]) -> bool {
    matches!(
        start,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
    )
}

fn zstd_decoder<'a, R: BufRead + Send + 'a>(reader: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(Box::new(decoder))
}

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use proptest::prelude::*;

use super::{Archive, Entry, Error, Kind};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    // A small buffer, so that everything is met in pieces.
    let mut archive = Archive::new(BufReader::with_capacity(100, bytes), None);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next()? {
        let mut content = Vec::new();
        loop {
            let piece = archive.payload()?.to_vec();
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(&piece);
            archive.consume(piece.len(), true)?;
        }
        entries.push((entry, content));
    }
    Ok(entries)
}

/// What GNU tar, which must be there, makes of a folder.
fn gnu_tar(folder: &std::path::Path, arguments: &[&str], name: &str) -> Vec<u8> {
    let output = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .args(["-cf", "-", name])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn sparse_files_of_all_formats_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    // More pieces than the header holds, and an end that is a hole.
    let file = std::fs::File::create(folder.path().join("sparse")).unwrap();
    for piece in 0..60u64 {
        file.write_all_at(&[u8::try_from(piece).unwrap() + 1; 4096], piece << 20)
            .unwrap();
    }
    file.set_len(104_857_600).unwrap();
    let formats: [&[&str]; 4] = [
        &["--format=gnu", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ];
    for format in formats {
        let bytes = gnu_tar(folder.path(), format, "sparse");
        assert!(bytes.len() < 1_000_000, "{format:?} made no sparse archive");
        let entries = read(&bytes).unwrap();
        let (entry, content) = &entries[0];
        assert_eq!(
            (entry.path.as_slice(), entry.size),
            (&b"sparse"[..], 104_857_600),
            "{format:?}"
        );
        let map: Vec<_> = entry
            .sparse
            .clone()
            .unwrap()
            .into_iter()
            .filter(|(_, length)| *length > 0)
            .collect();
        assert_eq!(map.len(), 60, "{format:?}");
        let mut at = 0;
        for (number, (offset, length)) in map.iter().enumerate() {
            let length = usize::try_from(*length).unwrap();
            let piece = &content[at..at + length];
            let wanted = u8::try_from(number).unwrap() + 1;
            assert!(
                piece[..4096].iter().all(|byte| *byte == wanted),
                "{format:?} {number}"
            );
            assert_eq!(*offset % (1 << 20), 0, "{format:?}");
            at += length;
        }
        assert_eq!(at, content.len());
    }
}

#[test]
fn long_names_links_and_times_are_read_in_all_formats() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let path = folder.path().join(&long);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(&path)
        .unwrap()
        .write_all(b"content")
        .unwrap();
    std::os::unix::fs::symlink(
        "t".repeat(300),
        folder.path().join("d".repeat(200)).join("link"),
    )
    .unwrap();
    let time = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    std::fs::File::open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        let bytes = gnu_tar(
            folder.path(),
            &[format, "--sort=name", "--owner=:3000000", "--group=:5"],
            &"d".repeat(200),
        );
        let entries = read(&bytes).unwrap();
        let (file, content) = &entries[1];
        assert_eq!(
            (file.path.as_slice(), content.as_slice()),
            (long.as_bytes(), &b"content"[..]),
            "{format}"
        );
        assert_eq!((file.uid, file.gid), (3_000_000, 5), "{format}");
        let seconds = if format == "--format=gnu" {
            vec![(-2, 0), (-1, 0)]
        } else {
            vec![(-2, 500_000_000)]
        };
        assert!(seconds.contains(&file.mtime), "{format} {:?}", file.mtime);
        let (link, _) = &entries[2];
        assert_eq!(
            (link.kind, link.link.len()),
            (Kind::Symlink, 300),
            "{format}"
        );
    }
}

#[test]
fn extensions_that_lie_are_refused() {
    let header = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let pax = |text: &str| {
        let mut bytes = header(tar::EntryType::XHeader, text.len() as u64);
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(1024, 0);
        bytes.extend_from_slice(&header(tar::EntryType::Regular, 0));
        bytes
    };
    for text in [
        "11 path=x\n",
        "8 path=x\n",
        "99999999999999999999 a=b\n",
        "0 \n",
        "-5 a=b\n",
        "11 size=-1\n\n",
        "8 a=bc\n\n ",
    ] {
        assert!(read(&pax(text)).is_err(), "{text:?}");
    }
    assert!(read(&pax("9 path=x\n")).is_ok());
    for map in ["0,10,5,10", "0,18446744073709551615,1,1", "0,1"] {
        let record = |key: &str, value: &str| {
            let body = format!(" {key}={value}\n");
            let length = body.len() + 2;
            format!("{length}{body}")
        };
        let text = format!(
            "{}{}",
            record("GNU.sparse.size", "100000"),
            record("GNU.sparse.map", map)
        );
        assert!(read(&pax(&text)).is_err(), "{map:?}");
    }
    let cut = header(tar::EntryType::Regular, 100);
    assert!(matches!(read(&cut), Err(Error::Malformed(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_read_without_end(
        mut bytes in proptest::collection::vec(any::<u8>(), 512..4096),
        kinds in proptest::collection::vec(proptest::sample::select(b"0123456xgLKSDV".to_vec()), 8),
        sizes in proptest::collection::vec(0u64..2000, 8),
    ) {
        // Headers with the right sum, so that what follows is reached.
        for (number, block) in bytes.chunks_exact_mut(512).enumerate().step_by(2) {
            block[124..136].copy_from_slice(format!("{:011o}\0", sizes[number % 8]).as_bytes());
            block[100..108].copy_from_slice(b"0000644\0");
            block[156] = kinds[number % 8];
            block[148..156].copy_from_slice(b"        ");
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _ = read(&bytes);
    }
}

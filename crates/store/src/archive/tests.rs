//! What was written is read, and nothing that was cut or changed is.

use super::*;

fn backup() -> Backup {
    let stored = |name: &str, revision, data: &str| Stored {
        key: Key {
            resource: "boats".to_owned(),
            namespace: "harbour".to_owned(),
            name: name.to_owned(),
        },
        revision: Revision(revision),
        data: Bytes::copy_from_slice(data.as_bytes()),
    };
    Backup {
        revision: Revision(9),
        objects: vec![
            stored("a", 7, r#"{"text":"ä\n", "n":1.0}"#),
            stored("b", 2, "{}"),
            stored("c", 9, r#"{"deep":[{},[null]]}"#),
        ],
    }
}

fn file(of: Backup) -> Vec<u8> {
    let lines = lines(of.revision, of.objects.into_iter().map(Arc::new));
    let lines: Vec<Bytes> = lines.map(Result::unwrap).collect();
    lines.concat()
}

fn written() -> Vec<u8> {
    file(backup())
}

#[test]
fn what_was_written_is_read_byte_for_byte() {
    assert_eq!(Backup::read(&mut &written()[..]).unwrap(), backup());
    let empty = Backup {
        revision: Revision(0),
        objects: Vec::new(),
    };
    let file = file(empty.clone());
    assert_eq!(Backup::read(&mut &file[..]).unwrap(), empty);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = written();
    for end in 0..file.len() {
        let refused = Backup::read(&mut &file[..end]).unwrap_err();
        assert!(matches!(refused, Error::Cut), "{end}: {refused}");
    }
}

#[test]
fn a_file_with_any_bit_flipped_is_refused() {
    let file = written();
    for at in 0..file.len() * 8 {
        let mut file = file.clone();
        file[at / 8] ^= 1 << (at % 8);
        // A blank for a blank would be the same file; a flipped bit never is.
        assert!(Backup::read(&mut &file[..]).is_err(), "bit {at}");
    }
}

#[test]
fn a_backup_of_a_newer_release_is_refused_by_its_number() {
    let file = String::from_utf8(written()).unwrap();
    let newer = file.replacen("\"boatyard\":1", "\"boatyard\":2", 1);
    let refused = Backup::read(&mut newer.as_bytes()).unwrap_err();
    assert!(matches!(refused, Error::Newer(2)), "{refused}");
    let foreign = Backup::read(&mut &b"hello\n"[..]).unwrap_err();
    assert!(matches!(foreign, Error::Foreign { line: 1, .. }));
}

//! Modes as chmod(1) reads them.
use super::*;

#[test]
fn modes_change_as_by_chmod() {
    for (text, mode, folder, expected) in [
        ("755", 0o600, false, 0o755),
        ("4755", 0o600, false, 0o4755),
        ("u+x", 0o644, false, 0o744),
        ("+x", 0o644, false, 0o755),
        ("a-w", 0o666, false, 0o444),
        ("go=", 0o777, false, 0o700),
        ("u=rwX,go=rX", 0o640, false, 0o644),
        ("u=rwX,go=rX", 0o700, true, 0o755),
        ("u=rwX,go=rX", 0o740, false, 0o755),
        ("g=u", 0o740, false, 0o770),
        ("u+s,+t", 0o755, true, 0o5755),
    ] {
        let chmod = Chmod::parse(text).unwrap();
        assert_eq!(chmod.apply(mode, folder), expected, "{text} on {mode:o}");
    }
    for text in ["", "8", "99999", "u", "z+x", "u+q"] {
        assert!(Chmod::parse(text).is_err() || text.is_empty(), "{text}");
    }
}

#[test]
fn owners_are_looked_up_in_the_image() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    std::fs::write(
        folder.path().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\ndev:x:1000:50::/home/dev:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("etc/group"), "staff:x:50:\n").unwrap();
    let below = Merged::new(vec![folder.path().to_owned()]);
    for (text, uid, gid) in [
        ("dev", 1000, 50),
        ("dev:7", 1000, 7),
        ("7:staff", 7, 50),
        ("7", 7, 7),
        (":staff", 0, 50),
        ("", 0, 0),
    ] {
        assert_eq!(
            Owner::parse(text, &below).unwrap(),
            Owner { uid, gid },
            "{text}"
        );
    }
    let error = Owner::parse("ghost", &below).unwrap_err().to_string();
    assert!(
        error.contains("ghost") && error.contains("/etc/passwd"),
        "{error}"
    );
    assert!(Owner::parse("dev:ghosts", &below).is_err());
}

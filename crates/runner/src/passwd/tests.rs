//! Lookups in hostile images.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnode:x:1000:1001::/home/node:/bin/sh\nbroken\nhuge:x:4000000000:1::/:/bin/sh\n";

#[test]
fn names_and_numbers_are_found() {
    let node = User {
        name: "node".into(),
        uid: 1000,
        gid: 1001,
    };
    assert_eq!(lookup(PASSWD, "node"), Some(node.clone()));
    assert_eq!(lookup(PASSWD, "1000"), Some(node));
    assert_eq!(
        lookup(PASSWD, "4242"),
        Some(User {
            name: "4242".into(),
            uid: 4242,
            gid: 0
        })
    );
    assert_eq!(lookup(PASSWD, "nobody-here"), None);
    assert_eq!(lookup(PASSWD, "huge"), None);
    assert_eq!(lookup("", "root").unwrap().uid, 0);
}

#[test]
fn a_passwd_that_links_out_of_the_image_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::os::unix::fs::symlink("/no/such/place/inside", root.path().join("etc/passwd")).unwrap();
    assert_eq!(beneath::read(root.path(), "etc/passwd").unwrap(), None);
}

#![allow(clippy::unwrap_used, reason = "tests")]

use super::{header, is_labelled};

#[test]
fn a_header_is_as_the_kernel_wants_it_and_known_again() {
    let page = header(64 << 20);
    assert_eq!(page[1024..1028], 1_u32.to_ne_bytes(), "version");
    assert_eq!(page[1028..1032], 16_383_u32.to_ne_bytes(), "last page");
    assert_eq!(page[1032..1036], [0; 4], "no bad pages");
    assert!(page.ends_with(b"SWAPSPACE2"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &page).unwrap();
    assert!(is_labelled(file.path()).unwrap());
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), [0; 4096]).unwrap();
    assert!(!is_labelled(other.path()).unwrap());
    std::fs::write(other.path(), [0; 100]).unwrap();
    assert!(is_labelled(other.path()).is_err());
}

//! Sources get newer, whatever lies beside them.

use super::renew;
use std::time::{Duration, SystemTime};

#[test]
fn every_file_below_gets_newer_and_links_are_left_alone() {
    let folder = std::env::temp_dir().join(format!("xtask-checkout-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a/b")).expect("a folder");
    let file = folder.join("a/b/c.rs");
    std::fs::write(&file, "//! Old.\n").expect("a file");
    std::os::unix::fs::symlink("nowhere", folder.join("a/link")).expect("a link");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let handle = std::fs::File::options()
        .append(true)
        .open(&file)
        .expect("open");
    handle.set_modified(old).expect("a time");
    renew(&folder).expect("renewed");
    let modified = std::fs::metadata(&file)
        .and_then(|m| m.modified())
        .expect("a time");
    assert!(modified > old);
    std::fs::remove_dir_all(&folder).expect("removed");
}

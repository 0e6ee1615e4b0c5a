//! Disks that are full or read-only, for real: each in a mount namespace of its own.
//!
//! A test starts itself again under `unshare -m` as the child, which mounts a small tmpfs over the
//! folder it was given, where its temporary files are too. Where that is not permitted (no root), it
//! says so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use boatyard_store::contract::cluster::Cluster;
use boatyard_store::postgres::{self, PostgresStore};
use boatyard_store::sqlite::{Options, SqliteStore};
use boatyard_store::{Error, Key, Revision, Scope, Store};
use bytes::Bytes;

const CHILD: &str = "BOATYARD_TEST_STORE_FOLDER";

/// Runs the named test again in a mount namespace; None in that child, which gets its folder.
fn in_own_mounts(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(CHILD) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let able = Command::new("unshare").args(["-m", "true"]).status();
    if !able.is_ok_and(|status| status.success()) {
        println!("SKIPPED {test}: needs root and `unshare` for a mount namespace");
        return None;
    }
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, folder.path())
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    None
}

fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount").args(arguments).arg(folder).status();
    assert!(status.unwrap().success());
}

fn key(name: &str) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

fn what(error: &Error) -> &str {
    match error {
        Error::Unavailable { what, .. } | Error::Full { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(folder) = in_own_mounts("a_full_disk_refuses_writes_and_loses_nothing") else {
        return;
    };
    mount(&["-t", "tmpfs", "-o", "size=3m", "tmpfs"], &folder);
    let path = folder.join("store");
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    let data = Bytes::from(vec![b'x'; 20_000]);
    let mut answered = Vec::new();
    let refused = loop {
        let name = answered.len().to_string();
        match store.create(key(&name), data.clone()).await {
            Ok(stored) => answered.push(stored),
            Err(error) => break error,
        }
    };
    assert!(what(&refused).contains("the disk is full"), "{refused}");
    assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
    assert!(answered.len() > 10);
    // What is there can still be changed, for a while, and then nothing any more.
    let mut updates: usize = 0;
    let refused = loop {
        let last = &answered[answered.len() - 1];
        let update = store.update(last.key.clone(), last.revision, data.clone());
        match update.await {
            Ok(stored) => *answered.last_mut().unwrap() = stored,
            Err(error) => break error,
        }
        updates += 1;
    };
    assert!(what(&refused).contains("the disk is full"), "{refused}");
    assert!(updates > 10, "{updates}");
    // A refused write leaves no trace, and reads go on.
    let revision = store.revision().await.unwrap();
    assert_eq!(revision, Revision((answered.len() + updates) as u64));
    let name = answered.len().to_string();
    assert_eq!(store.get(key(&name)).await.unwrap(), None);
    // With space again the same store writes again.
    mount(&["-o", "remount,size=16m"], &folder);
    answered.push(store.create(key(&name), data.clone()).await.unwrap());
    // A full disk when opening: what is stored can be read.
    drop(store);
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    for stored in answered {
        let read = store.get(stored.key.clone()).await.unwrap();
        assert_eq!(read, Some(stored));
    }
}

#[tokio::test]
async fn the_last_of_the_disk_is_kept_for_what_is_stored() {
    let Some(folder) = in_own_mounts("the_last_of_the_disk_is_kept_for_what_is_stored") else {
        return;
    };
    mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"], &folder);
    let store = SqliteStore::open(Options::new(folder.join("store"))).unwrap();
    let data = Bytes::from_static(b"{}");
    let kept = store.create(key("kept"), data.clone()).await.unwrap();
    let gone = store.create(key("gone"), data.clone()).await.unwrap();
    // Somebody else fills the disk but for 600 KiB.
    let free = rustix::fs::statvfs(&folder).unwrap();
    let free = free.f_bavail * free.f_frsize;
    let filling = vec![b'x'; usize::try_from(free).unwrap() - 600 * 1024];
    std::fs::write(folder.join("filling"), filling).unwrap();
    let refused = store.create(key("new"), data.clone()).await.unwrap_err();
    assert!(what(&refused).contains("the disk is full"), "{refused}");
    let both = tokio::join!(
        store.update(key("kept"), kept.revision, data.clone()),
        store.create(key("new"), data.clone()),
        store.delete(key("gone"), gone.revision, data.clone()),
    );
    both.0.unwrap();
    both.1.unwrap_err();
    both.2.unwrap();
    std::fs::remove_file(folder.join("filling")).unwrap();
    store.create(key("new"), data).await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_named() {
    let Some(folder) = in_own_mounts("a_read_only_disk_is_named") else {
        return;
    };
    mount(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"], &folder);
    let path = folder.join("store");
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    let made = store.create(key("a"), Bytes::from_static(b"{}")).await;
    let made = made.unwrap();
    drop(store);
    mount(&["-o", "remount,ro"], &folder);
    let refused = SqliteStore::open(Options::new(&path)).unwrap_err();
    assert!(what(&refused).contains("it is read-only"), "{refused}");
    let missing = folder.join("deeper/store");
    let refused = SqliteStore::open(Options::new(missing)).unwrap_err();
    assert!(
        what(&refused).contains("folder cannot be made"),
        "{refused}"
    );
    mount(&["-o", "remount,rw"], &folder);
    let store = SqliteStore::open(Options::new(&path)).unwrap();
    assert_eq!(store.get(key("a")).await.unwrap(), Some(made));
}

/// Takes all room there is.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// An object that no compression makes small.
fn noise(seed: usize) -> Bytes {
    let mut state = seed as u64 + 1;
    let mut digit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{:08x}", state >> 32)
    };
    let text: String = (0..2500).map(|_| digit()).collect();
    Bytes::from(format!("{{\"noise\":\"{text}\"}}"))
}

#[tokio::test]
async fn a_full_disk_of_the_database_refuses_writes_and_takes_them_again_with_room() {
    let test = "a_full_disk_of_the_database_refuses_writes_and_takes_them_again_with_room";
    let Some(folder) = in_own_mounts(test) else {
        return;
    };
    mount(
        &["-t", "tmpfs", "-o", "size=256m,mode=1777", "tmpfs"],
        &folder,
    );
    let cluster = Cluster::start();
    cluster.create("boats");
    let address = cluster.address("boats");
    let open = || PostgresStore::open(postgres::Options::new(&address));
    let store = open().await.unwrap();
    let mut answered = Vec::new();
    for number in 0..3 {
        let made = store.create(key(&number.to_string()), noise(number)).await;
        answered.push(made.unwrap());
    }
    fill(&folder.join("filling"));
    let refused = loop {
        let number = answered.len();
        match store.create(key(&number.to_string()), noise(number)).await {
            Ok(stored) => answered.push(stored),
            Err(error) => break error,
        }
        assert!(number < 5000, "the disk never gets full");
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
    assert!(what(&refused).contains("its disk is full"), "{refused}");
    // Reads go on, here and at a server that starts now, and nothing of what was refused is there.
    let other = open().await.unwrap();
    for store in [&store, &other] {
        for stored in &answered {
            let read = store.get(stored.key.clone()).await.unwrap();
            assert_eq!(read.as_ref(), Some(stored));
        }
        let all = Scope {
            resource: "boats".to_owned(),
            namespace: None,
        };
        let listed = store.list(all, None, None, None).await.unwrap();
        assert_eq!(listed.items.len(), answered.len());
    }
    // With room the same store writes again, and so does the other.
    std::fs::remove_file(folder.join("filling")).unwrap();
    for store in [&store, &other] {
        let number = answered.len();
        let made = store.create(key(&number.to_string()), noise(number)).await;
        answered.push(made.unwrap());
    }
    for stored in &answered {
        let read = store.get(stored.key.clone()).await.unwrap();
        assert_eq!(read.as_ref(), Some(stored));
    }
}

#[tokio::test]
async fn a_database_that_ended_because_its_log_had_no_room_is_used_again_once_it_runs() {
    let test = "a_database_that_ended_because_its_log_had_no_room_is_used_again_once_it_runs";
    let Some(folder) = in_own_mounts(test) else {
        return;
    };
    mount(
        &["-t", "tmpfs", "-o", "size=256m,mode=1777", "tmpfs"],
        &folder,
    );
    let mut cluster = Cluster::start();
    cluster.create("boats");
    // Its log on a disk of its own.
    cluster.stop("fast");
    let (log, aside) = (cluster.host().join("data/pg_wal"), folder.join("aside"));
    let copy = |from: &Path, to: &Path| {
        let status = Command::new("cp").arg("-aT").arg(from).arg(to).status();
        assert!(status.unwrap().success());
    };
    copy(&log, &aside);
    mount(&["-t", "tmpfs", "-o", "size=80m", "tmpfs"], &log);
    copy(&aside, &log);
    cluster.go();
    let mut options = postgres::Options::new(cluster.address("boats"));
    options.patience = std::time::Duration::from_secs(6);
    let store = PostgresStore::open(options).await.unwrap();
    let first = store.create(key("first"), noise(0)).await.unwrap();
    fill(&log.join("filling"));
    let mut answered = vec![first];
    let refused = loop {
        let number = answered.len();
        match store.create(key(&number.to_string()), noise(number)).await {
            Ok(stored) => answered.push(stored),
            Err(error) => break error,
        }
        assert!(number < 5000, "the disk never gets full");
    };
    // By what it still could say of itself.
    let told = [
        "read again to know",
        "try again in a moment",
        "cannot be reached",
    ];
    let told = told.iter().any(|told| what(&refused).contains(told));
    assert!(told, "{refused}");
    // Somebody makes room, and starts it.
    std::fs::remove_file(log.join("filling")).unwrap();
    cluster.kill();
    cluster.go();
    answered.push(store.create(key("last"), noise(1)).await.unwrap());
    for stored in &answered {
        let read = store.get(stored.key.clone()).await.unwrap();
        assert_eq!(read.as_ref(), Some(stored));
    }
}

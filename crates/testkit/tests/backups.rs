//! Everything a server stores, taken from it while it runs, and put into another store.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_store::contract::cluster::Cluster;
use boatyard_testkit::{Ran, Server};
use std::path::Path;

fn run(server: &Server, arguments: &[&str]) -> Ran {
    server.boatyard(arguments).output().unwrap().into()
}

/// Its objects, with their versions.
fn classes(server: &Server) -> String {
    let one = |name| run(server, &["get", "environmentclasses", name, "-o", "yaml"]).ok();
    ["default", "big"].map(one).concat()
}

/// A server that holds something, and the backup of it.
fn backed_up(folder: &Path) -> (Server, String) {
    let server = Server::start(&folder.join("from"), &[]);
    let object = "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {name: big}\nspec: {description: the biggest}\n";
    let path = folder.join("class.yaml");
    std::fs::write(&path, object).unwrap();
    run(&server, &["apply", "-f", path.to_str().unwrap()]).ok();
    let file = folder.join("store.backup").to_str().unwrap().to_owned();
    let said = run(&server, &["server", "backup", &file]).ok();
    assert!(said.contains("objects at revision"), "{said}");
    (server, file)
}

#[test]
fn a_backup_is_restored_into_a_file_and_into_a_database_and_clients_keep_their_access() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, file) = backed_up(folder.path());
    let before = classes(&server);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it holds keys");
    let (token, authority) = server.credentials();
    server.kill();

    let other = folder.path().join("into");
    std::fs::create_dir(&other).unwrap();
    let restore = server.boatyard(&["server", "restore", &file]);
    let mut restore = restore;
    restore.env("BOATYARD_STATE_DIR", other.join("state"));
    let said = Ran::from(restore.output().unwrap()).ok();
    assert!(said.contains("restored into"), "{said}");
    let restored = Server::start(&other, &[]);
    assert_eq!(classes(&restored), before);
    assert_eq!(restored.credentials().1, authority, "the same authority");
    std::fs::write(folder.path().join("token"), &token).unwrap();
    std::fs::write(folder.path().join("ca"), &authority).unwrap();
    let address = restored.address().to_string();
    let remote = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    let (token, authority) = (remote("token"), remote("ca"));
    let arguments = [
        "--server",
        &address,
        "--token-file",
        &token,
        "--ca-file",
        &authority,
        "get",
        "runners",
    ];
    run(&restored, &arguments).ok();

    let database = Cluster::start();
    database.create("boatyard");
    let place = database.address("boatyard");
    let into = ["server", "restore", &file, "--database", &place];
    run(&server, &into).ok();
    let third = Server::start(&folder.path().join("third"), &["--database", &place]);
    assert_eq!(classes(&third), before);
    let sound = run(&server, &["server", "check", "--database", &place]).ok();
    assert!(sound.contains("sound"), "{sound}");
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, file) = backed_up(folder.path());
    let refused_with = |code: i32, server: &Server, arguments: &[&str]| {
        let ran = run(server, arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        ran.stderr
    };
    let refused = |server: &Server, arguments: &[&str]| refused_with(1, server, arguments);
    let again = refused(&server, &["server", "backup", &file]);
    assert!(again.contains("exists"), "{again}");
    let busy = refused_with(75, &server, &["server", "restore", &file]);
    assert!(busy.contains("another Boatyard process uses"), "{busy}");
    server.kill();
    let full = refused(&server, &["server", "restore", &file]);
    assert!(full.contains("is not empty"), "{full}");
    assert!(run(&server, &["server", "check"]).ok().contains("sound"));

    // Cut, damaged, and something else.
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let elsewhere = folder.path().join("elsewhere");
    for (bytes, word) in [
        (&whole[..whole.len() / 2], "cut off"),
        (&flipped[..], ""),
        (b"hello\n", "none of a backup"),
    ] {
        let path = folder.path().join("bad.backup");
        std::fs::write(&path, bytes).unwrap();
        let mut restore = server.boatyard(&["server", "restore", path.to_str().unwrap()]);
        restore.env("BOATYARD_STATE_DIR", &elsewhere);
        let ran = Ran::from(restore.output().unwrap());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(word), "{ran:?}");
        assert!(!elsewhere.join("server/boatyard.db").exists());
    }

    // A damaged store is told by its check. The one before has folded the log into the file.
    let store = server.state().join("boatyard.db");
    let mut bytes = std::fs::read(&store).unwrap();
    let words = b"the biggest";
    let at = bytes.windows(words.len()).position(|found| found == words);
    bytes[at.unwrap()] ^= 1;
    std::fs::write(store, bytes).unwrap();
    let damaged = refused(&server, &["server", "check"]);
    assert!(damaged.contains("damaged"), "{damaged}");
}

//! Kills a process under write load and looks for what it promised.
//!
//! The test starts itself again as the child (the variable below names its file). The child writes
//! from several tasks and says on its output, one line each: `began W N` before a write, `done W N
//! R` after its answer, and `seen W N R` when a watcher or reader was shown it. The parent reads
//! these, kills the child at a random moment, opens the file and compares: everything answered or
//! seen is there (that version or a newer one of the same writer), nothing is there that was never
//! begun, and the next revision is above every revision said.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use boatyard_store::sqlite::{Options, SqliteStore};
use boatyard_store::{Change, Key, Revision, Scope, Store};
use bytes::Bytes;
use futures::StreamExt;

const CHILD: &str = "BOATYARD_TEST_STORE_CHILD";
const ROUNDS: u32 = 40;
const WRITERS: u32 = 12;

fn key(writer: u32) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: "harbour".to_owned(),
        name: writer.to_string(),
    }
}

fn boats() -> Scope {
    Scope {
        resource: "boats".to_owned(),
        namespace: None,
    }
}

fn options(path: &Path) -> Options {
    let mut options = Options::new(path);
    // So small that compaction runs all the time and is killed as well.
    options.history_rows = 200;
    options.history_bytes = 1 << 30;
    options
}

/// The number in an object, which its writer raises by one with each write.
fn number(data: &[u8]) -> u64 {
    let text = std::str::from_utf8(data).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn object(number: u64) -> Bytes {
    // From a few bytes to several pages.
    let length = usize::try_from(number * 997 % 9000).unwrap();
    Bytes::from(format!("{number} {}", "x".repeat(length)))
}

fn say(line: std::fmt::Arguments<'_>) {
    // One write per line: it is whole or absent.
    let line = format!("{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

async fn child(path: &Path) {
    let store = Arc::new(SqliteStore::open(options(path)).unwrap());
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.push(tokio::spawn(write(store, writer)));
    }
    let mut watch = store.watch(boats(), None).await.unwrap();
    tasks.push(tokio::spawn(async move {
        while let Some(Ok(event)) = watch.next().await {
            if event.change != Change::Deleted {
                say(format_args!(
                    "seen {} {} {}",
                    event.object.key.name,
                    number(&event.object.data),
                    event.object.revision.0
                ));
            }
        }
    }));
    tasks.push(tokio::spawn(async move {
        loop {
            let page = store.list(boats(), None, None, None).await.unwrap();
            for item in page.stored() {
                let number = number(&item.data);
                say(format_args!(
                    "seen {} {number} {}",
                    item.key.name, item.revision.0
                ));
            }
            tokio::task::yield_now().await;
        }
    }));
    futures::future::join_all(tasks).await;
}

/// Counts its object up; each seventh version is a deletion and the next a creation.
async fn write(store: Arc<SqliteStore>, writer: u32) {
    let mut current = store.get(key(writer)).await.unwrap();
    let mut next = current.as_ref().map_or(0, |stored| number(&stored.data));
    loop {
        next += 1;
        say(format_args!("began {writer} {next}"));
        let deleting = next % 7 == 0 && current.is_some();
        let written = match current {
            None => store.create(key(writer), object(next)).await,
            Some(stored) if deleting => {
                store
                    .delete(stored.key, stored.revision, object(next))
                    .await
            }
            Some(stored) => {
                store
                    .update(stored.key, stored.revision, object(next))
                    .await
            }
        }
        .unwrap();
        let word = if deleting { "gone" } else { "done" };
        say(format_args!(
            "{word} {writer} {next} {}",
            written.revision.0
        ));
        current = (!deleting).then_some(written);
    }
}

/// What is known of one writer's object.
#[derive(Clone, Debug, Default)]
struct Known {
    began: u64,
    /// Newest number and revision answered or seen.
    proven: (u64, u64),
    /// Whether that was a deletion.
    gone: bool,
}

impl Known {
    /// Takes in a line about this object.
    fn hear(&mut self, word: &str, number: u64, revision: u64) -> Result<(), &'static str> {
        if word == "began" {
            self.began = number;
        } else if revision == self.proven.1 && number != self.proven.0 && !self.gone {
            return Err("two versions at one revision");
        } else if revision > self.proven.1 {
            if number < self.proven.0 {
                return Err("an older version after a newer one");
            }
            self.proven = (number, revision);
            self.gone = word == "gone";
        }
        Ok(())
    }

    /// Judges what is stored after the kill: number and revision, or nothing.
    fn compare(&self, stored: Option<(u64, u64)>) -> Result<(), &'static str> {
        let Some((number, revision)) = stored else {
            // The deletion may not have been answered, nor shown.
            let deleting = self.began.is_multiple_of(7) && self.proven.0 < self.began;
            let absent = self.gone || deleting || self.proven.1 == 0;
            return absent.then_some(()).ok_or("lost, and deleted by nobody");
        };
        if revision < self.proven.1 {
            return Err("lost: an older version is stored");
        }
        if revision == self.proven.1 && (self.gone || number != self.proven.0) {
            return Err("another version is stored");
        }
        if number > self.began {
            return Err("a version that nobody wrote is stored");
        }
        Ok(())
    }

    /// Its writer starts again from what is stored.
    fn start_again(&mut self, stored: Option<(u64, u64)>) {
        let revision = stored.map_or(self.proven.1, |stored| stored.1);
        self.began = stored.map_or(0, |stored| stored.0);
        self.proven = (self.began, revision);
        self.gone = stored.is_none();
    }
}

/// Takes in a line of the child and returns the revision it names.
fn hear(known: &mut HashMap<u32, Known>, line: &str) -> u64 {
    let words: Vec<&str> = line.split(' ').collect();
    let writer: u32 = words[1].parse().unwrap();
    let number: u64 = words[2].parse().unwrap();
    let revision: u64 = words.get(3).map_or(0, |word| word.parse().unwrap());
    let known = known.entry(writer).or_default();
    if let Err(wrong) = known.hear(words[0], number, revision) {
        panic!("{wrong}: {line}, after {known:?}");
    }
    revision
}

/// Kills a child after `writes` answers to its writes and `pause`, and returns all it said.
fn load_and_kill(path: &Path, writes: u64, pause: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "loses_nothing_answered_or_seen_when_killed"])
        .args(["--nocapture", "--quiet"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut line = String::new();
    let mut answered = 0;
    while answered < writes && output.read_line(&mut line).unwrap() > 0 {
        answered += u64::from(line.starts_with("done "));
        said.push(std::mem::take(&mut line));
    }
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        rest
    });
    // Not a wait for something: the moment of the kill is what varies.
    std::thread::park_timeout(pause);
    child.kill().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
        Some(9),
        "the child died by itself"
    );
    said.extend(reader.join().unwrap().lines().map(str::to_owned));
    said
}

#[test]
fn loses_nothing_answered_or_seen_when_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    if let Some(path) = std::env::var_os(CHILD) {
        runtime.block_on(child(Path::new(&path)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut known = HashMap::new();
    let mut newest = 0;
    let mut answered = 0;
    for round in 0..ROUNDS {
        let random = RandomState::new().hash_one(round);
        let pause = Duration::from_micros(random % 30_000);
        for line in load_and_kill(&path, random % 30, pause) {
            let line = line.trim();
            let ours = ["began ", "done ", "gone ", "seen "];
            if ours.iter().any(|word| line.starts_with(word)) {
                newest = newest.max(hear(&mut known, line));
                answered += u32::from(line.starts_with("done"));
            }
        }
        let store = SqliteStore::open(options(&path)).unwrap();
        let revision = runtime.block_on(store.revision()).unwrap();
        assert!(
            revision >= Revision(newest),
            "{revision:?} is older than {newest}"
        );
        for (writer, known) in &mut known {
            let stored = runtime.block_on(store.get(key(*writer))).unwrap();
            let stored = stored.map(|stored| (number(&stored.data), stored.revision.0));
            if let Err(wrong) = known.compare(stored) {
                panic!("{wrong}: round {round}, writer {writer}, {known:?}, stored {stored:?}");
            }
            known.start_again(stored);
        }
        runtime.block_on(store.close()).unwrap();
    }
    assert!(answered > 100, "only {answered} writes were answered");
    println!("{ROUNDS} kills, {answered} answered writes, revision {newest}");
}

#[test]
fn the_check_catches_what_a_bad_store_would_do() {
    let known = |lines: &[(&str, u64, u64)]| {
        let mut known = Known::default();
        let heard = lines
            .iter()
            .try_for_each(|&(word, number, revision)| known.hear(word, number, revision));
        heard.map(|()| known)
    };
    let written = known(&[
        ("began", 1, 0),
        ("done", 1, 5),
        ("began", 2, 0),
        ("seen", 2, 9),
    ]);
    let written = written.unwrap();
    assert!(written.compare(Some((2, 9))).is_ok());
    assert!(written.compare(None).is_err(), "lost altogether");
    assert!(
        written.compare(Some((1, 5))).is_err(),
        "back to an older version"
    );
    assert!(
        written.compare(Some((1, 9))).is_err(),
        "an older version renumbered"
    );
    assert!(
        written.compare(Some((3, 10))).is_err(),
        "a version out of nothing"
    );
    let mut begun = written.clone();
    begun.hear("began", 3, 0).unwrap();
    assert!(
        begun.compare(Some((3, 12))).is_ok(),
        "not answered, but written"
    );
    assert!(begun.compare(None).is_err(), "the third is no deletion");
    let gone = known(&[("began", 7, 0), ("gone", 7, 20)]).unwrap();
    assert!(gone.compare(None).is_ok());
    assert!(gone.compare(Some((6, 19))).is_err(), "risen from the dead");
    let reordered = [("began", 2, 0), ("seen", 2, 9), ("seen", 1, 10)];
    assert!(known(&reordered).is_err());
    let doubled = [("began", 2, 0), ("seen", 2, 9), ("seen", 1, 9)];
    assert!(known(&doubled).is_err());
}

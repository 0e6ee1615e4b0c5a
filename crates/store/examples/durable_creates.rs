//! Measures durable creates per second at 1, 8 and 64 clients beside the disk's floor.
//!
//! The floor is a file that is appended to and synced, one object at a time: what a store without
//! group commit could reach at best. Usage: `durable_creates [FOLDER] [SECONDS]`; the folder
//! decides which disk is measured. One line per measurement: name, per second, p50 and p99 in
//! microseconds.

#![allow(clippy::print_stdout, reason = "a measurement's output")]

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boatyard_store::sqlite::{Options, SqliteStore};
use boatyard_store::{Key, Store};
use bytes::Bytes;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// About what an Environment object takes.
const OBJECT: usize = 1024;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments
        .next()
        .and_then(|word| word.to_str()?.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(3));
    let folder = folder.join(format!("boatyard-durable-creates-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&folder, span);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(folder: &Path, span: Duration) -> Result<(), Failure> {
    floor_append(&folder.join("append"), span)?;
    floor_overwrite(&folder.join("overwrite"), span)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    for clients in [1, 8, 64] {
        let path = folder.join(format!("store-{clients}"));
        runtime.block_on(creates(&path, clients, span))?;
    }
    Ok(())
}

fn floor_append(path: &Path, span: Duration) -> Result<(), Failure> {
    let mut file = std::fs::File::create(path)?;
    let (start, mut taken) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let begun = Instant::now();
        file.write_all(&[b'x'; OBJECT])?;
        file.sync_all()?;
        taken.push(begun.elapsed());
    }
    report("floor: append and fsync", start.elapsed(), taken);
    Ok(())
}

fn floor_overwrite(path: &Path, span: Duration) -> Result<(), Failure> {
    let file = std::fs::File::create(path)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    let (start, mut taken) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let begun = Instant::now();
        file.write_all_at(&[b'x'; OBJECT], 0)?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    report("floor: overwrite and fdatasync", start.elapsed(), taken);
    Ok(())
}

async fn creates(path: &Path, clients: u32, span: Duration) -> Result<(), Failure> {
    let store = Arc::new(SqliteStore::open(Options::new(path))?);
    let data = Bytes::from(vec![b'x'; OBJECT]);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (store, data) = (store.clone(), data.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while start.elapsed() < span {
                    let key = Key {
                        resource: "environments.boatyard.dev".to_owned(),
                        namespace: format!("client-{client}"),
                        name: taken.len().to_string(),
                    };
                    let begun = Instant::now();
                    store.create(key, data.clone()).await?;
                    taken.push(begun.elapsed());
                }
                Ok::<_, Failure>(taken)
            })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    let objects = taken.len();
    report(&format!("store: {clients} clients"), start.elapsed(), taken);
    store.close().await?;
    drop(store);
    // Also what a restarted server needs, and how long until it serves.
    let (before, start) = (resident()?, Instant::now());
    let store = SqliteStore::open(Options::new(path))?;
    println!(
        "store: reopened with {objects} objects of {OBJECT} bytes in {} ms",
        start.elapsed().as_millis()
    );
    let grown = resident()?.saturating_sub(before);
    println!(
        "store: {grown} KiB of memory for {} KiB stored",
        objects * OBJECT / 1024
    );
    store.close().await?;
    Ok(())
}

/// Resident memory of this process in KiB.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.ok_or("no VmRSS in /proc/self/status")?;
    Ok(words.trim().trim_end_matches(" kB").parse()?)
}

fn report(name: &str, span: Duration, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |percent: usize| {
        let index = (taken.len() * percent / 100).min(taken.len().saturating_sub(1));
        taken.get(index).map_or(0, Duration::as_micros)
    };
    let per_second = taken.len() as u128 * 1000 / span.as_millis().max(1);
    println!(
        "{name:32} {per_second:>8}/s  p50 {:>6} us  p99 {:>6} us",
        at(50),
        at(99)
    );
}

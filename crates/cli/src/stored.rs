//! Where a server keeps its objects, and what is done with all of them: backup, restore, check.
//!
//! A backup is taken from a running server, a restore fills a new store before one is started on
//! it. A backup that was interrupted leaves no file of its name, a restore nothing in the store.

use crate::args::{Database, Global, Local};
use crate::connect;
use crate::failure::Failure;
use boatyard_store::archive::{self, Backup};
use boatyard_store::postgres::PostgresStore;
use boatyard_store::sqlite::SqliteStore;
use boatyard_store::{Revision, Store, postgres, sqlite};
use http_body_util::BodyExt;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn failed(error: boatyard_store::Error) -> Failure {
    Failure::from_error(&error)
}

fn file_of(local: &Local) -> PathBuf {
    local.state_dir.join("server").join("boatyard.db")
}

/// The database's address, when there is to be one.
fn address(database: &Database) -> Result<Option<String>, Failure> {
    let Some(path) = &database.file else {
        return Ok(database.address.clone());
    };
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()))
            .hint("--database-file names a file with one line, the database's address")
    })?;
    Ok(Some(text.trim().to_owned()))
}

/// Opens the database, or a file of this machine.
pub(crate) async fn open(local: &Local, database: &Database) -> Result<Arc<dyn Store>, Failure> {
    Ok(match address(database)? {
        Some(address) => {
            let opened = PostgresStore::open(postgres::Options::new(address)).await;
            Arc::new(opened.map_err(failed)?)
        }
        None => Arc::new(SqliteStore::open(sqlite::Options::new(file_of(local))).map_err(failed)?),
    })
}

/// `boatyard server backup`.
pub(crate) async fn backup(global: &Global, path: &Path) -> Result<(), Failure> {
    let broken =
        |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    if path.exists() {
        return Err(Failure::new(format!("{} exists", path.display()))
            .hint("name another file, or move it away"));
    }
    let client = connect::endpoint(global).await?.kube();
    let request = http::Request::get("/backup")
        .body(kube::client::Body::empty())
        .map_err(|error| Failure::from_error(&error))?;
    let response = client.send(request).await?;
    if !response.status().is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = status["message"].as_str().unwrap_or("the server refused");
        return Err(Failure::new(why.to_owned()));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let written = async {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(broken)?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                file.write_all(&data).map_err(broken)?;
            }
        }
        file.sync_all().map_err(broken)?;
        let backup = read(&part)?;
        std::fs::rename(&part, path).map_err(broken)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder
            .and_then(|folder| folder.sync_all())
            .map_err(broken)?;
        Ok((backup.objects.len(), backup.revision))
    };
    match written.await {
        Ok(count) => told(count, "in", &path.display().to_string()),
        Err(failure) => {
            // A part is of no use to anyone.
            let _ = std::fs::remove_file(&part);
            Err(failure)
        }
    }
}

fn read(path: &Path) -> Result<Backup, Failure> {
    let opened = File::open(path).map_err(archive::Error::from);
    let backup = opened.and_then(|file| Backup::read(&mut BufReader::new(file)));
    backup.map_err(|error| Failure::from_error(&error).prefixed(&path.display().to_string()))
}

/// `boatyard server restore`.
pub(crate) async fn restore(
    local: &Local,
    path: &Path,
    database: &Database,
) -> Result<(), Failure> {
    let backup = read(path)?;
    let count = (backup.objects.len(), backup.revision);
    let place = match address(database)? {
        Some(address) => {
            postgres::restore(&address, backup).await.map_err(failed)?;
            "the database".to_owned()
        }
        None => {
            let file = file_of(local);
            sqlite::restore(&file, backup).map_err(failed)?;
            file.display().to_string()
        }
    };
    told(count, "restored into", &place)
}

/// `boatyard server check`.
pub(crate) async fn check(local: &Local, database: &Database) -> Result<(), Failure> {
    if address(database)?.is_none() && !file_of(local).exists() {
        return Err(
            Failure::new(format!("there is no store at {}", file_of(local).display()))
                .hint("name the server's with --state-dir, or its --database"),
        );
    }
    // Opening reads all of it, and checks every row by its checksum.
    let store = open(local, database).await?;
    let snapshot = store.snapshot().await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    let count = (snapshot.objects.len(), snapshot.revision);
    told(count, "sound in", "the store")
}

fn told((count, at): (usize, Revision), what: &str, place: &str) -> Result<(), Failure> {
    let at = at.0;
    crate::output::print(&format!(
        "{count} objects at revision {at} {what} {place}\n"
    ))
}

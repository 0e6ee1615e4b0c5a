//! What is on disk, and its transactions.
//!
//! Owns the schema, the connection and the checks on opening. One table, `versions`, has a row per
//! change under its revision: the newest row of a key is its current object, a deletion is a row
//! of its own. Compaction removes the rows that no current object and no kept change needs, and
//! notes in `header` up to which revision. So a write appends one row, nothing is indexed, and
//! after `header.compacted` the revisions have no gap, which opening checks, as it checks each
//! row's checksum (SQLite itself would not notice a flipped bit in a value).
//!
//! It keeps nothing in memory: `history` does.
//!
//! Crash behaviour: SQLite's write-ahead log, synced at each commit; an interrupted transaction
//! is undone by the next open.
//!
//! The pragmas: `locking_mode=EXCLUSIVE` refuses a second server and, set before WAL is, needs no
//! shared memory file; `journal_mode=WAL` costs one sync per commit; `synchronous=FULL` makes that
//! sync happen (WAL's default leaves it to checkpoints); `wal_autocheckpoint` of 4,000 pages
//! bounds the log to about 16 MiB; `journal_size_limit` shrinks it after a burst; `cache_size` of
//! 1 MiB, because nothing is read from the file after opening; `cell_size_check` and
//! `trusted_schema=OFF` distrust a damaged or foreign file.
//!
//! Read next: `writer`.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi, params};

use crate::failure::Failure;
use crate::history::History;
use crate::version::Version;
use crate::{Change, Error, Key, Revision, Stored};

/// Steps from each schema version to the next; applied ones are never edited.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE versions (
        revision INTEGER PRIMARY KEY,
        change INTEGER NOT NULL,
        resource TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        at_millis INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    ALTER TABLE header ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;
"];

const PRAGMAS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 33554432;
    PRAGMA cache_size = -1024;
    PRAGMA temp_store = MEMORY;
    PRAGMA cell_size_check = ON;
    PRAGMA trusted_schema = OFF;
";

/// Free bytes of the file system below which nothing new is stored.
const RESERVE: u64 = 1 << 20;

/// What durability and exclusiveness rest on.
const DURABLE: [(&str, &str); 3] = [
    ("locking_mode", "exclusive"),
    ("journal_mode", "wal"),
    ("synchronous", "2"),
];

/// The open file. After a failure that leaves its contents in doubt it refuses all writes.
#[derive(Debug)]
pub(super) struct File {
    place: Arc<str>,
    /// The folder it is in.
    folder: std::fs::File,
    connection: Option<Connection>,
    broken: Option<Failure>,
}

impl File {
    /// Opens, makes, migrates, checks and reads it.
    pub(super) fn open(path: &Path) -> Result<(Self, History), Error> {
        let place: Arc<str> = path.display().to_string().into();
        let failed = |source| failure(&place, source).error();
        prepare(path, &place)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        if connection.is_readonly("main").map_err(failed)? {
            return Err(told(&place, READ_ONLY));
        }
        connection
            .busy_timeout(std::time::Duration::ZERO)
            .map_err(failed)?;
        connection.execute_batch(PRAGMAS).map_err(failed)?;
        // A pragma that cannot be obeyed is ignored in silence.
        for (pragma, wanted) in DURABLE {
            let got: String = connection
                .query_row(
                    &format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"),
                    [],
                    |row| row.get(0),
                )
                .map_err(failed)?;
            if got != wanted {
                return Err(told(
                    &place,
                    format!(
                        "its filesystem allows {pragma} only as {got}, not {wanted}; put it on a local disk"
                    ),
                ));
            }
        }
        migrate(&mut connection, &place)?;
        let history = load(&connection, &place)?;
        let opened = std::fs::File::open(folder(path));
        let folder = opened.map_err(|source| {
            let failure = Failure::new(&place, "its folder cannot be opened; check who owns it");
            failure.because(source).error()
        })?;
        let file = Self {
            place,
            folder,
            connection: Some(connection),
            broken: None,
        };
        Ok((file, history))
    }

    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// Why nothing new may be stored, if so little space is free that it is kept for what is there:
    /// an object whose status could not be written would be waited for without a word.
    pub(super) fn reserved(&self) -> Option<Failure> {
        if self.has_reserve() {
            return None;
        }
        if let Some(connection) = &self.connection {
            // What the log holds twice is given back. It fails where a reader holds it, of which
            // there is none, and without space for it, which the next look tells.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        (!self.has_reserve()).then(|| Failure::full(&self.place, FULL))
    }

    /// Folding the log into the file may take as much again as it has.
    fn has_reserve(&self) -> bool {
        let log = std::fs::metadata(format!("{}-wal", self.place));
        let log = log.map_or(0, |log| log.len());
        let free = rustix::fs::fstatvfs(&self.folder);
        // What cannot be asked is left to the commit.
        free.map_or(true, |free| {
            free.f_bavail.saturating_mul(free.f_frsize) >= RESERVE + log
        })
    }

    /// Writes versions and removes those no longer needed, all or nothing; durable on return.
    pub(super) fn commit(
        &mut self,
        versions: &[Version],
        now_millis: u64,
        compacted: Option<u64>,
        unneeded: &[u64],
    ) -> Result<(), Failure> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if versions.is_empty() && compacted.is_none() {
            return Ok(());
        }
        let Some(connection) = &mut self.connection else {
            return Err(Failure::closed(&self.place));
        };
        let written = transact(connection, versions, now_millis, compacted, unneeded);
        written.map_err(|source| {
            let failure = failure(&self.place, source);
            // After a failed sync the kernel may have dropped what was to be written; only reading
            // the file again tells what it holds.
            let doubtful = matches!(&*failure.what, ERRORED | DAMAGED | FOREIGN);
            if doubtful || !connection.is_autocommit() {
                self.broken = Some(failure.clone());
            }
            failure
        })
    }

    /// Folds the log into the file and releases it.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        connection
            .close()
            .map_err(|(_, source)| failure(&self.place, source).error())
    }
}

fn transact(
    connection: &mut Connection,
    versions: &[Version],
    now_millis: u64,
    compacted: Option<u64>,
    unneeded: &[u64],
) -> Result<(), rusqlite::Error> {
    // Rolled back when dropped before the commit.
    let transaction = connection.transaction()?;
    if !versions.is_empty() {
        let mut insert =
            transaction.prepare_cached("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
        for version in versions {
            let object = &version.object;
            let key = &object.key;
            insert.execute(params![
                object.revision.0.cast_signed(),
                version.change.number(),
                key.resource,
                key.namespace,
                key.name,
                now_millis.cast_signed(),
                version.checksum(now_millis),
                &object.data[..],
            ])?;
        }
    }
    if let Some(compacted) = compacted {
        let mut delete = transaction.prepare_cached("DELETE FROM versions WHERE revision = ?")?;
        for revision in unneeded {
            delete.execute([revision.cast_signed()])?;
        }
        transaction
            .prepare_cached("UPDATE header SET compacted = ?")?
            .execute([compacted.cast_signed()])?;
    }
    transaction.commit()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the folder and the file, for the owner only: SQLite would use the umask.
fn prepare(path: &Path, place: &Arc<str>) -> Result<(), Error> {
    let failed = |what, source: std::io::Error| Failure::new(place, what).because(source).error();
    let folder = folder(path);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| failed("its folder cannot be made; check who owns it", source))?;
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|_| std::fs::File::open(folder)?.sync_all());
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed(
            "the file cannot be made; check the folder's owner and free space",
            source,
        )),
    }
}

fn migrate(connection: &mut Connection, place: &Arc<str>) -> Result<(), Error> {
    let failed = |source| failure(place, source).error();
    let transaction = connection.transaction().map_err(failed)?;
    let count = |of: &str| {
        let sql = format!("SELECT count(*) FROM sqlite_schema{of}");
        transaction.query_row(&sql, [], |row| row.get::<_, i64>(0))
    };
    let version = if count("").map_err(failed)? == 0 {
        transaction
            .execute_batch("CREATE TABLE header (schema INTEGER NOT NULL) STRICT; INSERT INTO header VALUES (0);")
            .map_err(failed)?;
        0
    } else if count(" WHERE type = 'table' AND name = 'header'").map_err(failed)? == 0 {
        return Err(told(
            place,
            "it is a database of another program; name another file",
        ));
    } else {
        transaction
            .query_row("SELECT schema FROM header", [], |row| row.get::<_, i64>(0))
            .map_err(failed)?
    };
    let Some(missing) = usize::try_from(version)
        .ok()
        .and_then(|version| MIGRATIONS.get(version..))
    else {
        return Err(told(
            place,
            format!(
                "it has schema {version}, written by a newer release, and this one knows {}; upgrade",
                MIGRATIONS.len()
            ),
        ));
    };
    for (schema, step) in (version + 1..).zip(missing) {
        transaction.execute_batch(step).map_err(failed)?;
        transaction
            .execute("UPDATE header SET schema = ?", [schema])
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Reads and checks everything.
fn load(connection: &Connection, place: &Arc<str>) -> Result<History, Error> {
    let failed = |source| failure(place, source).error();
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
        place: place.to_string(),
        what: DAMAGED.to_owned(),
        source: Some(source),
    };
    let sound: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if sound != "ok" {
        return Err(damaged(sound.into()));
    }
    let compacted: i64 = connection
        .query_row("SELECT compacted FROM header", [], |row| row.get(0))
        .map_err(failed)?;
    let compacted = u64::try_from(compacted).map_err(|source| damaged(source.into()))?;
    let mut history = History::starting_after(compacted);
    let mut statement = connection.prepare(VERSIONS).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (version, at_millis, expected) = version(row).map_err(failed)?;
        let revision = version.revision();
        let sound = expected == i64::from(version.checksum(at_millis));
        if !sound || !version.load(&mut history, at_millis) {
            return Err(damaged(format!("version {revision} is wrong").into()));
        }
    }
    Ok(history)
}

/// In the order in which [`version`] takes them: looking columns up by name is slow.
const VERSIONS: &str = "
    SELECT revision, change, resource, namespace, name, at_millis, checksum, data
    FROM versions ORDER BY revision
";

fn version(row: &rusqlite::Row<'_>) -> Result<(Version, u64, i64), rusqlite::Error> {
    let number = row.get(1)?;
    let change =
        Change::from_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, number))?;
    let object = Stored {
        key: Key {
            resource: row.get(2)?,
            namespace: row.get(3)?,
            name: row.get(4)?,
        },
        revision: Revision(row.get::<_, i64>(0)?.cast_unsigned()),
        data: Bytes::copy_from_slice(row.get_ref(7)?.as_blob()?),
    };
    let version = Version {
        change,
        object: Arc::new(object),
    };
    let at_millis = row.get::<_, i64>(5)?.cast_unsigned();
    Ok((version, at_millis, row.get(6)?))
}

const FULL: &str = "the disk is full; free space and try again, nothing stored is lost";
const READ_ONLY: &str =
    "it is read-only; mount the disk writable or give the file to the server's user";
const DAMAGED: &str =
    "the file is damaged; put back a backup, or save what is readable with `sqlite3 FILE .recover`";
const IN_USE: &str = "another process has it open; stop the other server first";
const FOREIGN: &str =
    "it is not a database, or a damaged one; name another file or put back a backup";
const ERRORED: &str = "reading or writing the disk failed; check the disk, then restart the server";
const NOT_OPENED: &str = "it cannot be opened; check that it is a file the server's user may write";
const TOO_BIG: &str = "an object is too big to be stored; make it smaller";
const OTHER: &str = "the database refused; restart the server and report this";

fn told(place: &Arc<str>, what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Failure::new(place, what).error()
}

fn failure(place: &Arc<str>, source: rusqlite::Error) -> Failure {
    let code = match &source {
        rusqlite::Error::SqliteFailure(error, _) => Some(*error),
        _ => None,
    };
    let what = match code.map(|error| (error.code, error.extended_code)) {
        Some((ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE)) => {
            return Failure::full(place, FULL).because(source);
        }
        Some((ErrorCode::ReadOnly, _)) => READ_ONLY,
        Some((ErrorCode::DatabaseCorrupt, _)) => DAMAGED,
        Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => IN_USE,
        Some((ErrorCode::NotADatabase, _)) => FOREIGN,
        Some((ErrorCode::SystemIoFailure, _)) => ERRORED,
        Some((ErrorCode::CannotOpen | ErrorCode::PermissionDenied, _)) => NOT_OPENED,
        Some((ErrorCode::TooBig, _)) => TOO_BIG,
        Some(_) => OTHER,
        // The row does not have the types the schema promises.
        None => DAMAGED,
    };
    Failure::new(place, what).because(source)
}

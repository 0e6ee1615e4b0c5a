//! The statements of the shared log, and what they return.
//!
//! Owns the text of every statement between servers and the tables, and the reading of rows, each
//! checked by its checksum. It decides nothing: `memory` judges what it read, `writer` what to
//! write.
//!
//! `TAIL` is one statement so that header and rows are of one snapshot: the header says up to
//! where the rows must reach, and rows it says are forgotten are not missed.
//!
//! Read next: `schema` for the tables, `memory`.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::session::Session;
use super::trouble::{DAMAGED, Trouble};
use crate::failure::Failure;
use crate::history::History;
use crate::version::Version;
use crate::{Change, Key, Revision, Stored};

/// The channel of notifications; each carries a revision and nothing else.
pub(super) const LISTEN: &str = "LISTEN boatyard";
/// Commits under a lock, whatever the role's default isolation is.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// Whoever writes holds this row until the commit, so revisions become visible in their order.
pub(super) const LOCK: &str = "SELECT FROM boatyard.header FOR UPDATE";

const HEADER: &str = "h.epoch, h.revision, h.compacted, h.chain, h.batch, h.sealed,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// $1: the revision known.
pub(super) const TAIL: &str = "
    SELECT h.epoch, h.revision, h.compacted, h.chain, h.batch, h.sealed,
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        v.revision, v.change, v.resource, v.namespace, v.name, v.at_millis, v.checksum, v.data
    FROM boatyard.header h LEFT JOIN boatyard.versions v ON v.revision > $1
    ORDER BY v.revision";

/// $1 to $7: columns of the rows; $8: when; $9: batch; $10 and $11: the header's revision and
/// chain after it.
pub(super) const APPEND: &str = "
    WITH appended AS (
        INSERT INTO boatyard.versions
            (revision, change, resource, namespace, name, checksum, data, at_millis, batch)
        SELECT r.*, $8::bigint, $9::uuid FROM unnest($1::bigint[], $2::smallint[], $3::text[],
            $4::text[], $5::text[], $6::bigint[], $7::bytea[]) r
    ), advanced AS (
        UPDATE boatyard.header SET batch = $9::uuid, revision = $10::bigint, chain = $11::bigint
    )
    SELECT pg_notify('boatyard', $10::bigint::text)";

/// $1: revisions of rows nobody needs; $2: up to where history is forgotten.
pub(super) const COMPACT: &str = "
    WITH removed AS (DELETE FROM boatyard.versions WHERE revision = ANY($1::bigint[]))
    UPDATE boatyard.header SET compacted = $2::bigint";

/// $1: batch; $2: the revision it was judged at.
pub(super) const LOOK_UP: &str =
    "SELECT count(*) FROM boatyard.versions WHERE batch = $1 AND revision > $2";

/// The header's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Changes when history was not merely continued.
    pub(super) epoch: Uuid,
    pub(super) revision: u64,
    pub(super) compacted: u64,
    /// Checksum over the checksums of all versions of this epoch.
    pub(super) chain: u32,
    /// What was written last.
    pub(super) batch: Uuid,
    /// What was written last in the epoch before.
    pub(super) sealed: Uuid,
    /// The database's clock.
    pub(super) now_millis: u64,
}

/// The header, and the versions after a revision.
#[derive(Debug)]
pub(super) struct News {
    pub(super) header: Header,
    /// In order, each with its time and checksum.
    pub(super) versions: Vec<(Version, u64, u32)>,
}

/// Everything, read in one snapshot.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) header: Header,
    pub(super) history: History,
}

/// The chain after one more version.
pub(super) fn link(chain: u32, checksum: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&checksum.to_le_bytes());
    hasher.finalize()
}

impl Header {
    fn parse(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let number = |index| row.try_get::<_, i64>(index).map(i64::cast_unsigned);
        Ok(Self {
            epoch: row.try_get(0)?,
            revision: number(1)?,
            compacted: number(2)?,
            // Written from 32 bits; anything else is damage and matches no chain.
            chain: u32::try_from(number(3)?).unwrap_or_default(),
            batch: row.try_get(4)?,
            sealed: row.try_get(5)?,
            now_millis: number(6)?,
        })
    }
}

impl News {
    pub(super) fn parse(rows: &[Row], place: &Arc<str>) -> Result<Self, Trouble> {
        let failed = |error| Trouble::new(place, error);
        let [first, ..] = rows else {
            return Err(damaged(place, "the header is missing"));
        };
        let header = Header::parse(first).map_err(failed)?;
        let mut versions = Vec::new();
        for row in rows {
            if row.try_get::<_, Option<i64>>(7).map_err(failed)?.is_some() {
                versions.push(version(row, 7, place)?);
            }
        }
        Ok(Self { header, versions })
    }
}

/// Reads everything.
pub(super) async fn load(session: &Session) -> Result<Loaded, Trouble> {
    let (place, client) = (session.place(), &session.client);
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}",
        super::session::LONG.as_millis()
    );
    session.round(client.batch_execute(&begin)).await?;
    let select = format!("SELECT {HEADER} FROM boatyard.header h");
    let row = session.round(client.query_one(&select, &[])).await?;
    let header = Header::parse(&row).map_err(|error| Trouble::new(place, error))?;
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = client.query_raw(
        "SELECT revision, change, resource, namespace, name, at_millis, checksum, data
            FROM boatyard.versions ORDER BY revision",
        none,
    );
    let rows = session.round(rows).await?;
    let mut rows = std::pin::pin!(rows);
    let mut history = History::starting_after(header.compacted);
    while let Some(row) = session.long(rows.try_next()).await? {
        let (version, at_millis, _) = version(&row, 0, place)?;
        let revision = version.revision();
        if !version.load(&mut history, at_millis) {
            return Err(damaged(place, format!("version {revision} is wrong")));
        }
    }
    if history.revision() != header.revision {
        return Err(damaged(place, "the newest versions are missing"));
    }
    session.round(client.batch_execute("COMMIT")).await?;
    Ok(Loaded { header, history })
}

/// Writes the versions of a backup into tables that never held anything, whose history then begins
/// after `begins`; false when they did.
pub(super) async fn restore(
    session: &Session,
    versions: &[Version],
    begins: u64,
) -> Result<bool, Trouble> {
    let (place, client) = (session.place(), &session.client);
    let begin = format!(
        "{BEGIN}; SET LOCAL statement_timeout = {}",
        super::session::LONG.as_millis()
    );
    session.round(client.batch_execute(&begin)).await?;
    session.round(client.query(LOCK, &[])).await?;
    let select = format!("SELECT {HEADER} FROM boatyard.header h");
    let row = session.round(client.query_one(&select, &[])).await?;
    let header = Header::parse(&row).map_err(|error| Trouble::new(place, error))?;
    if header.revision > 0 {
        session.roll_back().await?;
        return Ok(false);
    }
    let at_millis = header.now_millis;
    let batch = Uuid::new_v4();
    // In pieces: a statement's parameters have to fit into a message.
    for versions in versions.chunks(1024) {
        let columns = Columns::of(versions, at_millis, 0);
        let (millis, revision, chain) = (at_millis.cast_signed(), 0_i64, 0_i64);
        let mut parameters = columns.parameters().to_vec();
        parameters.extend::<[&(dyn ToSql + Sync); 4]>([&millis, &batch, &revision, &chain]);
        session
            .long(client.query(&session.append, &parameters))
            .await?;
    }
    let begins = begins.cast_signed();
    let epoch = Uuid::new_v4();
    let finish = "UPDATE boatyard.header SET revision = $1, compacted = $1, chain = 0, epoch = $2";
    session
        .round(client.execute(finish, &[&begins, &epoch]))
        .await?;
    session.long(client.batch_execute("COMMIT")).await?;
    Ok(true)
}

/// The version in a row's columns from `first` on.
fn version(row: &Row, first: usize, place: &Arc<str>) -> Result<(Version, u64, u32), Trouble> {
    let failed = |error| Trouble::new(place, error);
    let text = |index| row.try_get::<_, String>(first + index).map_err(failed);
    let number = |index| row.try_get::<_, i64>(first + index).map_err(failed);
    let revision = number(0)?.cast_unsigned();
    let change: i16 = row.try_get(first + 1).map_err(failed)?;
    let data: &[u8] = row.try_get(first + 7).map_err(failed)?;
    let at_millis = number(5)?.cast_unsigned();
    let object = Stored {
        key: Key {
            resource: text(2)?,
            namespace: text(3)?,
            name: text(4)?,
        },
        revision: Revision(revision),
        data: Bytes::copy_from_slice(data),
    };
    let version = Change::from_number(change.into()).map(|change| Version {
        change,
        object: Arc::new(object),
    });
    let checksum = u32::try_from(number(6)?).ok();
    match (version, checksum) {
        (Some(version), Some(checksum)) if version.checksum(at_millis) == checksum => {
            Ok((version, at_millis, checksum))
        }
        _ => Err(damaged(place, format!("version {revision} is wrong"))),
    }
}

fn damaged(place: &Arc<str>, what: impl Into<String>) -> Trouble {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, what.into());
    Trouble::lasting(Failure::new(place, DAMAGED).because(source))
}

/// The columns of versions to be appended.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    revisions: Vec<i64>,
    changes: Vec<i16>,
    resources: Vec<&'a str>,
    namespaces: Vec<&'a str>,
    names: Vec<&'a str>,
    checksums: Vec<i64>,
    data: Vec<&'a [u8]>,
    /// The chain after them.
    pub(super) chain: u32,
}

impl<'a> Columns<'a> {
    pub(super) fn of(versions: &'a [Version], at_millis: u64, chain: u32) -> Self {
        let mut columns = Self {
            chain,
            ..Self::default()
        };
        for version in versions {
            let checksum = version.checksum(at_millis);
            let key = &version.object.key;
            columns.revisions.push(version.revision().cast_signed());
            // Of three, each below ten.
            columns
                .changes
                .push(i16::try_from(version.change.number()).unwrap_or_default());
            columns.resources.push(&key.resource);
            columns.namespaces.push(&key.namespace);
            columns.names.push(&key.name);
            columns.checksums.push(i64::from(checksum));
            columns.data.push(&version.object.data);
            columns.chain = link(columns.chain, checksum);
        }
        columns
    }

    pub(super) fn len(&self) -> i64 {
        i64::try_from(self.revisions.len()).unwrap_or(i64::MAX)
    }

    /// As parameters 1 to 7 of [`APPEND`].
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 7] {
        [
            &self.revisions,
            &self.changes,
            &self.resources,
            &self.namespaces,
            &self.names,
            &self.checksums,
            &self.data,
        ]
    }
}

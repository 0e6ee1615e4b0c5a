//! The tables, and whose history they hold.
//!
//! Owns making and migrating the tables (one server at a time, by an advisory lock), the refusal
//! of newer and of foreign databases, and the start of a new epoch.
//!
//! The tables are in a schema of their own, `boatyard`. `versions` has a row per change under its
//! revision, as the SQLite file has; `header` is one row. `header.identity` names the database
//! this history was last continued on: cluster, timeline and table. A promoted standby has another
//! timeline, a restored backup another table or timeline. What was written last before may be
//! missing there, and a client may have seen it; so a new epoch begins: all history is forgotten
//! and the revision jumps beyond any that can have been shown, which makes every client list
//! again. Without the jump a client would go on from a revision that meanwhile means another
//! change, and miss what it skipped.
//!
//! Crash behaviour: each step is one transaction.
//!
//! Read next: `log`.

use std::sync::Arc;

use tokio_postgres::Client;
use uuid::Uuid;

use super::log::{BEGIN, LOCK};
use super::session::{Bare, LONG};
use super::trouble::Trouble;
use crate::failure::Failure;

/// Steps from each schema version to the next; applied ones are never edited.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE boatyard.versions (
        revision bigint PRIMARY KEY,
        change smallint NOT NULL,
        resource text NOT NULL,
        namespace text NOT NULL,
        name text NOT NULL,
        at_millis bigint NOT NULL,
        checksum bigint NOT NULL,
        batch uuid NOT NULL,
        data bytea NOT NULL
    );
    ALTER TABLE boatyard.header
        ADD COLUMN identity text NOT NULL DEFAULT '',
        ADD COLUMN epoch uuid NOT NULL DEFAULT gen_random_uuid(),
        ADD COLUMN revision bigint NOT NULL DEFAULT 0,
        ADD COLUMN compacted bigint NOT NULL DEFAULT 0,
        ADD COLUMN chain bigint NOT NULL DEFAULT 0,
        ADD COLUMN batch uuid NOT NULL DEFAULT gen_random_uuid(),
        ADD COLUMN sealed uuid NOT NULL DEFAULT gen_random_uuid();
"];

/// Beyond what a standby or a backup can be behind, at ten thousand changes a second for a day.
/// etcd's restore from a snapshot does the same.
const JUMP: i64 = 1_000_000_000;

/// `boatyard` as a number: whoever migrates holds this advisory lock.
const MIGRATING: i64 = 0x626f_6174_7961_7264;

/// The cluster, how often it was promoted, and the table, if there is one.
const PLACE: &str = "SELECT (SELECT system_identifier FROM pg_control_system()),
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
    to_regclass('boatyard.versions')::oid";

/// Which database a connection has reached.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cluster: i64,
    /// In hexadecimal, of a fixed length.
    pub(super) timeline: String,
    table: Option<u32>,
}

impl Place {
    fn identity(&self) -> String {
        let table = self.table.unwrap_or_default();
        format!("{}/{}/{table}", self.cluster, self.timeline)
    }
}

/// Asks where this is.
pub(super) async fn place(bare: &Bare) -> Result<Place, Trouble> {
    bare.within(LONG, place_of(&bare.client)).await
}

async fn place_of(client: &Client) -> Result<Place, tokio_postgres::Error> {
    let row = client.query_one(PLACE, &[]).await?;
    Ok(Place {
        cluster: row.try_get(0)?,
        timeline: row.try_get(1)?,
        table: row.try_get(2)?,
    })
}

/// Tables of nobody we know: neither PostgreSQL's nor an extension's.
const FOREIGN: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";

/// Makes or migrates the tables as needed.
pub(super) async fn migrate(bare: &Bare) -> Result<(), Trouble> {
    let (client, place) = (&bare.client, &bare.place);
    let begin = format!(
        "{BEGIN}; SET LOCAL statement_timeout = {0}; SET LOCAL lock_timeout = {0};
        SELECT pg_advisory_xact_lock({MIGRATING})",
        LONG.as_millis()
    );
    bare.within(LONG, client.batch_execute(&begin)).await?;
    let migrating = async {
        let ours = client
            .query_one("SELECT to_regnamespace('boatyard') IS NOT NULL, to_regclass('boatyard.header') IS NOT NULL", &[])
            .await?;
        let (schema, header): (bool, bool) = (ours.try_get(0)?, ours.try_get(1)?);
        if !header {
            let scope = if schema {
                " AND n.nspname = 'boatyard'"
            } else {
                ""
            };
            let others = client.query_one(&format!("{FOREIGN}{scope}"), &[]).await?;
            if others.try_get::<_, i64>(0)? > 0 {
                return Ok(Err(if schema { TAKEN } else { OTHERS }.into()));
            }
            if !schema {
                client.batch_execute("CREATE SCHEMA boatyard").await?;
            }
            client
                .batch_execute(
                    "CREATE TABLE boatyard.header (
                        one boolean PRIMARY KEY DEFAULT true CHECK (one),
                        schema integer NOT NULL
                    );
                    INSERT INTO boatyard.header (schema) VALUES (0)",
                )
                .await?;
        }
        let row = client.query_one("SELECT schema FROM boatyard.header", &[]);
        let version: i32 = row.await?.try_get(0)?;
        let missing = usize::try_from(version).ok();
        let Some(missing) = missing.and_then(|version| MIGRATIONS.get(version..)) else {
            return Ok(Err(format!(
                "it has schema {version}, written by a newer release, and this one knows {}; upgrade",
                MIGRATIONS.len()
            )));
        };
        for (schema, step) in (version + 1..).zip(missing) {
            client.batch_execute(step).await?;
            let update = "UPDATE boatyard.header SET schema = $1";
            client.execute(update, &[&schema]).await?;
        }
        Ok(Ok(()))
    };
    match bare.within(LONG, migrating).await? {
        Ok(()) => bare.within(LONG, client.batch_execute("COMMIT")).await,
        Err(what) => Err(Trouble::lasting(Failure::new(place, what))),
    }
}

/// What a server knew that the database it now finds contradicts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contradicted {
    pub(super) epoch: Uuid,
    pub(super) revision: u64,
}

/// Begins a new epoch if this is another database than the header says, or if it contradicts what
/// a server knew and nobody has done so yet. Checks that the release fits, too.
pub(super) async fn identify(
    bare: &Bare,
    contradicted: Option<Contradicted>,
) -> Result<(), Trouble> {
    let identifying = identify_with(&bare.client, &bare.place, contradicted);
    bare.within(LONG, identifying)
        .await?
        .map_err(Trouble::lasting)
}

async fn identify_with(
    client: &Client,
    place: &Arc<str>,
    contradicted: Option<Contradicted>,
) -> Result<Result<(), Failure>, tokio_postgres::Error> {
    let identity = place_of(client).await?.identity();
    let select = "SELECT schema, identity, epoch FROM boatyard.header";
    let row = client.query_one(select, &[]).await?;
    let schema: i32 = row.try_get(0)?;
    if usize::try_from(schema) != Ok(MIGRATIONS.len()) {
        let what = "a newer release has migrated it; upgrade this server";
        return Ok(Err(Failure::new(place, what)));
    }
    let (noted, epoch): (String, Uuid) = (row.try_get(1)?, row.try_get(2)?);
    let contradicted = contradicted.filter(|known| known.epoch == epoch);
    if noted == identity && contradicted.is_none() {
        return Ok(Ok(()));
    }
    let begin = format!(
        "{BEGIN}; SET LOCAL statement_timeout = {}; {LOCK}",
        LONG.as_millis()
    );
    client.batch_execute(&begin).await?;
    let row = client.query_one(select, &[]).await?;
    let (noted, epoch): (String, Uuid) = (row.try_get(1)?, row.try_get(2)?);
    let contradicted = contradicted.filter(|known| known.epoch == epoch);
    if noted.is_empty() {
        let update = "UPDATE boatyard.header SET identity = $1";
        client.execute(update, &[&identity]).await?;
    } else if noted != identity || contradicted.is_some() {
        let known = contradicted.map_or(0, |known| known.revision.cast_signed());
        client
            .batch_execute(
                "DELETE FROM boatyard.versions v USING (
                    SELECT resource, namespace, name, max(revision) AS newest
                    FROM boatyard.versions GROUP BY resource, namespace, name
                ) k
                WHERE (v.resource, v.namespace, v.name) = (k.resource, k.namespace, k.name)
                    AND (v.revision < k.newest OR v.change = 2)",
            )
            .await?;
        // The right sides are the old row's.
        client
            .execute(
                "UPDATE boatyard.header SET identity = $1, epoch = $2, chain = 0, sealed = batch,
                    revision = greatest(revision, $3::bigint) + $4::bigint,
                    compacted = greatest(revision, $3::bigint) + $4::bigint",
                &[&identity, &Uuid::new_v4(), &known, &JUMP],
            )
            .await?;
        client
            .execute(
                "SELECT pg_notify('boatyard', revision::text) FROM boatyard.header",
                &[],
            )
            .await?;
        tracing::warn!(
            database = %place,
            "the database was restored, or a standby was promoted: what was written last may be \
             missing, and all clients list again"
        );
    }
    client.batch_execute("COMMIT").await?;
    Ok(Ok(()))
}

const OTHERS: &str = "it is a database of another program; name another one, or run `CREATE SCHEMA boatyard` there if both are to share it";
const TAKEN: &str = "its schema boatyard has tables of another program; name another database";

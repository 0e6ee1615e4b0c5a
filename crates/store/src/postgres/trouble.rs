//! What can go wrong with the database, in a sentence each, and what to do about it.
//!
//! Owns the distinction the rest turns on: whether a statement failed and the session goes on, or
//! the session is gone and with it the knowledge of what became of the last statement.
//!
//! Read next: `session`.

use std::borrow::Cow;
use std::sync::Arc;

use tokio_postgres::error::{Severity, SqlState};

use crate::failure::Failure;

/// A failure, and what it means for session and caller.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    /// The session cannot be used any more; what it was doing may have happened.
    pub(super) lost: bool,
    /// Trying again, perhaps on another connection, may help within seconds.
    pub(super) passing: bool,
}

impl Trouble {
    /// The session is given up.
    pub(super) fn lost(failure: Failure) -> Self {
        Self {
            failure,
            lost: true,
            passing: true,
        }
    }

    /// The session goes on, and trying again helps.
    pub(super) fn passing(failure: Failure) -> Self {
        Self {
            failure,
            lost: false,
            passing: true,
        }
    }

    /// Nothing helps but a person.
    pub(super) fn lasting(failure: Failure) -> Self {
        Self {
            failure,
            lost: true,
            passing: false,
        }
    }

    pub(super) fn timeout(place: &Arc<str>) -> Self {
        Self::lost(Failure::new(place, SILENT))
    }

    /// Of a statement or of connecting.
    pub(super) fn new(place: &Arc<str>, error: tokio_postgres::Error) -> Self {
        let database = error.as_db_error();
        let fatal = database.is_none_or(|error| {
            !matches!(error.parsed_severity(), Some(Severity::Error)) && error.severity() != "ERROR"
        });
        let (what, passing) = match database {
            Some(error) => sentence(error.code()),
            None => transport(&error),
        };
        let what = match database {
            Some(error) => Cow::from(format!("{what} (it said: {})", error.message())),
            None => what.into(),
        };
        let full = database.is_some_and(|error| *error.code() == SqlState::DISK_FULL);
        let failure = match full {
            true => Failure::full(place, what),
            false => Failure::new(place, what),
        };
        Self {
            failure: failure.because(error),
            lost: fatal,
            passing,
        }
    }
}

pub(super) const DAMAGED: &str = "its tables are damaged; put back a backup";
pub(super) const SILENT: &str = "it did not answer in time; check the network, the database's \
    load, and that its synchronous standby is connected";
const STANDBY: &str = "it is read-only, a standby or a full one; name the primary, or all hosts in \
    the address so that the primary is found";
const UNREACHABLE: &str =
    "it cannot be reached; check that it runs, its address, and the network between";

/// What a code of the database means, and whether it passes by itself. The classes are in the
/// PostgreSQL documentation, appendix A.
fn sentence(code: &SqlState) -> (&'static str, bool) {
    match code.code() {
        "28000" => (
            "it refused the login; check the user, TLS mode, sslcert and pg_hba.conf",
            false,
        ),
        "28P01" => (
            "it refused the password; check user and password in the address",
            false,
        ),
        "3D000" => (
            "there is no such database; create it with `createdb --owner USER NAME`",
            false,
        ),
        "42501" => (
            "its user lacks a permission; make the user the owner of the database and of what is in the schema boatyard",
            false,
        ),
        "53100" => (
            "its disk is full; free space there and try again, nothing stored is lost",
            false,
        ),
        "53200" | "53400" => ("it lacks memory; check its limits and try again", false),
        "53300" => ("it has too many connections; raise max_connections", true),
        "25006" => (STANDBY, true),
        "57P01" | "57P02" | "57P03" => ("it is starting or ending; try again in a moment", true),
        // The last: what was sent together with a statement that failed so.
        "57014" | "55P03" | "25P02" => (SILENT, true),
        "25P03" | "40001" | "40P01" => ("another server was faster; try again", true),
        "42P01" | "42703" | "3F000" => (
            "its tables are gone or changed; put back a backup, or restart the server to make them anew",
            false,
        ),
        "58030" | "XX001" | "XX002" => ("its disk failed; check it, and put back a backup", false),
        code if code.starts_with("08") => (UNREACHABLE, true),
        _ => ("it refused; report this", false),
    }
}

fn transport(error: &tokio_postgres::Error) -> (&'static str, bool) {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
            && io.raw_os_error().is_none()
        {
            return (STANDBY, true);
        }
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        match inner.and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(_)) => {
                return (
                    "it broke off TLS; check that it trusts who issued the certificate in sslcert",
                    false,
                );
            }
            Some(_) => {
                return (
                    "its TLS certificate was refused; check sslmode, sslrootcert and the host's name",
                    false,
                );
            }
            None => {}
        }
        source = cause.source();
    }
    let text = error.to_string();
    if text.contains("TLS") {
        return (
            "it offers no TLS as sslmode demands; set ssl = on there",
            false,
        );
    }
    if text.contains("authentication") || text.contains("configuration") {
        return (
            "the login failed; check user and password in the address",
            false,
        );
    }
    (UNREACHABLE, true)
}

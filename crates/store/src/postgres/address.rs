//! Where the database is: an address in the form PostgreSQL's own clients take.
//!
//! Owns reading `postgres://user:password@host1:port,host2/name?option=value`, with a unix socket's
//! folder as `host=`, the options of `tokio_postgres` and those of TLS as libpq names them:
//! `sslmode` (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`), `sslrootcert` (a file;
//! without it the system's), `sslcert` and `sslkey`. What it shows of the address holds no password.
//!
//! Read next: `session`, which connects to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::{Files, Tls, Trust};
use crate::Error;
use crate::failure::Failure;

/// For one host; a whole attempt has a deadline besides.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// Hosts and name, for errors.
    pub(super) place: Arc<str>,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: String| Failure::new(&"PostgreSQL".into(), what).error();
        let text = text.trim();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(wrong(
                "its address is no URL; give postgres://USER@HOST/NAME".to_owned(),
            ));
        }
        let (address, parameters) = text.split_once('?').unwrap_or((text, ""));
        let mut trust = None;
        let mut files = Files::default();
        let mut rest = Vec::new();
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => files.roots = Some(PathBuf::from(value)),
                "sslcert" => files.certificate = Some(PathBuf::from(value)),
                "sslkey" => files.key = Some(PathBuf::from(value)),
                "sslmode" if value == "verify-ca" => trust = Some(Trust::Chain),
                "sslmode" if value == "verify-full" => trust = Some(Trust::ChainAndName),
                _ => rest.push(parameter),
            }
        }
        let mut config: Config = format!("{address}?{}", rest.join("&")).parse().map_err(
            |error: tokio_postgres::Error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                wrong(format!(
                    "its address cannot be read: {}; give postgres://USER@HOST/NAME",
                    cause.unwrap_or_else(|| error.to_string())
                ))
            },
        )?;
        if trust.is_some() {
            config.ssl_mode(SslMode::Require);
        }
        // As libpq: `require` checks the chain when it is told whom to trust.
        let trust = trust.unwrap_or(match files.roots {
            Some(_) if config.get_ssl_mode() == SslMode::Require => Trust::Chain,
            _ => Trust::Anybody,
        });
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("/var/run/postgresql");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        config.keepalives_idle(UNACKNOWLEDGED);
        config.keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3);
        // A standby is passed over, whatever the address says.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("boatyard");
        }
        let place = place(&config).into();
        let tls = Tls::new(trust, &files).map_err(|what| Failure::new(&place, what).error())?;
        Ok(Self { config, tls, place })
    }
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(number, host)| {
            let port = ports.get(number).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(folder) => format!("{}:{port}", folder.display()),
            }
        })
        .collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("PostgreSQL {name} at {}", hosts.join(","))
}

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
    /// One for each host, in their order.
    pub(super) hosts: Vec<Config>,
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
        let place = place(&config).into();
        let tls = Tls::new(trust, &files).map_err(|what| Failure::new(&place, what).error())?;
        let hosts = apart(&config);
        Ok(Self { hosts, tls, place })
    }
}

/// The hosts of an address, each with an address of its own: the driver takes the first that lets
/// itself be written to, and that may be a former primary.
fn apart(config: &Config) -> Vec<Config> {
    let (names, numbers) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let mut hosts = Vec::new();
    for index in 0..names.len().max(numbers.len()).max(1) {
        let mut host = Config::new();
        match names.get(index) {
            Some(Host::Tcp(name)) => host.host(name),
            Some(Host::Unix(folder)) => host.host_path(folder),
            None if numbers.is_empty() => host.host_path("/var/run/postgresql"),
            None => &mut host,
        };
        if let Some(number) = numbers.get(index) {
            host.hostaddr(*number);
        }
        host.port(*ports.get(index).or(ports.first()).unwrap_or(&5432));
        if let Some(user) = config.get_user() {
            host.user(user);
        }
        if let Some(password) = config.get_password() {
            host.password(password);
        }
        if let Some(name) = config.get_dbname() {
            host.dbname(name);
        }
        if let Some(options) = config.get_options() {
            host.options(options);
        }
        host.application_name(config.get_application_name().unwrap_or("boatyard"))
            .ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .connect_timeout(*config.get_connect_timeout().unwrap_or(&CONNECT))
            .tcp_user_timeout(*config.get_tcp_user_timeout().unwrap_or(&UNACKNOWLEDGED))
            .keepalives_idle(UNACKNOWLEDGED)
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3)
            // A standby is passed over, whatever the address says.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        hosts.push(host);
    }
    hosts
}

fn place(config: &Config) -> String {
    let hosts: Vec<String> = apart(config)
        .iter()
        .map(|host| {
            let port = host.get_ports().first().unwrap_or(&5432);
            match host.get_hosts().first() {
                Some(Host::Tcp(name)) => format!("{name}:{port}"),
                Some(Host::Unix(folder)) => format!("{}:{port}", folder.display()),
                None => format!("{:?}:{port}", host.get_hostaddrs()),
            }
        })
        .collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("PostgreSQL {name} at {}", hosts.join(","))
}

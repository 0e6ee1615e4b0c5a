//! Answers a registry's challenge: basic, or a token from where it says.
//!
//! Credentials come from docker's configuration and its credential helpers (or the
//! variable of the reference's command line) and
//! go to the server they are for, or to the token server it names; never over
//! plain HTTP unless that is loopback. They are kept for one pull.
//!
//! Protocol: RFC 7235; the distribution project's "Token Authentication" and
//! "OAuth2 Token Authentication" documents.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use reqwest::header::HeaderValue;

use super::{Endpoint, Session, Trouble};
use crate::Error;

const HELPER_DEADLINE: Duration = Duration::from_secs(30);
const TOKEN_LIMIT: usize = 1 << 20;

/// None when there is nothing to answer with.
pub(super) async fn answer(
    session: &Session,
    endpoint: &Endpoint,
    challenges: &[HeaderValue],
) -> Result<Option<HeaderValue>, Trouble> {
    for challenge in challenges
        .iter()
        .filter_map(|challenge| challenge.to_str().ok())
    {
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return bearer(session, endpoint, &parameters(rest)).await.map(Some);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            if endpoint.base.starts_with("http:")
                && !endpoint.loopback
                && !trusted(session, endpoint)
            {
                return Err(Trouble::Answer(
                    "asks for a password without TLS".to_owned(),
                ));
            }
            return match credential(session, endpoint).await? {
                Some(DockerCredential::UsernamePassword(user, password)) => {
                    Ok(Some(basic(&user, &password)?))
                }
                Some(DockerCredential::IdentityToken(_)) | None => Ok(None),
            };
        }
    }
    Ok(None)
}

fn trusted(session: &Session, endpoint: &Endpoint) -> bool {
    session.options.insecure.contains(&endpoint.host)
}

async fn bearer(
    session: &Session,
    endpoint: &Endpoint,
    parameters: &[(String, String)],
) -> Result<HeaderValue, Trouble> {
    let parameter = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let realm = parameter("realm").unwrap_or_default();
    let mut url = reqwest::Url::parse(realm).map_err(|_| {
        Trouble::Answer("asks for a token but does not say where to get it".to_owned())
    })?;
    let loopback = url.host_str().is_some_and(super::is_loopback);
    if url.scheme() != "https" && !loopback && !trusted(session, endpoint) {
        return Err(Trouble::Answer(
            "wants a token fetched without TLS".to_owned(),
        ));
    }
    let scope = parameter("scope").map_or_else(
        || format!("repository:{}:pull", session.repository),
        str::to_owned,
    );
    let service = parameter("service");
    let client = super::client(loopback, &session.options)?;
    let credential = credential(session, endpoint).await?;
    let request = match &credential {
        Some(DockerCredential::IdentityToken(token)) => {
            let mut form = url::Form::default();
            form.add("grant_type", "refresh_token");
            form.add("refresh_token", token);
            form.add("client_id", "boatyard");
            form.add("scope", &scope);
            if let Some(service) = service {
                form.add("service", service);
            }
            client
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.text)
        }
        other => {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", &scope);
            }
            let request = client.get(url);
            match other {
                Some(DockerCredential::UsernamePassword(user, password)) => {
                    request.header("authorization", basic(user, password)?)
                }
                _ => request,
            }
        }
    };
    let stall = session.options.deadlines.stall;
    let response = super::answer(request, stall).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(Trouble::Status(
            status,
            super::complaint(response, stall).await,
        ));
    }
    let body = super::bounded(response, TOKEN_LIMIT, stall).await?;
    let broken = || Trouble::Answer("gives tokens that cannot be understood".to_owned());
    let document: serde_json::Value = serde_json::from_slice(&body).map_err(|_| broken())?;
    let token = document["token"]
        .as_str()
        .or(document["access_token"].as_str())
        .ok_or_else(broken)?;
    secret(&format!("Bearer {token}"))
}

mod url {
    //! The one body that is sent: a form.

    #[derive(Default)]
    pub(super) struct Form {
        pub(super) text: String,
    }

    impl Form {
        pub(super) fn add(&mut self, name: &str, value: &str) {
            use std::fmt::Write as _;
            if !self.text.is_empty() {
                self.text.push('&');
            }
            self.text.push_str(name);
            self.text.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                    self.text.push(char::from(byte));
                } else {
                    let _ = write!(self.text, "%{byte:02X}");
                }
            }
        }
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Trouble> {
    secret(&format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    ))
}

fn secret(text: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Trouble::Answer("wants a token that fits into no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `realm="…",service="…"`; commas inside quotes do not separate.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_owned();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((key, value.trim().to_owned()));
        rest = after;
    }
    found
}

async fn credential(
    session: &Session,
    endpoint: &Endpoint,
) -> Result<Option<DockerCredential>, Trouble> {
    let server = endpoint.server.clone();
    if let Some(found) = std::env::var("DEVCONTAINERS_OCI_AUTH")
        .ok()
        .and_then(|list| listed(&list, &endpoint.host))
    {
        return Ok(Some(found));
    }
    for path in files(session.options.docker_config.as_deref()) {
        let failed = |problem: String| {
            Trouble::Final(Error::Credentials {
                registry: endpoint.host.clone(),
                path: path.clone(),
                problem,
            })
        };
        let (server, file) = (server.clone(), path.clone());
        // A helper is a program of the user's: it may ask a keyring, or hang.
        let lookup = tokio::task::spawn_blocking(move || look_up(&file, &server));
        let found = match tokio::time::timeout(HELPER_DEADLINE, lookup).await {
            Ok(Ok(found)) => found.map_err(failed)?,
            Ok(Err(_)) => return Err(failed("the look-up was ended".to_owned())),
            Err(_) => {
                return Err(failed(format!(
                    "its helper did not answer in {} s",
                    HELPER_DEADLINE.as_secs()
                )));
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// As the reference's command line takes it from its environment:
/// `registry|user|password`, several after commas.
fn listed(list: &str, host: &str) -> Option<DockerCredential> {
    list.split(',').find_map(|entry| {
        let mut parts = entry.trim().splitn(3, '|');
        let (registry, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        (registry == host)
            .then(|| DockerCredential::UsernamePassword(user.to_owned(), password.to_owned()))
    })
}

fn files(given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let docker =
        variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    let podman = variable("REGISTRY_AUTH_FILE")
        .or_else(|| variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
    docker
        .map(|folder| folder.join("config.json"))
        .into_iter()
        .chain(podman)
        .collect()
}

fn look_up(file: &Path, server: &str) -> Result<Option<DockerCredential>, String> {
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(|error| error.to_string())?,
    };
    match docker_credential::get_credential_from_reader(bytes.as_slice(), server) {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What every helper says of a server it does not know.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("not found") =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure {
            helper,
            stdout,
            stderr,
        }) => {
            let words = if stdout.trim().is_empty() {
                stderr
            } else {
                stdout
            };
            Err(format!("helper {helper} says: {}", words.trim()))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_of_credentials_is_for_its_registries_alone() {
        let list = "ghcr.io|me|a|b, localhost:5000|u|p";
        let found = |host: &str| format!("{:?}", super::listed(list, host));
        assert!(found("ghcr.io").contains("\"a|b\""), "{}", found("ghcr.io"));
        assert!(found("localhost:5000").contains("\"p\""));
        assert_eq!(found("localhost"), "None");
    }
}

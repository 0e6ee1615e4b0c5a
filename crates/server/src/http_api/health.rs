//! Health: whether the server lives, whether it should be sent requests, and why not.
//!
//! Told to everybody, as balancers and supervisors have no identity; why a check failed is in the
//! log, not in the answer. `livez` fails only when a restart would help, `readyz` also while the
//! server shuts down or cannot reach its store.

use super::answers::{Body, full};
use super::{Handler, allowing};
use crate::failure::Failure;
use boatyard_store::{Error, Key, Revision};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use std::fmt::Write;
use std::time::Duration;

/// Longest a check may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Endpoints and their checks.
const ENDPOINTS: [(&str, &[&str]); 3] = [
    ("healthz", &["ping", "store"]),
    ("livez", &["ping"]),
    ("readyz", &["ping", "store", "shutdown"]),
];

impl Handler {
    /// The answer, when the path is one of health.
    pub(super) async fn health(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Option<Result<Response<Body>, Failure>> {
        let mut parts = path
            .trim_start_matches('/')
            .trim_end_matches('/')
            .split('/');
        let (endpoint, only, more) = (parts.next()?, parts.next(), parts.next());
        let (_, checks) = ENDPOINTS.iter().find(|(name, _)| *name == endpoint)?;
        if more.is_some() || only.is_some_and(|only| !checks.contains(&only)) {
            return Some(Err(Failure::no_such_path(path)));
        }
        if ![Method::GET, Method::HEAD].contains(method) {
            return Some(Err(allowing("GET, HEAD")));
        }
        let query: Vec<&str> = query.unwrap_or_default().split('&').collect();
        let asked = |name: &str| {
            let is = |pair: &&str| {
                **pair == *name
                    || pair
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('='))
            };
            query.iter().any(is)
        };
        let excluded: Vec<&str> = query
            .iter()
            .filter_map(|pair| pair.strip_prefix("exclude="))
            .collect();
        let (mut report, mut healthy) = (String::new(), true);
        for check in checks
            .iter()
            .filter(|check| only.is_none_or(|only| only == **check))
        {
            let line = if excluded.contains(check) {
                format!("[+]{check} excluded: ok")
            } else if self.passes(check).await {
                format!("[+]{check} ok")
            } else {
                healthy = false;
                format!("[-]{check} failed: reason withheld")
            };
            let _ = writeln!(report, "{line}");
        }
        for name in excluded.iter().filter(|name| !checks.contains(name)) {
            let _ = writeln!(
                report,
                "warn: some health checks cannot be excluded: no matches for {name:?}"
            );
        }
        let verdict = if healthy { "passed" } else { "failed" };
        let _ = writeln!(report, "{endpoint} check {verdict}");
        let text = if healthy && !asked("verbose") {
            "ok".to_owned()
        } else {
            report
        };
        let mut response = Response::new(full(text));
        if !healthy {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        for (name, value) in [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-cache, private"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        Some(Ok(response))
    }

    async fn passes(&self, check: &str) -> bool {
        match check {
            "shutdown" => !self.shutdown.is_cancelled(),
            "store" => {
                // Reads may come from memory: only what goes to the writer tells that it is there.
                // Nothing has this name, so that nothing is deleted.
                let nothing = Key {
                    resource: "health".to_owned(),
                    namespace: String::new(),
                    name: "probe".to_owned(),
                };
                let probe = self
                    .resources
                    .store
                    .delete(nothing, Revision(1), Bytes::new());
                match tokio::time::timeout(DEADLINE, probe).await {
                    Ok(Ok(_) | Err(Error::NotFound(_) | Error::Conflict { .. })) => true,
                    Ok(Err(error)) => {
                        tracing::info!(
                            error = &error as &dyn std::error::Error,
                            "the store is not healthy"
                        );
                        false
                    }
                    Err(_) => {
                        tracing::info!("the store did not answer in time");
                        false
                    }
                }
            }
            _ => true,
        }
    }
}

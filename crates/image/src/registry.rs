//! Talks to registries: manifests and blobs of one image or artifact.
//!
//! A thin client over reqwest instead of `oci-client`: that one follows no
//! mirror with a path, knows no identity tokens of credential helpers, takes
//! manifests of any size into memory and puts what a registry answered into
//! texts from which no remedy can be told.
//!
//! Nothing a registry says is believed: bodies are bounded, every call has a
//! deadline, and digests are compared by who asked. Writing blobs to disk and
//! unpacking them is `pull`'s business; tokens and passwords are `auth`'s;
//! what is written to a registry goes through `push`.
//!
//! Protocol: the OCI distribution specification, "Pulling".

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};

use crate::config::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::digest::Digest;
use crate::error::Doing;
use crate::{Error, Options, Reference};

mod auth;
mod push;

/// The specification asks registries to take manifests of 4 MiB.
const MANIFEST_LIMIT: usize = 4 << 20;
const CONFIG_LIMIT: usize = 8 << 20;

/// One image's registry, for the time of one pull.
pub(crate) struct Session {
    options: Arc<Options>,
    /// What is done with it, for errors.
    doing: Doing,
    image: String,
    registry: String,
    repository: String,
    endpoints: Vec<Endpoint>,
    /// From endpoint to what it wants in `Authorization`.
    authorizations: Mutex<HashMap<usize, HeaderValue>>,
}

#[derive(Debug)]
struct Endpoint {
    /// Scheme, host, port and prefix.
    base: String,
    /// As the credentials file names it.
    server: String,
    host: String,
    role: Role,
    loopback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Mirror,
    Registry,
    /// The registry with TLS after it was tried without.
    Alternate,
}

/// A small document.
struct Wanted {
    what: &'static str,
    path: String,
    headers: HeaderMap,
    digest: Option<Digest>,
    limit: usize,
}

/// How far the asking of all endpoints has come.
#[derive(Default)]
struct Turn {
    endpoint: usize,
    attempts: u32,
    again: bool,
    /// What the registry itself answered.
    trouble: Option<Trouble>,
}

/// Why one endpoint did not give what was asked for.
#[derive(Debug)]
enum Trouble {
    /// No answer, or none that is HTTP.
    Connection(String, Option<reqwest::Error>),
    Status(StatusCode, String),
    /// An answer that cannot be used.
    Answer(String),
    Final(Error),
}

/// A blob's content, from some offset on.
pub(crate) struct Blob {
    response: Response,
    stall: Duration,
    /// What a server that knows no ranges sent once more.
    skip: u64,
}

impl Session {
    pub(crate) fn new(reference: &Reference, options: Arc<Options>) -> Self {
        let repository = reference.repository();
        let subject = reference.to_string();
        Session::of(
            Doing::Pull,
            subject,
            reference.registry(),
            repository,
            options,
        )
    }

    /// `subject` is what errors name.
    pub(crate) fn of(
        doing: Doing,
        subject: String,
        registry: &str,
        repository: &str,
        options: Arc<Options>,
    ) -> Self {
        let mut endpoints: Vec<Endpoint> = options
            .mirrors
            .get(registry)
            .into_iter()
            .flatten()
            .map(|mirror| Endpoint::mirror(&mirror.endpoint))
            .collect();
        let host = if registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            registry
        };
        let server = if registry == "docker.io" {
            "https://index.docker.io/v1/"
        } else {
            registry
        };
        let loopback = is_loopback(registry);
        let mut add = |scheme: &str, role| {
            endpoints.push(Endpoint {
                base: format!("{scheme}://{host}"),
                server: server.to_owned(),
                host: registry.to_owned(),
                role,
                loopback,
            });
        };
        if loopback || options.insecure.iter().any(|insecure| insecure == registry) {
            add("http", Role::Registry);
            add("https", Role::Alternate);
        } else {
            add("https", Role::Registry);
        }
        Session {
            options,
            doing,
            image: subject,
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            endpoints,
            authorizations: Mutex::default(),
        }
    }

    /// A manifest or index by tag or digest; the bytes fit the digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Bytes, Error> {
        let accept = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST].join(", ");
        let accept = HeaderValue::from_str(&accept).map_err(|_| self.bug())?;
        let wanted = Wanted {
            what: "its manifest",
            path: format!("manifests/{name}"),
            headers: HeaderMap::from_iter([(ACCEPT, accept)]),
            digest: Digest::parse(name),
            limit: MANIFEST_LIMIT,
        };
        self.small(&wanted).await
    }

    /// A blob small enough to hold in memory; the bytes fit the digest.
    pub(crate) async fn config(&self, digest: &Digest) -> Result<Bytes, Error> {
        let wanted = Wanted {
            what: "its config",
            path: format!("blobs/{digest}"),
            headers: HeaderMap::new(),
            digest: Some(digest.clone()),
            limit: CONFIG_LIMIT,
        };
        self.small(&wanted).await
    }

    /// Starts a download at `offset`. The caller compares digest and length.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Blob, Error> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range =
                HeaderValue::from_str(&format!("bytes={offset}-")).map_err(|_| self.bug())?;
            headers.insert(RANGE, range);
        }
        let path = format!("blobs/{digest}");
        let mut turn = Turn::default();
        while let Some(endpoint) = self.next_endpoint(&mut turn).await {
            let trouble = match self.send(endpoint, &path, &headers).await {
                Ok(response) if response.status() != StatusCode::PARTIAL_CONTENT => {
                    return Ok(Blob {
                        response,
                        stall: self.options.deadlines.stall,
                        skip: offset,
                    });
                }
                Ok(response) if range_starts_at(&response, offset) => {
                    return Ok(Blob {
                        response,
                        stall: self.options.deadlines.stall,
                        skip: 0,
                    });
                }
                Ok(_) => {
                    Trouble::Answer("sent another part of a layer than was asked for".to_owned())
                }
                Err(trouble) => trouble,
            };
            self.failed("a layer", &mut turn, trouble);
        }
        Err(self.given_up(turn))
    }

    /// For what goes wrong in the middle of a blob.
    pub(crate) fn broken_off(&self, problem: String) -> Error {
        self.explain(Trouble::Connection(problem, None), &self.registry)
    }

    async fn small(&self, wanted: &Wanted) -> Result<Bytes, Error> {
        let deadline = self.options.deadlines.request;
        let mut turn = Turn::default();
        while let Some(endpoint) = self.next_endpoint(&mut turn).await {
            let read = self.read_small(endpoint, wanted);
            let outcome = tokio::time::timeout(deadline, read)
                .await
                .unwrap_or_else(|_| {
                    let problem = format!(
                        "did not finish sending {} within {} s",
                        wanted.what,
                        deadline.as_secs()
                    );
                    Err(Trouble::Connection(problem, None))
                });
            match outcome {
                Ok(body) => return Ok(body),
                Err(trouble) => self.failed(wanted.what, &mut turn, trouble),
            }
        }
        Err(self.given_up(turn))
    }

    async fn read_small(&self, endpoint: usize, wanted: &Wanted) -> Result<Bytes, Trouble> {
        let response = self.send(endpoint, &wanted.path, &wanted.headers).await?;
        let stated = response.headers().get("docker-content-digest").cloned();
        let body = bounded(response, wanted.limit, self.options.deadlines.stall).await?;
        let actual = Digest::of(&body);
        let stated = stated
            .as_ref()
            .and_then(|stated| stated.to_str().ok())
            .and_then(Digest::parse);
        if let Some(expected) = wanted.digest.clone().or(stated)
            && expected != actual
        {
            let host = &self.endpoints[endpoint].host;
            return Err(Trouble::Final(Error::Digest {
                what: format!(
                    "{} of image {} from registry {host}",
                    wanted.what, self.image
                ),
                expected: expected.to_string(),
                actual: actual.to_string(),
            }));
        }
        Ok(body)
    }

    /// Whom to ask now, after a pause if it is the same once more.
    async fn next_endpoint(&self, turn: &mut Turn) -> Option<usize> {
        if turn.again {
            tokio::time::sleep(Duration::from_millis(200 << turn.attempts.min(5))).await;
        }
        (turn.endpoint < self.endpoints.len()).then_some(turn.endpoint)
    }

    /// Decides who is asked next. Mirrors come first, and a mirror's failure
    /// is nobody's concern as long as another endpoint serves.
    fn failed(&self, what: &str, turn: &mut Turn, trouble: Trouble) {
        let endpoint = &self.endpoints[turn.endpoint];
        turn.attempts += 1;
        let may_pass = match &trouble {
            Trouble::Status(status, _) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            // Refused or unknown hosts do not get better in a second.
            Trouble::Connection(_, Some(error)) => !error.is_connect() && !error.is_timeout(),
            _ => false,
        };
        // An unreachable mirror should not cost a minute per request.
        turn.again = endpoint.role == Role::Registry
            && may_pass
            && turn.attempts < self.options.deadlines.attempts;
        if turn.again {
            return;
        }
        turn.attempts = 0;
        turn.endpoint += 1;
        match endpoint.role {
            Role::Mirror => {
                let error = self.explain(trouble, &endpoint.host);
                tracing::info!(mirror = endpoint.base, what, %error, "a mirror does not serve");
            }
            Role::Registry => {
                // What speaks TLS answers 400 to who does not.
                let without_tls = matches!(
                    trouble,
                    Trouble::Connection(..) | Trouble::Status(StatusCode::BAD_REQUEST, _)
                );
                if !without_tls {
                    turn.endpoint = self.endpoints.len();
                }
                turn.trouble = Some(trouble);
            }
            Role::Alternate => {
                if matches!(turn.trouble, Some(Trouble::Status(..))) {
                    turn.trouble = Some(trouble);
                }
            }
        }
    }

    fn given_up(&self, turn: Turn) -> Error {
        let trouble = turn
            .trouble
            .unwrap_or_else(|| Trouble::Answer("has no endpoint".to_owned()));
        self.explain(trouble, &self.registry)
    }

    /// One GET, authorized; any answer but success is trouble.
    async fn send(
        &self,
        endpoint: usize,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Trouble> {
        let url = self.url(endpoint, path);
        let deadline = self.options.deadlines.stall;
        self.call(endpoint, deadline, &|client| {
            client.get(&url).headers(headers.clone())
        })
        .await
    }

    fn url(&self, endpoint: usize, path: &str) -> String {
        let base = &self.endpoints[endpoint].base;
        format!("{base}/v2/{}/{path}", self.repository)
    }

    /// One request, authorized, once more when an earlier authorization does
    /// not reach as far as this; any answer but success is trouble.
    async fn call(
        &self,
        endpoint: usize,
        deadline: Duration,
        make: &(dyn Fn(&reqwest::Client) -> reqwest::RequestBuilder + Sync),
    ) -> Result<Response, Trouble> {
        let mut authorization = self.known_authorization(endpoint);
        let mut challenged = false;
        loop {
            let place = &self.endpoints[endpoint];
            let mut request = make(client(place.loopback, &self.options)?);
            if let Some(authorization) = authorization.clone() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = answer(request, deadline).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let stall = self.options.deadlines.stall;
            if status != StatusCode::UNAUTHORIZED || challenged {
                return Err(Trouble::Status(status, complaint(response, stall).await));
            }
            let challenges = response
                .headers()
                .get_all("www-authenticate")
                .iter()
                .cloned()
                .collect::<Vec<_>>();
            let found = auth::answer(self, place, &challenges).await?;
            let Some(found) = found else {
                return Err(Trouble::Status(status, complaint(response, stall).await));
            };
            if let Ok(mut known) = self.authorizations.lock() {
                known.insert(endpoint, found.clone());
            }
            authorization = Some(found);
            challenged = true;
        }
    }

    fn known_authorization(&self, endpoint: usize) -> Option<HeaderValue> {
        self.authorizations.lock().ok()?.get(&endpoint).cloned()
    }

    fn explain(&self, trouble: Trouble, registry: &str) -> Error {
        let (problem, remedy, source) = match trouble {
            Trouble::Final(error) => return error,
            Trouble::Connection(problem, source) => (
                problem,
                "check the registry's address, the network and the proxy settings, and try again"
                    .to_owned(),
                source,
            ),
            Trouble::Answer(problem) => (
                problem,
                format!(
                    "check that {registry} is a registry and that no proxy answers in its place"
                ),
                None,
            ),
            Trouble::Status(status, words) => {
                let words = if words.is_empty() {
                    String::new()
                } else {
                    format!(": {words}")
                };
                let (meaning, remedy) = match status.as_u16() {
                    401 | 403 => (
                        "does not let us in",
                        format!(
                            "check the name, which private and missing images answer alike, and log in with `docker login {registry}`"
                        ),
                    ),
                    404 => (
                        "has nothing of that name and tag",
                        "check the name and the tag".to_owned(),
                    ),
                    429 => (
                        "limits how much may be pulled",
                        format!(
                            "wait, log in with `docker login {registry}`, or configure a mirror"
                        ),
                    ),
                    500.. => (
                        "is broken",
                        "try again later, configure a mirror, or tell who runs the registry"
                            .to_owned(),
                    ),
                    _ => (
                        "does not understand us",
                        format!("check that {registry} is a registry"),
                    ),
                };
                (
                    format!("{meaning} (status {}{words})", status.as_u16()),
                    remedy,
                    None,
                )
            }
        };
        Error::Registry {
            doing: self.doing,
            image: self.image.clone(),
            registry: registry.to_owned(),
            problem,
            remedy,
            source: source.map(|source| Box::new(source) as Box<_>),
        }
    }

    fn bug(&self) -> Error {
        self.explain(
            Trouble::Answer("cannot be asked for this name".to_owned()),
            &self.registry,
        )
    }
}

impl Blob {
    /// The next piece, or None at the end. Text, not an error: the caller
    /// tries again from where it is.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let chunk = match tokio::time::timeout(self.stall, self.response.chunk()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => {
                    return Err(format!(
                        "broke off in the middle of a layer ({})",
                        cause(&error)
                    ));
                }
                Err(_) => {
                    return Err(format!(
                        "sent nothing for {} s in the middle of a layer",
                        seconds(self.stall)
                    ));
                }
            };
            let Some(mut bytes) = chunk else {
                return Ok(None);
            };
            if self.skip >= bytes.len() as u64 {
                self.skip -= bytes.len() as u64;
                continue;
            }
            let skip = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(0);
            return Ok(Some(bytes.split_off(skip)));
        }
    }
}

impl Endpoint {
    fn mirror(endpoint: &str) -> Endpoint {
        let base = endpoint.trim_end_matches('/').to_owned();
        let base = if base.contains("://") {
            base
        } else {
            format!("https://{base}")
        };
        let rest = base
            .split_once("://")
            .map_or(base.as_str(), |(_, rest)| rest);
        let host = rest.split('/').next().unwrap_or_default().to_owned();
        Endpoint {
            server: host.clone(),
            loopback: is_loopback(&host),
            host,
            role: Role::Mirror,
            base,
        }
    }
}

/// A document behind a URL, whole or not at all.
pub(crate) async fn document(
    url: &str,
    limit: usize,
    options: &Arc<Options>,
) -> Result<Bytes, Error> {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| url.host_str());
    let host = host.unwrap_or_default().to_owned();
    let session = Session::of(Doing::Fetch, url.to_owned(), &host, "", Arc::clone(options));
    let read = async {
        let request = client(is_loopback(&host), options)?.get(url);
        let response = answer(request, options.deadlines.stall).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Trouble::Status(status, String::new()));
        }
        bounded(response, limit, options.deadlines.stall).await
    };
    read.await
        .map_err(|trouble| session.explain(trouble, &host))
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Two for the whole process: connections and the system's certificates are
/// shared. Loopback is never reached through a proxy.
fn client(loopback: bool, options: &Options) -> Result<&'static reqwest::Client, Trouble> {
    static DIRECT: OnceLock<reqwest::Client> = OnceLock::new();
    static ANY: OnceLock<reqwest::Client> = OnceLock::new();
    let cell = if loopback { &DIRECT } else { &ANY };
    if let Some(client) = cell.get() {
        return Ok(client);
    }
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let was_encrypted = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > 5 {
            attempt.error("redirected too often")
        } else if was_encrypted && attempt.url().scheme() != "https" {
            attempt.error("redirected to a place without TLS")
        } else {
            attempt.follow()
        }
    });
    let builder = reqwest::Client::builder()
        .user_agent(concat!("boatyard/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.deadlines.connect)
        // Several blobs over one connection share its window and its fate.
        .http1_only()
        .redirect(redirects);
    let builder = if loopback {
        builder.no_proxy()
    } else {
        builder
    };
    let client = builder.build().map_err(|error| {
        Trouble::Answer(format!(
            "cannot be asked: no HTTP client ({})",
            cause(&error)
        ))
    })?;
    Ok(cell.get_or_init(|| client))
}

async fn answer(request: reqwest::RequestBuilder, stall: Duration) -> Result<Response, Trouble> {
    match tokio::time::timeout(stall, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            let problem = if error.is_timeout() {
                "cannot be reached in time".to_owned()
            } else if error.is_connect() {
                format!("cannot be reached ({})", cause(&error))
            } else {
                format!("gave no proper answer ({})", cause(&error))
            };
            Err(Trouble::Connection(problem, Some(error)))
        }
        Err(_) => Err(Trouble::Connection(
            format!("did not answer within {} s", seconds(stall)),
            None,
        )),
    }
}

async fn bounded(mut response: Response, limit: usize, stall: Duration) -> Result<Bytes, Trouble> {
    let mut body = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                let problem = format!("broke off its answer ({})", cause(&error));
                return Err(Trouble::Connection(problem, Some(error)));
            }
            Err(_) => {
                let problem = format!(
                    "sent nothing for {} s in the middle of its answer",
                    seconds(stall)
                );
                return Err(Trouble::Connection(problem, None));
            }
        };
        let Some(chunk) = chunk else {
            return Ok(body.into());
        };
        if body.len() + chunk.len() > limit {
            return Err(Trouble::Answer(format!(
                "sent more than {limit} bytes where a small document was due"
            )));
        }
        body.extend_from_slice(&chunk);
    }
}

/// What the registry says about its refusal, made safe to show.
async fn complaint(response: Response, stall: Duration) -> String {
    let Ok(body) = bounded(response, 64 << 10, stall).await else {
        return String::new();
    };
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return String::new();
    };
    let words = document["errors"][0]["message"]
        .as_str()
        .unwrap_or_default();
    words
        .chars()
        .filter(|character| !character.is_control())
        .take(200)
        .collect()
}

fn range_starts_at(response: &Response, offset: u64) -> bool {
    let stated = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    stated
        .and_then(|stated| stated.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .is_some_and(|start| start.trim().parse() == Ok(offset))
}

/// The innermost reason: the outer ones repeat the URL and say nothing.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if error.source().is_none() {
        error.to_string()
    } else {
        innermost.to_string()
    }
}

fn seconds(duration: Duration) -> f32 {
    duration.as_secs_f32()
}

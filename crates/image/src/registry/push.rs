//! What is written to a registry, and the list of what it has.
//!
//! Mirrors are never written to. A blob goes up in one request, a
//! large one from its file; that it
//! arrived is the registry's digest's business. Credentials go with an upload
//! only to the host that was asked for it.
//!
//! Protocol: the OCI distribution specification, "Pushing" and "Listing Tags".

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LINK, LOCATION};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};

use super::{MANIFEST_LIMIT, Role, Session, Trouble, bounded, client};
use crate::Error;
use crate::digest::Digest;

/// Pages of tags, each of as many as the registry likes.
const TAG_PAGES: usize = 100;
/// Bytes a second an upload must make.
const SLOWEST: u64 = 64 << 10;

impl Session {
    /// All tags, as the registry lists them; None when it has nothing of that
    /// name.
    pub(crate) async fn tags(&self) -> Result<Option<Vec<String>>, Error> {
        let mut tags = Vec::new();
        let mut path = "tags/list".to_owned();
        for _ in 0..TAG_PAGES {
            let (response, endpoint) = match self.ask(self.slack(0), &path, &Client::get).await {
                Ok(answered) => answered,
                Err((Trouble::Status(StatusCode::NOT_FOUND, _), _)) => return Ok(None),
                Err((trouble, _)) => return Err(self.explain(trouble, &self.registry)),
            };
            let next = next_page(&response, &self.url(endpoint, ""));
            let body = bounded(response, MANIFEST_LIMIT, self.options.deadlines.stall);
            let body = body
                .await
                .map_err(|trouble| self.explain(trouble, &self.registry))?;
            let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let page = document["tags"].as_array().into_iter().flatten();
            tags.extend(page.filter_map(|tag| tag.as_str().map(str::to_owned)));
            match next {
                Some(next) if tags.len() < 100_000 => path = next,
                _ => break,
            }
        }
        Ok(Some(tags))
    }

    /// Whether the registry has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let path = format!("blobs/{digest}");
        match self.ask(self.slack(0), &path, &Client::head).await {
            Ok(_) => Ok(true),
            Err((Trouble::Status(StatusCode::NOT_FOUND, _), _)) => Ok(false),
            Err((trouble, _)) => Err(self.explain(trouble, &self.registry)),
        }
    }

    /// Sends a blob, unless it is there.
    pub(crate) async fn push_blob(&self, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let body = || Ok(Body::from(bytes.clone()));
        self.send_blob(&digest, bytes.len() as u64, &body).await?;
        Ok(digest)
    }

    /// Sends a file's content as a blob, unless it is there.
    pub(crate) async fn push_file(
        &self,
        path: &Path,
        digest: &Digest,
        bytes: u64,
    ) -> Result<(), Error> {
        let body = || {
            let file = tokio::fs::File::from_std(std::fs::File::open(path)?);
            let pieces = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
            Ok(Body::wrap_stream(pieces))
        };
        self.send_blob(digest, bytes, &body).await
    }

    async fn send_blob(
        &self,
        digest: &Digest,
        bytes: u64,
        body: &(dyn Fn() -> std::io::Result<Body> + Sync),
    ) -> Result<(), Error> {
        if self.has_blob(digest).await? {
            return Ok(());
        }
        let explain = |trouble| self.explain(trouble, &self.registry);
        let begun = self.ask(self.slack(0), "blobs/uploads/", &Client::post);
        let (begun, endpoint) = begun.await.map_err(|(trouble, _)| explain(trouble))?;
        let place = begun
            .headers()
            .get(LOCATION)
            .and_then(|place| place.to_str().ok())
            .and_then(|place| begun.url().join(place).ok());
        let mut place = place.ok_or_else(|| {
            explain(Trouble::Answer(
                "took an upload but does not say where it goes".to_owned(),
            ))
        })?;
        place
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let foreign = place.host_str() != begun.url().host_str()
            || place.port_or_known_default() != begun.url().port_or_known_default();
        let deadline = self.slack(bytes);
        let sent = if foreign {
            let request = upload(
                client(false, &self.options).map_err(explain)?,
                place,
                bytes,
                body,
            );
            super::answer(request, deadline)
                .await
                .and_then(|response| match response.status() {
                    status if status.is_success() => Ok(response),
                    status => Err(Trouble::Status(status, String::new())),
                })
        } else {
            let make = |client: &Client| upload(client, place.clone(), bytes, body);
            self.call(endpoint, deadline, &make).await
        };
        sent.map_err(explain)?;
        Ok(())
    }

    /// Gives a manifest a name; what it names must be there.
    pub(crate) async fn push_manifest(
        &self,
        name: &str,
        media_type: &'static str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let path = format!("manifests/{name}");
        let put = |client: &Client, url: String| {
            client
                .put(url)
                .header(CONTENT_TYPE, HeaderValue::from_static(media_type))
                .body(bytes.clone())
        };
        self.ask(self.slack(bytes.len() as u64), &path, &put)
            .await
            .map(|_| ())
            .map_err(|(trouble, _)| self.explain(trouble, &self.registry))
    }

    fn slack(&self, bytes: u64) -> Duration {
        self.options.deadlines.request + Duration::from_secs(bytes / SLOWEST)
    }

    /// Asks the registry itself; without TLS and then with it, where that is
    /// to be found out.
    async fn ask(
        &self,
        deadline: Duration,
        path: &str,
        make: &(dyn Fn(&Client, String) -> RequestBuilder + Sync),
    ) -> Result<(Response, usize), (Trouble, usize)> {
        let mut trouble = (Trouble::Answer("has no endpoint".to_owned()), 0);
        for (endpoint, place) in self.endpoints.iter().enumerate() {
            if place.role == Role::Mirror {
                continue;
            }
            let url = self.url(endpoint, path);
            let ask = |client: &Client| make(client, url.clone());
            match self.call(endpoint, deadline, &ask).await {
                Ok(response) => return Ok((response, endpoint)),
                Err(found) => {
                    let without_tls = matches!(
                        found,
                        Trouble::Connection(..) | Trouble::Status(StatusCode::BAD_REQUEST, _)
                    );
                    // The first answer of a registry says most.
                    if place.role == Role::Registry || matches!(trouble.0, Trouble::Status(..)) {
                        trouble = (found, endpoint);
                    }
                    if !without_tls {
                        break;
                    }
                }
            }
        }
        Err(trouble)
    }
}

fn upload(
    client: &Client,
    place: reqwest::Url,
    bytes: u64,
    body: &(dyn Fn() -> std::io::Result<Body> + Sync),
) -> RequestBuilder {
    // What cannot be opened any more is sent as nothing, which no registry takes for the blob.
    let body = body().unwrap_or_default();
    client
        .put(place)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, bytes)
        .body(body)
}

/// The path of the next page, which must be this repository's.
fn next_page(response: &Response, base: &str) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (place, rest) = link.strip_prefix('<')?.split_once('>')?;
    if !rest.contains("rel=\"next\"") && !rest.contains("rel=next") {
        return None;
    }
    let next = response.url().join(place).ok()?;
    next.as_str().strip_prefix(base).map(str::to_owned)
}

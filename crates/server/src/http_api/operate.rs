//! Operations: what a method on a path does to resources.

use super::Handler;
use super::accept::Form;
use super::answers::{Body, answer, respond, streamed};
use super::encoding::Ends;
use crate::body;
use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kind;
use crate::managed;
use crate::request::{Query, continue_token};
use crate::resources::{Listed, Patch, Target, WriteOptions};
use crate::stored::{self, Outline, Versioned};
use crate::table::{headings, partial, read_by, row, table};
use crate::watching::{self, WatchOptions};
use boatyard_api::rules::FieldError;
use boatyard_store::Item;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

impl Handler {
    /// Whether a watch begins with what there is.
    pub(super) fn begins_with_all(query: &Query) -> bool {
        match query.get("sendInitialEvents") {
            "" => matches!(query.get("resourceVersion"), "" | "0"),
            _ => query.flag("sendInitialEvents"),
        }
    }

    /// Options and object of a write.
    pub(super) async fn object(
        query: &Query,
        request: Request<Bytes>,
        of: &str,
    ) -> Result<(WriteOptions, Value), Failure> {
        let mut options = options(query, request.headers(), of)?;
        let (headers, body) = Self::body(request).await?;
        let parsed = body::parse(&headers, &body)?;
        options.duplicates = parsed.duplicates;
        Ok((options, parsed.value))
    }

    async fn deletion(
        query: &Query,
        request: Request<Bytes>,
    ) -> Result<deletion::Options, Failure> {
        let (headers, body) = Self::body(request).await?;
        deletion::Options::parse(query, &headers, &body)
    }

    pub(super) async fn operate(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        if target.subresource == "scale" {
            return self.scale(caller, target, query, request).await;
        }
        let rows = query.rows()?;
        let shown = |object: Value| match form {
            Form::Whole => object,
            Form::Partial => partial(object),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let now = self.resources.now();
                table(target.kind, vec![object], &metadata, now, true, rows)
            }
        };
        let written_as = (form != Form::Whole).then_some(shown);
        let method = request.method().clone();
        match (method, target.name.is_empty()) {
            (Method::GET, false) => Ok(respond(
                StatusCode::OK,
                &shown(self.resources.get(caller, "get", target).await?),
            )),
            (Method::GET, true) => self.list(caller, target, query, form).await,
            (Method::POST, true) => {
                let (options, object) = Self::object(query, request, "CreateOptions").await?;
                let written = self
                    .resources
                    .create(caller, target, object, &options)
                    .await?;
                answer(written, written_as)
            }
            (Method::PUT, false) => {
                let (options, object) = Self::object(query, request, "UpdateOptions").await?;
                let written = self
                    .resources
                    .update(caller, target, object, &options)
                    .await?;
                answer(written, written_as)
            }
            (Method::PATCH, false) => {
                let mut options = options(query, request.headers(), "PatchOptions")?;
                let (headers, body) = Self::body(request).await?;
                let patch = patch(target.kind, query, &headers, &body, &mut options)?;
                let written = self
                    .resources
                    .patch(caller, target, &patch, &options)
                    .await?;
                answer(written, written_as)
            }
            (Method::DELETE, false) => {
                let options = Self::deletion(query, request).await?;
                let (object, gone) = self.resources.delete(caller, target, &options).await?;
                if !gone {
                    return Ok(respond(StatusCode::OK, &shown(object)));
                }
                let details = json!({"name": target.name, "group": target.kind.group, "kind": target.kind.plural, "uid": object["metadata"]["uid"]});
                Ok(respond(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
                ))
            }
            (Method::DELETE, true) => {
                self.resources
                    .authorize(caller, "deletecollection", target, None, None)?;
                if !target.kind.verbs().contains(&"deletecollection") {
                    return Err(Failure::method());
                }
                let (selection, page) = (query.selection(target.kind)?, query.page()?);
                let options = Self::deletion(query, request).await?;
                let listed = self
                    .resources
                    .list(caller, target, &selection, &page)
                    .await?;
                for item in &listed.items {
                    let key = item.key();
                    let one = Target {
                        namespace: &key.namespace,
                        name: &key.name,
                        ..target.clone()
                    };
                    let deleted = self.resources.delete(caller, &one, &options).await;
                    // Gone meanwhile is as good.
                    deleted.map(drop).or_else(|failure| match failure.code {
                        StatusCode::NOT_FOUND => Ok(()),
                        _ => Err(failure),
                    })?;
                }
                Ok(whole(target.kind, listed))
            }
            _ => Err(Failure::method()),
        }
    }

    async fn list(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
    ) -> Result<Response<Body>, Failure> {
        let (selection, page) = (query.selection(target.kind)?, query.page()?);
        let listed = self
            .resources
            .list(caller, target, &selection, &page)
            .await?;
        if let Some(total) = listed.total {
            let resource = target.kind.resource();
            self.flow.learn(&resource, target.namespace, total);
        }
        let metadata = about(&listed);
        let kinds = self.resources.kinds.clone();
        match form {
            Form::Whole => Ok(whole(target.kind, listed)),
            Form::Partial => {
                let head = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata});
                let outline = Outline::of(["metadata"]);
                let written = move |item: Item, part: &mut Vec<u8>| {
                    let object = outline.object(&item.stored()).unwrap_or_default();
                    append(&partial(object), part);
                };
                Ok(parts(stored::list(&head, "items", listed.items, written)))
            }
            Form::Table => {
                let (rows, now) = (query.rows()?, self.resources.now());
                let head = headings(target.kind, &metadata);
                let (kind, outline) = (kinds.number(target.kind), read_by(target.kind, rows));
                let written = move |item: Item, part: &mut Vec<u8>| {
                    let object = outline.object(&item.stored()).unwrap_or_default();
                    append(&row(kinds.numbered(kind), object, now, rows), part);
                };
                Ok(parts(stored::list(&head, "rows", listed.items, written)))
            }
        }
    }

    pub(super) async fn watch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
    ) -> Result<Response<Body>, Failure> {
        let timeout = match query.get("timeoutSeconds") {
            "" | "0" => None,
            text => Some(Duration::from_secs(text.parse().map_err(|_| {
                Failure::bad_request(format!("timeoutSeconds {text:?} is no number"))
            })?)),
        };
        let initial_events = query.flag("sendInitialEvents");
        let unversioned = matches!(query.get("resourceVersion"), "" | "0");
        query.check_versions()?;
        let options = WatchOptions {
            from: query.revision("resourceVersion")?,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout,
            initial: initial_events || (unversioned && query.get("sendInitialEvents") != "false"),
            initial_bookmark: initial_events && query.flag("allowWatchBookmarks"),
            form,
            rows: query.rows()?,
        };
        let selection = query.selection(target.kind)?;
        let watches = self.flow.watches.take(&caller.user, 1);
        let held = watches.ok_or_else(|| {
            Failure::too_many(
                "too many watches are open; close some, or watch whole collections",
                5,
            )
        })?;
        let stream = watching::open(
            &self.resources,
            caller,
            target,
            selection,
            options,
            self.shutdown.clone(),
        )
        .await?;
        // Counted until the stream is dropped.
        let lines = stream.map(move |line| {
            let _counted = &held;
            let Ok(line) = line;
            line
        });
        Ok(streamed("application/json", lines))
    }
}

/// Options of a write; `of` is their kind.
pub(super) fn options(
    query: &Query,
    headers: &HeaderMap,
    of: &str,
) -> Result<WriteOptions, Failure> {
    let mut options = query.write_options()?;
    let named = query.get("fieldManager");
    managed::check_name(named, of)?;
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    options.manager = match named {
        "" => managed::from_agent(agent.unwrap_or_default()),
        named => named.to_owned(),
    };
    if options.manager.is_empty() {
        options.manager = "unknown".to_owned();
    }
    Ok(options)
}

/// Whether an apply takes what others own; other patches cannot ask for it.
fn force(query: &Query, media: &str) -> Result<bool, Failure> {
    let wrong = |error| Failure::invalid("PatchOptions", "meta.k8s.io", "", &[error]);
    let asked = match query.get("force") {
        "" => None,
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        other => {
            return Err(Failure::bad_request(format!(
                "force {other:?} is not true or false"
            )));
        }
    };
    let applies = media == body::APPLY;
    if asked.is_some() && !applies {
        let detail = "may not be specified for non-apply patch";
        return Err(wrong(FieldError::forbidden("force", detail)));
    }
    if applies && query.get("fieldManager").is_empty() {
        let detail = "is required for apply patch";
        return Err(wrong(FieldError::required("fieldManager", detail)));
    }
    Ok(asked.unwrap_or_default())
}

/// The metadata of a list.
fn about(listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.revision.0.to_string()});
    if let Some(next) = &listed.next {
        metadata["continue"] = json!(continue_token(Some(listed.revision), next));
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    metadata
}

/// A list of whole objects.
fn whole(kind: &Kind, listed: Listed) -> Response<Body> {
    let head = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": about(&listed)});
    let written = |item: Item, part: &mut Vec<u8>| {
        let stored = item.stored();
        match Versioned::new(stored.data.clone(), stored.revision) {
            Ok(object) => object.write(part),
            Err(_) => append(&Value::Null, part),
        }
    };
    parts(stored::list(&head, "items", listed.items, written))
}

/// A list that is written out an item at a time.
fn parts(parts: impl Iterator<Item = Bytes> + Send + 'static) -> Response<Body> {
    let mut response = streamed("application/json", futures::stream::iter(parts));
    response.extensions_mut().insert(Ends);
    response
}

fn append(value: &Value, part: &mut Vec<u8>) {
    // A tree of JSON and memory have nothing to fail at.
    drop(serde_json::to_writer(part, value));
}

pub(super) fn patch(
    kind: &Kind,
    query: &Query,
    headers: &HeaderMap,
    bytes: &[u8],
    options: &mut WriteOptions,
) -> Result<Patch, Failure> {
    let allowed = if kind.strategic {
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml or application/strategic-merge-patch+json"
    } else {
        "application/json-patch+json, application/merge-patch+json or application/apply-patch+yaml"
    };
    let media = body::media_type(headers);
    let known = match media {
        "application/merge-patch+json" | "application/json-patch+json" | body::APPLY => true,
        "application/strategic-merge-patch+json" => kind.strategic,
        _ => false,
    };
    if !known {
        return Err(Failure::media_type(media, allowed));
    }
    let force = force(query, media)?;
    let body::Parsed { value, duplicates } = body::parse(headers, bytes)?;
    options.duplicates = duplicates;
    if media != "application/json-patch+json" {
        if !value.is_object() {
            return Err(Failure::bad_request("the patch is not an object"));
        }
        if media == body::APPLY {
            return Ok(Patch::Apply(value, force));
        }
        let strategic = media != "application/merge-patch+json";
        return Ok(if strategic {
            Patch::Strategic(value)
        } else {
            Patch::Merge(value)
        });
    }
    if value.as_array().is_some_and(|list| list.len() > 10_000) {
        return Err(Failure::too_large(10_000));
    }
    serde_json::from_value(value)
        .map(Patch::Json)
        .map_err(|error| Failure::bad_request(format!("the body is no JSON patch: {error}")))
}

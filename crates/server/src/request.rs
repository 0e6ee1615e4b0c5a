//! What a request asks for: its path and its query, parsed once.
//!
//! Paths are Kubernetes's: `/api/v1/…` and `/apis/<group>/<version>/…`, a namespace, a plural, a
//! name, a subresource. Nothing here knows which kinds there are.

use crate::failure::Failure;
use crate::kinds::Kind;
use crate::resources::{FieldValidation, PageRequest, Selection, WriteOptions};
use crate::selectors::{Fields, Labels};
use crate::table::Rows;
use boatyard_api::rules::FieldError;
use boatyard_store::{Key, Revision};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

pub(crate) fn parse_path(path: &str) -> Option<Path> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    // An empty segment would read as an absent one, `..` as another path.
    let decoded: Option<Vec<String>> = path
        .split('/')
        .map(|part| percent_decode(part).filter(|part| !["", ".", ".."].contains(&part.as_str())))
        .collect();
    let decoded = decoded?;
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, more @ ..]
            if !matches!(*plural, "status" | "finalize") =>
        {
            (*namespace, [&[*plural], more].concat())
        }
        rest => ("", rest.to_vec()),
    };
    let mut rest = rest.into_iter();
    let mut take = || rest.next().unwrap_or_default().to_owned();
    let (plural, name, subresource) = (take(), take(), take());
    let more = rest.next().is_some();
    (!plural.is_empty() && !more).then(|| Path {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        plural,
        name,
        subresource,
    })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Query parameters; the first of a name counts.
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let mut parameters = HashMap::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                percent_decode(&text.replace('+', " "))
                    .ok_or_else(|| Failure::bad_request("the query is not UTF-8"))
            };
            parameters.entry(decode(name)?).or_insert(decode(value)?);
        }
        Ok(Self(parameters))
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }

    pub(crate) fn revision(&self, name: &str) -> Result<Option<Revision>, Failure> {
        match self.get(name) {
            "" | "0" => Ok(None),
            text => text
                .parse()
                .map(|number| Some(Revision(number)))
                .map_err(|_| {
                    Failure::bad_request(format!(
                        "{name} {text:?} is no resource version of this server"
                    ))
                }),
        }
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, Failure> {
        let validation = match self.get("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                return Err(Failure::bad_request(format!(
                    "fieldValidation {other:?} is not Ignore, Warn or Strict"
                )));
            }
        };
        match self.get("dryRun") {
            dry_run @ ("" | "All") => Ok(WriteOptions {
                dry_run: dry_run == "All",
                validation,
                ..WriteOptions::default()
            }),
            other => Err(Failure::bad_request(format!("dryRun {other:?} is not All"))),
        }
    }

    pub(crate) fn selection(&self, kind: &Kind) -> Result<Selection, Failure> {
        Ok(Selection {
            labels: Labels::parse(self.get("labelSelector"))?,
            fields: Fields::parse(self.get("fieldSelector"), &kind.selectable)?,
        })
    }

    /// What rows of a Table carry of their objects.
    pub(crate) fn rows(&self) -> Result<Rows, Failure> {
        match self.get("includeObject") {
            "" | "Metadata" => Ok(Rows::Metadata),
            "Object" => Ok(Rows::Object),
            "None" => Ok(Rows::None),
            other => Err(Failure::bad_request(format!(
                "includeObject {other:?} is not None, Metadata or Object"
            ))),
        }
    }

    /// Which parameters of versions go together, as Kubernetes has it: clients switch on the
    /// refusal (422) to leave out what an older server does not know.
    pub(crate) fn check_versions(&self) -> Result<(), Failure> {
        let (version, token) = (self.get("resourceVersion"), self.get("continue"));
        let (watch, matching) = (self.flag("watch"), self.get("resourceVersionMatch"));
        let initial = !self.get("sendInitialEvents").is_empty();
        let mut errors = Vec::new();
        let mut forbidden = |path: &str, why: &str| errors.push(FieldError::forbidden(path, why));
        let path = "resourceVersionMatch";
        if watch {
            if initial && matching != "NotOlderThan" {
                forbidden(
                    path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            if !initial && !matching.is_empty() {
                forbidden(
                    path,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
        } else {
            if initial {
                forbidden(
                    "sendInitialEvents",
                    "sendInitialEvents is forbidden for list",
                );
            }
            if !matching.is_empty() && version.is_empty() {
                forbidden(
                    path,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if matching == "Exact" && version == "0" {
                forbidden(
                    path,
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if !matching.is_empty() && !token.is_empty() {
            forbidden(
                path,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        let known = if watch {
            &["NotOlderThan"][..]
        } else {
            &["Exact", "NotOlderThan"]
        };
        if !matching.is_empty() && !known.contains(&matching) {
            errors.push(FieldError::unsupported(path, matching, known));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid("ListOptions", "meta.k8s.io", "", &errors))
    }

    pub(crate) fn page(&self) -> Result<PageRequest, Failure> {
        let limit = match self.get("limit") {
            "" | "0" => None,
            text => Some(
                text.parse()
                    .map_err(|_| Failure::bad_request(format!("limit {text:?} is no number")))?,
            ),
        };
        let mut page = PageRequest {
            limit,
            ..PageRequest::default()
        };
        self.check_versions()?;
        let (token, version) = (self.get("continue"), self.get("resourceVersion"));
        if token.is_empty() {
            let revision = self.revision("resourceVersion")?;
            // Pages that name a version and not how it binds are of exactly that version.
            let exact = match self.get("resourceVersionMatch") {
                "" => page.limit.is_some(),
                word => word == "Exact",
            };
            if exact {
                page.at = revision;
            } else {
                page.not_before = revision;
            }
            return Ok(page);
        }
        if !matches!(version, "" | "0") {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let bad = || Failure::bad_request("the continue token is malformed; list again without it");
        let token =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token)
                .map_err(|_| bad())?;
        let token: Value = serde_json::from_slice(&token).map_err(|_| bad())?;
        let text = |member: &str| token[member].as_str().map(str::to_owned).ok_or_else(bad);
        // Without a version it goes on with things as they are now.
        page.at = match &token["at"] {
            Value::Null => None,
            at => Some(Revision(at.as_u64().ok_or_else(bad)?)),
        };
        page.after = Some(Key {
            resource: text("r")?,
            namespace: text("ns")?,
            name: text("n")?,
        });
        Ok(page)
    }
}

/// What leads to the rest of a list after a key, as it was at a revision or as it is by then.
pub(crate) fn continue_token(at: Option<Revision>, after: &Key) -> String {
    let token = json!({"at": at.map(|at| at.0), "r": after.resource, "ns": after.namespace, "n": after.name})
        .to_string();
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token)
}

//! Discovery: which groups, versions and resources there are, in every form clients ask for.
//!
//! Old clients read one document per group and version, new ones two documents with everything
//! (aggregated, in version v2 or v2beta1 of that form). All are made from one list of what is
//! served, once, and kept. Schemas are `openapi`'s.
//!
//! Read next: [`Resource`], `kept`.

mod kept;

pub(crate) use kept::Kept;

use crate::failure::Failure;
use crate::http_api::{Accept, Body};
use crate::kinds::{Kind, Kinds};
use crate::reviews::{REVIEWS, Review, VERSION};
use crate::streams::DOORS;
use http::{HeaderMap, Response};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

/// What can be done with objects of a kind.
pub(crate) const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// What can be done with a status.
pub(crate) const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The subresource whose objects are of a group of their own.
const SCALE: &str = "scale";
const SCALE_KIND: &str = "Scale";
const SCALE_GROUP: (&str, &str) = ("autoscaling", "v1");

/// One served resource, whether stored or answered.
#[derive(Debug)]
struct Resource<'a> {
    plural: &'a str,
    singular: &'a str,
    kind: &'a str,
    namespaced: bool,
    verbs: &'a [&'a str],
    short_names: &'a [String],
    categories: &'a [String],
    /// Name, kind and verbs of each.
    subresources: Vec<(&'a str, &'a str, &'a [&'a str])>,
}

impl<'a> Resource<'a> {
    fn stored(kind: &'a Kind) -> Self {
        let mut subresources = Vec::new();
        for door in DOORS.iter().filter(|door| door.opens(kind)) {
            subresources.push((door.name, kind.kind.as_str(), &["create"][..]));
        }
        if kind.has_status {
            subresources.push(("status", &kind.kind, &STATUS_VERBS[..]));
        }
        if kind.scale.is_some() {
            subresources.push((SCALE, SCALE_KIND, &STATUS_VERBS[..]));
        }
        if kind.behaviour.has_finalize() {
            subresources.push(("finalize", &kind.kind, &["update"][..]));
        }
        subresources.sort_unstable_by_key(|(name, ..)| *name);
        Self {
            plural: &kind.plural,
            singular: &kind.singular,
            kind: &kind.kind,
            namespaced: kind.namespaced,
            verbs: kind.verbs(),
            short_names: &kind.short_names,
            categories: &kind.categories,
            subresources,
        }
    }

    fn review(review: &'a Review) -> Self {
        Self {
            plural: review.plural,
            singular: review.singular,
            kind: review.kind,
            namespaced: review.namespaced,
            verbs: &["create"],
            short_names: &[],
            categories: &[],
            subresources: Vec::new(),
        }
    }

    /// As entries of an APIResourceList.
    fn entries(&self) -> Vec<Value> {
        let mut entry = json!({"name": self.plural, "singularName": self.singular, "namespaced": self.namespaced, "kind": self.kind, "verbs": self.verbs});
        self.names(&mut entry);
        let below = self.subresources.iter();
        let below = below.map(|(name, kind, verbs)| {
            let mut entry = json!({"name": format!("{}/{name}", self.plural), "singularName": "", "namespaced": self.namespaced, "kind": kind, "verbs": verbs});
            if *name == SCALE {
                (entry["group"], entry["version"]) = (SCALE_GROUP.0.into(), SCALE_GROUP.1.into());
            }
            entry
        });
        [entry].into_iter().chain(below).collect()
    }

    /// As an entry of an APIGroupDiscoveryList.
    fn aggregated(&self, group: &str, version: &str) -> Value {
        let kind = |kind: &str| json!({"group": group, "version": version, "kind": kind});
        let scope = if self.namespaced {
            "Namespaced"
        } else {
            "Cluster"
        };
        let mut entry = json!({"resource": self.plural, "responseKind": kind(self.kind), "scope": scope, "singularResource": self.singular, "verbs": self.verbs});
        self.names(&mut entry);
        let below = self.subresources.iter();
        let of = |name: &str, of: &str| match name {
            SCALE => json!({"group": SCALE_GROUP.0, "version": SCALE_GROUP.1, "kind": of}),
            _ => kind(of),
        };
        let below: Vec<Value> = below.map(|(name, kind, verbs)| json!({"subresource": name, "responseKind": of(name, kind), "verbs": verbs})).collect();
        if !below.is_empty() {
            entry["subresources"] = below.into();
        }
        entry
    }

    fn names(&self, entry: &mut Value) {
        for (member, names) in [
            ("shortNames", self.short_names),
            ("categories", self.categories),
        ] {
            if !names.is_empty() {
                entry[member] = json!(names);
            }
        }
    }
}

/// Versions of a group, the preferred one first, with their resources.
type Versions<'a> = Vec<(&'a str, Vec<Resource<'a>>)>;

/// Everything served, by group.
fn served(kinds: &Kinds) -> BTreeMap<&str, Versions<'_>> {
    let mut groups: BTreeMap<&str, Versions<'_>> = BTreeMap::new();
    let stored = kinds.iter().map(|kind| {
        let resource = Resource::stored(kind);
        (kind.group.as_str(), kind.version.as_str(), resource)
    });
    let reviews = REVIEWS.iter();
    let reviews = reviews.map(|review| (review.group, VERSION, Resource::review(review)));
    for (group, version, resource) in stored.chain(reviews) {
        let versions = groups.entry(group).or_default();
        match versions.iter_mut().find(|(known, _)| *known == version) {
            Some((_, resources)) => resources.push(resource),
            None => versions.push((version, vec![resource])),
        }
    }
    groups
}

/// `v1` of the core group, else `group/version`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Every discovery document.
#[derive(Debug)]
pub(crate) struct Documents {
    /// By path, without a slash at the end.
    plain: BTreeMap<String, Kept>,
    /// By path and version.
    aggregated: HashMap<(&'static str, &'static str), Kept>,
}

/// Media types of aggregated documents by version, the best first.
const AGGREGATED: [(&str, &str); 2] = [
    (
        "v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

impl Documents {
    /// What stands at a path.
    #[cfg(test)]
    pub(crate) fn plain(&self, path: &str) -> Value {
        let kept = self.plain.get(path).map(Kept::bytes);
        kept.and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default()
    }

    pub(crate) fn new(kinds: &Kinds) -> Self {
        let groups = served(kinds);
        let mut plain = BTreeMap::new();
        let mut keep = |path: String, value: &Value| {
            plain.insert(path, Kept::new("application/json", value.to_string()));
        };
        let mut list = Vec::new();
        for (group, versions) in &groups {
            for (version, resources) in versions {
                let entries: Vec<Value> = resources.iter().flat_map(Resource::entries).collect();
                let name = group_version(group, version);
                let root = if group.is_empty() { "/api" } else { "/apis" };
                keep(
                    format!("{root}/{name}"),
                    &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}),
                );
            }
            let named = |version: &str| json!({"groupVersion": group_version(group, version), "version": version});
            let named: Vec<Value> = versions.iter().map(|(version, _)| named(version)).collect();
            if group.is_empty() {
                let versions: Vec<&str> = versions.iter().map(|(version, _)| *version).collect();
                keep(
                    "/api".to_owned(),
                    &json!({"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": []}),
                );
                continue;
            }
            let mut about = json!({"name": group, "versions": named, "preferredVersion": named[0]});
            list.push(about.clone());
            about["kind"] = "APIGroup".into();
            about["apiVersion"] = "v1".into();
            keep(format!("/apis/{group}"), &about);
        }
        keep(
            "/apis".to_owned(),
            &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}),
        );
        let mut aggregated = HashMap::new();
        for (form, media) in AGGREGATED {
            for (path, core) in [("/api", true), ("/apis", false)] {
                let groups = groups.iter().filter(|(group, _)| group.is_empty() == core);
                let items: Vec<Value> = groups
                    .map(|(group, versions)| one(group, versions))
                    .collect();
                let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"), "metadata": {}, "items": items});
                aggregated.insert((path, form), Kept::new(media, document.to_string()));
            }
        }
        Self { plain, aggregated }
    }

    /// Paths there are.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.plain.keys().map(String::as_str)
    }

    /// The document at a path, in the form that is wanted.
    pub(crate) fn answer(
        &self,
        path: &str,
        accept: &Accept,
        headers: &HeaderMap,
    ) -> Option<Result<Response<Body>, Failure>> {
        let plain = self.plain.get(path)?;
        let chosen = accept.choose(|clause| {
            if !clause.takes("application/json") && !clause.takes("application/yaml") {
                return None;
            }
            if clause.get("as").is_none() {
                return Some(plain);
            }
            let mut forms = self.aggregated.iter();
            let (_, kept) = forms.find(|((known, form), _)| {
                *known == path && clause.asks("APIGroupDiscoveryList", "apidiscovery.k8s.io", form)
            })?;
            Some(kept)
        });
        Some(chosen.map(|kept| kept.answer(headers)))
    }
}

/// An APIGroupDiscovery.
fn one(group: &str, versions: &Versions<'_>) -> Value {
    let versions = versions.iter().map(|(version, resources)| {
        let resources: Vec<Value> = resources
            .iter()
            .map(|resource| resource.aggregated(group, version))
            .collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    });
    let mut metadata = Map::new();
    metadata.insert("creationTimestamp".to_owned(), Value::Null);
    if !group.is_empty() {
        metadata.insert("name".to_owned(), group.into());
    }
    json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
}

/// `/version`.
pub(crate) fn version() -> Value {
    // In Go's words.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // kubectl compares this with its own: the machinery's version, with ours beside it.
    json!({
        "major": "1", "minor": "36",
        "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": format!("v1.36.0+boatyard.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}

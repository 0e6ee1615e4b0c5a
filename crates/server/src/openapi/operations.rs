//! Paths and their operations, in OpenAPI 3: what is asked with which method and what is answered.
//!
//! Identifiers and actions are in Kubernetes's pattern, since generators of clients and kubectl's
//! checks of what a server can do read them.

use super::parameters::{self, deleting, deleting_many, listing, namespace, patching, writing};
use super::schemas::{Schemas, meta, name_of, name_of_review, refer};
use crate::kinds::Kind;
use crate::reviews::{Review, VERSION};
use crate::streams::DOORS;
use serde_json::{Map, Value, json};

const OBJECTS: [&str; 2] = ["application/json", "application/yaml"];

/// `boatyard.dev` is `BoatyardDev`, `coordination.k8s.io` is `Coordination`.
fn words(group: &str, version: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    group.split('.').chain([version]).map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The same schema in each of `media`.
fn content(media: &[&str], schema: &Value) -> Value {
    let content = media.iter();
    let content = content.map(|media| ((*media).to_owned(), json!({"schema": schema})));
    Value::Object(content.collect())
}

fn response(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": content(&OBJECTS, schema)})
}

/// One operation before it is written down.
struct Operation<'a> {
    id: String,
    action: &'a str,
    description: String,
    tag: String,
    kind: (&'a str, &'a str, &'a str),
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Vec<(&'a str, Value)>,
}

impl Operation<'_> {
    fn written(self) -> Value {
        let (group, version, kind) = self.kind;
        let mut responses = Map::new();
        for (code, response) in self.responses {
            responses.insert(code.to_owned(), response);
        }
        let status = meta("Status");
        responses.insert("401".to_owned(), response("Unauthorized", &status));
        responses.insert("default".to_owned(), response("What went wrong", &status));
        let mut operation = json!({
            "operationId": self.id, "description": self.description, "tags": [self.tag],
            "parameters": self.parameters, "responses": responses,
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }
}

/// The paths of a kind.
struct Paths<'a> {
    kind: &'a Kind,
    /// `CoordinationV1`.
    words: String,
    /// `Namespaced` or nothing.
    scoped: &'a str,
    schema: Value,
    list: Value,
}

/// Adds the list of a group's resources.
pub(super) fn of_group(paths: &mut Map<String, Value>, root: &str, group: &str, version: &str) {
    let status = meta("Status");
    let get = json!({
        "operationId": format!("get{}APIResources", words(group, version)), "tags": [tag(group, version)],
        "description": "The resources of this group and version.",
        "responses": {
            "200": response("OK", &meta("APIResourceList")),
            "401": response("Unauthorized", &status),
            "default": response("What went wrong", &status),
        },
    });
    paths.insert(format!("/{root}/"), json!({ "get": get }));
}

/// Adds what the server tells of itself.
pub(super) fn of_server(paths: &mut Map<String, Value>) {
    let version = refer("io.k8s.apimachinery.pkg.version.Info");
    let get = json!({
        "operationId": "getCodeVersion", "tags": ["version"], "description": "The version of the server.",
        "responses": {
            "200": response("OK", &version),
            "401": response("Unauthorized", &meta("Status")),
        },
    });
    paths.insert("/version/".to_owned(), json!({ "get": get }));
}

fn tag(group: &str, version: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    format!("{}_{version}", group.replace('.', "_"))
}

/// Adds the paths of a kind.
pub(super) fn of_kind(paths: &mut Map<String, Value>, root: &str, kind: &Kind, schemas: &Schemas) {
    let name = name_of(kind);
    let of = Paths {
        kind,
        words: words(&kind.group, &kind.version),
        scoped: if kind.namespaced { "Namespaced" } else { "" },
        schema: refer(&name),
        list: refer(&format!("{name}List")),
    };
    let (mut common, collection) = if kind.namespaced {
        let all = json!({"parameters": [parameters::pretty()], "get": of.list_all()});
        paths.insert(format!("/{root}/{}", kind.plural), all);
        let collection = format!("/{root}/namespaces/{{namespace}}/{}", kind.plural);
        (vec![namespace(), parameters::pretty()], collection)
    } else {
        (
            vec![parameters::pretty()],
            format!("/{root}/{}", kind.plural),
        )
    };
    let mut many = json!({"parameters": common, "get": of.list(), "post": of.create()});
    if kind.verbs().contains(&"deletecollection") {
        many["delete"] = of.delete_many();
    }
    paths.insert(collection.clone(), many);
    common.insert(0, parameters::name(&kind.kind));
    let one = format!("{collection}/{{name}}");
    let mut item = of.item("");
    item["delete"] = of.delete();
    item["parameters"] = json!(common);
    paths.insert(one.clone(), item);
    if kind.has_status && schemas.has_status(&name) {
        let mut item = of.item("Status");
        item["parameters"] = json!(common);
        paths.insert(format!("{one}/status"), item);
    }
    if kind.behaviour.has_finalize() {
        let mut put = of.operation(
            "replace",
            "Finalize",
            "put",
            "replace finalize of the specified",
        );
        put.parameters = writing();
        put.body = Some(of.object());
        put.responses = vec![("200", response("OK", &of.schema))];
        paths.insert(
            format!("{one}/finalize"),
            json!({"parameters": common, "put": put.written()}),
        );
    }
    for door in DOORS.iter().filter(|door| door.opens(kind)) {
        paths.insert(
            format!("{one}/{}", door.name),
            json!({"parameters": common, "post": of.door(door.name)}),
        );
    }
}

impl Paths<'_> {
    fn operation<'a>(
        &'a self,
        verb: &str,
        suffix: &str,
        action: &'a str,
        what: &str,
    ) -> Operation<'a> {
        let Kind {
            group,
            version,
            kind,
            ..
        } = self.kind;
        Operation {
            id: format!("{verb}{}{}{kind}{suffix}", self.words, self.scoped),
            action,
            description: format!("{what} {kind}"),
            tag: tag(group, version),
            kind: (group, version, kind),
            parameters: Vec::new(),
            body: None,
            responses: Vec::new(),
        }
    }

    fn listed(&self) -> Value {
        let mut listed = response("OK", &self.list);
        listed["content"]["application/json;stream=watch"] = json!({"schema": meta("WatchEvent")});
        listed
    }

    fn list(&self) -> Value {
        let mut operation = self.operation("list", "", "list", "list or watch objects of kind");
        operation.parameters = listing();
        operation.responses = vec![("200", self.listed())];
        operation.written()
    }

    fn list_all(&self) -> Value {
        let mut operation = self.operation(
            "list",
            "ForAllNamespaces",
            "list",
            "list or watch objects of kind",
        );
        operation.id = format!("list{}{}ForAllNamespaces", self.words, self.kind.kind);
        operation.parameters = listing();
        operation.responses = vec![("200", self.listed())];
        operation.written()
    }

    fn object(&self) -> Value {
        json!({"required": true, "content": content(&OBJECTS, &self.schema)})
    }

    fn create(&self) -> Value {
        let mut operation = self.operation("create", "", "post", "create a");
        operation.parameters = writing();
        operation.body = Some(self.object());
        operation.responses = vec![("201", response("Created", &self.schema))];
        operation.written()
    }

    fn delete_many(&self) -> Value {
        let mut operation =
            self.operation("delete", "", "deletecollection", "delete collection of");
        operation.id = format!(
            "delete{}Collection{}{}",
            self.words, self.scoped, self.kind.kind
        );
        operation.parameters = deleting_many();
        operation.body = Some(options());
        let answer = json!({"anyOf": [self.list, meta("Status")]});
        operation.responses = vec![("200", response("OK", &answer))];
        operation.written()
    }

    fn delete(&self) -> Value {
        let mut operation = self.operation("delete", "", "delete", "delete a");
        operation.parameters = deleting();
        operation.body = Some(options());
        // The object while it is held by finalizers.
        let answer = json!({"anyOf": [meta("Status"), self.schema]});
        operation.responses = vec![("200", response("OK", &answer))];
        operation.written()
    }

    /// What is done with one object, or with its status.
    fn item(&self, suffix: &str) -> Value {
        let what = |verb: &str| {
            let of = if suffix.is_empty() {
                "the specified"
            } else {
                "status of the specified"
            };
            format!("{verb} {of}")
        };
        let mut get = self.operation("read", suffix, "get", &what("read"));
        get.responses = vec![("200", response("OK", &self.schema))];
        let mut put = self.operation("replace", suffix, "put", &what("replace"));
        put.parameters = writing();
        put.body = Some(self.object());
        put.responses = vec![("200", response("OK", &self.schema))];
        let mut patch = self.operation("patch", suffix, "patch", &what("partially update"));
        patch.parameters = patching();
        let mut forms = content(
            &[
                "application/apply-patch+yaml",
                "application/merge-patch+json",
            ],
            &meta("Patch"),
        );
        if self.kind.strategic {
            forms["application/strategic-merge-patch+json"] = json!({"schema": meta("Patch")});
        }
        forms["application/json-patch+json"] = json!({"schema": refer("dev.boatyard.JSONPatch")});
        patch.body = Some(json!({"required": true, "content": forms}));
        patch.responses = vec![
            ("200", response("OK", &self.schema)),
            ("201", response("Created", &self.schema)),
        ];
        json!({"get": get.written(), "put": put.written(), "patch": patch.written()})
    }

    fn door(&self, name: &str) -> Value {
        let suffix = capital(name);
        if name == "token" {
            let mut operation = self.operation(
                "create",
                &suffix,
                "post",
                "make a fresh token for the specified",
            );
            let token = content(&OBJECTS[..1], &refer("dev.boatyard.Token"));
            operation.responses = vec![("200", json!({"description": "OK", "content": token}))];
            return operation.written();
        }
        let what = format!("open a stream to {name} of the specified");
        let mut operation = self.operation("connect", &suffix, "connect", &what);
        operation.responses = vec![("101", json!({"description": "Switching Protocols"}))];
        operation.written()
    }
}

fn options() -> Value {
    json!({"content": content(&OBJECTS, &meta("DeleteOptions"))})
}

/// Adds the path of a review.
pub(super) fn of_review(paths: &mut Map<String, Value>, root: &str, review: &Review) {
    let schema = refer(&name_of_review(review.group, review.kind));
    let scoped = if review.namespaced { "Namespaced" } else { "" };
    let operation = Operation {
        id: format!(
            "create{}{scoped}{}",
            words(review.group, VERSION),
            review.kind
        ),
        action: "post",
        description: format!("create a {}", review.kind),
        tag: tag(review.group, VERSION),
        kind: (review.group, VERSION, review.kind),
        parameters: writing(),
        body: Some(json!({"required": true, "content": content(&OBJECTS, &schema)})),
        responses: vec![("201", response("Created", &schema))],
    };
    let (path, common) = if review.namespaced {
        let path = format!("/{root}/namespaces/{{namespace}}/{}", review.plural);
        (path, vec![namespace(), parameters::pretty()])
    } else {
        (
            format!("/{root}/{}", review.plural),
            vec![parameters::pretty()],
        )
    };
    paths.insert(
        path,
        json!({"parameters": common, "post": operation.written()}),
    );
}

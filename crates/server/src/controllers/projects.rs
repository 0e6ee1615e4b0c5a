//! Counts the environments of each project, in its status.
//!
//! Keys are projects. The index knows which environment names which project.

use super::queue::Outcome;
use super::{Controller, Seen, found, kind, target};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::resources::{Patch, Resources, Target, WriteOptions};
use boatyard_store::Key;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

const ENVIRONMENTS: &str = "environments.boatyard.dev";
const PROJECTS: &str = "projects.boatyard.dev";

/// Counts environments.
pub(super) struct Projects {
    resources: Resources,
    caller: Caller,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// The project that an environment names; those that name none are left out.
    projects: HashMap<Key, Key>,
    /// How many environments name a project.
    counts: BTreeMap<Key, u32>,
}

impl Index {
    /// Notes what project an environment names now; what it named before.
    fn note(&mut self, environment: &Key, project: Option<Key>) -> Option<Key> {
        if let Some(project) = project.clone() {
            *self.counts.entry(project).or_default() += 1;
        }
        let before = match project {
            Some(project) => self.projects.insert(environment.clone(), project),
            None => self.projects.remove(environment),
        }?;
        let count = self.counts.get_mut(&before)?;
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&before);
        }
        Some(before)
    }
}

/// What decides of an environment.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Environment {
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    project_name: Option<String>,
}

impl Projects {
    pub(super) fn new(resources: Resources) -> Self {
        Self {
            resources,
            caller: Caller::internal("projects"),
            index: Mutex::default(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller for Projects {
    type Key = Key;

    fn name(&self) -> &'static str {
        "projects"
    }

    fn watched(&self) -> Vec<String> {
        vec![ENVIRONMENTS.to_owned(), PROJECTS.to_owned()]
    }

    fn observe(&self, seen: &Seen<'_>, wake: &mut dyn FnMut(Key)) {
        let key = seen.key();
        if key.resource == PROJECTS {
            return wake(key.clone());
        }
        let environment: Option<Environment> = seen
            .present()
            .and_then(|stored| serde_json::from_slice(&stored.data).ok());
        let project = environment.and_then(|environment| environment.spec.project_name);
        let project = project.map(|name| Key {
            resource: PROJECTS.to_owned(),
            namespace: key.namespace.clone(),
            name,
        });
        let before = self.index().note(key, project.clone());
        if before != project {
            before.into_iter().chain(project).for_each(wake);
        }
    }

    fn known(&self, resource: &str) -> Vec<Key> {
        let index = self.index();
        let environments = index.projects.keys();
        let known = environments.filter(|_| resource == ENVIRONMENTS);
        known.cloned().collect()
    }

    fn resync(&self, wake: &mut dyn FnMut(Key)) {
        self.index().counts.keys().cloned().for_each(wake);
    }

    async fn activate(&self, key: &Key) -> Result<Outcome, Failure> {
        let kind = kind(&self.resources, PROJECTS)?;
        let target = target(kind, &key.namespace, &key.name);
        let got = self.resources.get(&self.caller, "get", &target).await;
        let Some(project) = found(got)? else {
            return Ok(Outcome::Done);
        };
        let environments = self.index().counts.get(key).copied().unwrap_or_default();
        let status = json!({"observedGeneration": project["metadata"]["generation"], "environments": environments});
        if project["status"] == status {
            return Ok(Outcome::Done);
        }
        let target = Target {
            subresource: "status",
            ..target
        };
        let (patch, options) = (
            Patch::Merge(json!({ "status": status })),
            WriteOptions::default(),
        );
        let written = self
            .resources
            .patch(&self.caller, &target, &patch, &options);
        found(written.await.map(|written| written.object))?;
        Ok(Outcome::Done)
    }
}

//! The environment that a verb means: found by labels, id or folder.
//!
//! An environment that `up` makes is given the labels that identify it in its spec, and a hash of
//! them, which is its `devcontainerId`, as a label of the object. What is asked for by some of its
//! labels is found too, and what `boatyard up` made of a folder is found by the folder.

use super::args::Found;
use super::configuration::{self, Located};
use super::log::Log;
use crate::api;
use crate::args::Global;
use crate::connect;
use crate::failure::Failure;
use boatyard_api::Environment;
use boatyard_api::environment::Phase;
use boatyard_devcontainer::devcontainer_id;
use boatyard_link::client::Endpoint;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::io::AsyncReadExt;

/// Label of an environment: the hash of the labels that identify it.
pub(crate) const ID: &str = "boatyard.dev/devcontainer-id";
/// Annotation of an environment: the name of the Compose project it was made as.
pub(crate) const PROJECT: &str = "boatyard.dev/compose-project";
/// The reference's labels of a container, where none are given.
const FOLDER: &str = "devcontainer.local_folder";
const FILE: &str = "devcontainer.config_file";

/// A connection to the API.
pub(crate) struct Engine {
    pub(crate) endpoint: Endpoint,
    pub(crate) api: Api<Environment>,
    pub(crate) namespace: String,
}

/// What identifies an environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// Its id or name.
    pub(crate) id: Option<String>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The folder opened, where no labels were given.
    pub(crate) folder: Option<String>,
}

impl Identity {
    /// By labels as they were given, or those of folder and file.
    pub(crate) fn of(given: &[String], located: Option<&Located>) -> Self {
        if !given.is_empty() {
            return Self {
                labels: configuration::pairs(given),
                ..Self::default()
            };
        }
        let Some((folder, file)) =
            located.and_then(|located| Some((located.folder.as_ref()?, &located.file)))
        else {
            return Self::default();
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let labels = [(FOLDER, text(folder)), (FILE, text(file))];
        Self {
            id: None,
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
            folder: Some(text(folder)),
        }
    }

    /// As a verb that looks for an environment was told.
    pub(crate) fn found(found: &Found, located: Option<&Located>) -> Self {
        Self {
            id: found.container_id.clone(),
            ..Self::of(&found.chosen.id_label, located)
        }
    }

    fn is(&self, object: &Environment) -> bool {
        let own = labels(object);
        if !self.labels.is_empty()
            && self
                .labels
                .iter()
                .all(|pair| own.contains_key(pair.0) && own[pair.0] == *pair.1)
        {
            return true;
        }
        let opened = object
            .spec
            .source
            .folder
            .as_ref()
            .map(|folder| folder.opened());
        own.is_empty() && self.folder.is_some() && self.folder == opened
    }
}

/// The labels that identify an environment.
pub(crate) fn labels(object: &Environment) -> BTreeMap<String, String> {
    let devcontainer = object.spec.devcontainer.as_ref();
    devcontainer
        .map(|devcontainer| devcontainer.id_labels.clone())
        .unwrap_or_default()
}

/// Its id, which takes the place of a container's.
pub(crate) fn id(object: &Environment) -> String {
    object.uid().unwrap_or_default()
}

impl Engine {
    /// The server, started when it does not run.
    pub(crate) async fn reach(global: &Global) -> Result<Self, Failure> {
        let endpoint = connect::endpoint(global).await?;
        let api = api::environments(&endpoint.kube(), &global.namespace);
        Ok(Self {
            endpoint,
            api,
            namespace: global.namespace.clone(),
        })
    }

    /// The environment, if there is one; of several the newest.
    pub(crate) async fn find(&self, identity: &Identity) -> Result<Option<Environment>, Failure> {
        let list = async |params: ListParams| -> Result<Vec<Environment>, Failure> {
            let mut found = self.api.list(&params).await?.items;
            found.retain(|object| object.metadata.deletion_timestamp.is_none());
            found.sort_by_key(|object| object.creation_timestamp().map(|time| time.0));
            Ok(found)
        };
        if let Some(wanted) = &identity.id {
            let mut all = list(ListParams::default()).await?;
            all.retain(|object| {
                let id = id(object);
                object.name_any() == *wanted || wanted.len() >= 8 && id.starts_with(wanted)
            });
            return Ok(all.pop());
        }
        if identity.labels.is_empty() {
            return Ok(None);
        }
        let selector = format!("{ID}={}", devcontainer_id(&identity.labels));
        let exact = list(ListParams::default().labels(&selector)).await?.pop();
        if exact.is_some() {
            return Ok(exact);
        }
        let mut all = list(ListParams::default()).await?;
        all.retain(|object| identity.is(object));
        Ok(all.pop())
    }

    /// The environment, or the reference's sentence.
    pub(crate) async fn existing(&self, identity: &Identity) -> Result<Environment, Failure> {
        self.find(identity).await?.ok_or_else(|| {
            Failure::new("Dev container not found.").hint("make it with `devcontainer up`")
        })
    }

    /// Waits until it runs, starting it when it does not.
    pub(crate) async fn started(&self, object: &Environment) -> Result<Environment, Failure> {
        let name = object.name_any();
        let stopped = object.spec.state != boatyard_api::environment::WantedState::Running;
        let failed = object
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Phase::Failed);
        if stopped || failed {
            let mut change = serde_json::json!({"state": "Running"});
            if failed {
                change["restartedAt"] = crate::lifecycle::asked_now().into();
            }
            api::patch_spec(&self.api, &name, &change).await?;
        }
        let reached = api::follow(&self.api, &name, |object| match api::phase(object) {
            Some(Phase::Running) => Some(Ok(object.clone())),
            Some(Phase::Failed) => Some(Err(Failure::new(api::message(object)))),
            _ => None,
        });
        reached.await?.unwrap_or_else(|| {
            Err(Failure::new(format!(
                "environment {name} was deleted meanwhile"
            )))
        })
    }

    /// Shows what its builds and commands printed, as far as it can be had.
    pub(crate) async fn show_logs(&self, object: &Environment, log: &Log) {
        let path = crate::exec::path(&self.namespace, &object.name_any(), "log");
        let opened = self.endpoint.upgrade(&path, crate::exec::PROTOCOL).await;
        let Ok(mut stream) = opened else { return };
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = stream.read(&mut buffer).await {
            if length == 0 {
                return;
            }
            log.raw(&buffer[..length]);
        }
    }

    /// Stops it, and waits until it is.
    pub(crate) async fn stop(&self, object: &Environment) -> Result<(), Failure> {
        let name = object.name_any();
        api::patch_spec(&self.api, &name, &serde_json::json!({"state": "Stopped"})).await?;
        let stopped = api::follow(&self.api, &name, |object| {
            (api::phase(object) == Some(Phase::Stopped)).then_some(())
        });
        stopped.await.map(drop)
    }

    /// Deletes it, and waits until it is gone.
    pub(crate) async fn delete(&self, object: &Environment) -> Result<(), Failure> {
        let name = object.name_any();
        match self.api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let id = id(object);
        api::follow(&self.api, &name, |now| (self::id(now) != id).then_some(())).await?;
        Ok(())
    }
}

//! What the runner decided and did for an environment: `record.json`, and who has which slot.
//!
//! The record is the runner's memory across kills: it is replaced atomically, and made durable
//! before anything that must not be forgotten (the slot, which fixes the id range and address)
//! is used. What runs is not recorded but observed. A slot is free only when nothing of its
//! environment is left on disk, so that an id range is never reused while files with its ids
//! remain.

use crate::layout::{Layout, private_directory};
use boatyard_devcontainer::compose::ComposePlan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Uid of an Environment object: the name of its directory here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// Text that is no uid.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an environment's uid")]
pub struct BadUid(String);

impl TryFrom<String> for Uid {
    type Error = BadUid;
    fn try_from(text: String) -> Result<Self, BadUid> {
        let good = (8..=40).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase() || b == b'-')
            && !text.starts_with('-');
        if good {
            Ok(Self(text))
        } else {
            Err(BadUid(text))
        }
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl Uid {
    /// The uid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The runner's memory of one environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Namespace and name of the object, for messages.
    pub namespace: String,
    /// See `namespace`.
    pub name: String,
    /// Fixes the id range and the address.
    pub slot: u32,
    /// Bytes it may write, once its class said so.
    #[serde(default)]
    pub disk: Option<u64>,
    /// The source is in place.
    #[serde(default)]
    pub source: bool,
    /// The configuration, once read.
    #[serde(default)]
    pub configured: Option<Configured>,
    /// The image, once present.
    #[serde(default)]
    pub image: Option<ImageRecord>,
    /// The Compose project it is a service of, once planned.
    #[serde(default)]
    pub compose: Option<ComposePlan>,
    /// The project's other services by name: they keep their numbers.
    #[serde(default)]
    pub services: BTreeMap<String, ServiceRecord>,
    /// The run plan, once made.
    #[serde(default)]
    pub resolved: Option<Resolved>,
    /// How many times it was started.
    #[serde(default)]
    pub incarnation: u64,
    /// What of its class only a start takes, as the last start took it.
    #[serde(default)]
    pub class: Option<crate::resources::Fields>,
    /// Incarnation whose agent has the session's defaults.
    #[serde(default)]
    pub session_of: Option<u64>,
    /// Variables of sessions and lifecycle commands in that incarnation; None removes one.
    #[serde(default)]
    pub session_env: BTreeMap<String, Option<String>>,
    /// When the agent of the current incarnation first answered.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// `restartedAt` honoured last.
    #[serde(default)]
    pub restarted_at: Option<String>,
    /// Lifecycle commands that succeeded: name → incarnation.
    #[serde(default)]
    pub hooks: BTreeMap<String, u64>,
    /// Incarnation in which installing the dotfiles was last tried.
    #[serde(default)]
    pub dotfiles_tried: Option<u64>,
    /// The lifecycle command begun last and not known to have ended: a restarted runner finds it again.
    #[serde(default)]
    pub hook_run: Option<HookRun>,
    /// How many runs of lifecycle commands were begun.
    #[serde(default)]
    pub hook_runs: u64,
    /// Ids of the image and the developer that stand for each other.
    #[serde(default)]
    pub ids: Option<crate::ids::Ids>,
    /// Steps of this start.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// The last failure.
    #[serde(default)]
    pub failure: Option<FailureRecord>,
}

/// The devcontainer.json as read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configured {
    /// Path relative to the source, or None for the default configuration.
    pub path: Option<String>,
    /// Its text.
    pub text: Option<String>,
    /// Image it names, or the name of the one it has built.
    pub image: String,
    /// What builds it.
    #[serde(default)]
    pub dockerfile: Option<boatyard_devcontainer::DockerfileSource>,
}

/// The image as found.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// As the configuration names it.
    pub reference: String,
    /// Digest.
    pub digest: String,
    /// Layer directories, topmost first.
    pub layers: Vec<PathBuf>,
    /// Ids of the layers, for the collector.
    pub layer_ids: Vec<String>,
    /// Variables of the image.
    pub env: Vec<String>,
    /// User of the image.
    pub user: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What begins its command.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Its command, or what follows the entrypoint.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Where its command begins.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// How it says that its health is checked.
    #[serde(default)]
    pub healthcheck: Option<boatyard_devcontainer::build::Healthcheck>,
}

impl ImageRecord {
    /// Of an image that is present.
    #[must_use]
    pub fn of(reference: String, image: &boatyard_image::Image) -> ImageRecord {
        let config = &image.config;
        ImageRecord {
            reference,
            digest: image.digest.clone(),
            layers: image
                .layers
                .iter()
                .map(|layer| layer.directory.clone())
                .collect(),
            layer_ids: image
                .layers
                .iter()
                .map(|layer| layer.id.to_string())
                .collect(),
            env: config.env.clone(),
            user: config.user.clone(),
            labels: config.labels.clone(),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            working_dir: config.working_dir.clone(),
            healthcheck: config.healthcheck.clone(),
        }
    }

    /// Whether every layer is there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.layers.iter().all(|layer| layer.exists())
    }
}

/// A service beside the environment's own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecord {
    /// Names its sandbox and fixes its address.
    pub number: u32,
    /// Its image, once present.
    #[serde(default)]
    pub image: Option<ImageRecord>,
}

/// How to run it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The specification's run plan.
    pub plan: boatyard_devcontainer::RunPlan,
    /// User sessions run as.
    pub remote_user: String,
    /// Its user id on disk, which is the one inside unless [`Record::ids`] says otherwise.
    pub remote_uid: u32,
    /// Its primary group id, likewise.
    pub remote_gid: u32,
    /// Name of the user of the environment's own process.
    #[serde(default)]
    pub container_user: Option<String>,
    /// Its user and group id on disk.
    #[serde(default)]
    pub container_ids: (u32, u32),
}

/// A lifecycle command under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRun {
    /// Its name.
    pub hook: String,
    /// Number of the run, as the agent knows it.
    pub run: u64,
}

/// A step of bringing an environment up, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// Stable name.
    pub name: String,
    /// Begun.
    pub started_at: Timestamp,
    /// Milliseconds, once over.
    pub duration_millis: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
    /// One sentence.
    pub message: Option<String>,
}

/// A failure, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// Step that failed.
    pub step: String,
    /// Stable reason code.
    pub reason: String,
    /// One sentence naming the thing and the remedy.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Times in a row.
    pub count: u32,
    /// Whether trying again can help by itself.
    pub transient: bool,
}

/// First host id of all environments' ranges; far above ordinary users and /etc/subuid's defaults.
const ID_POOL_BASE: u32 = 0x1000_0000;
/// Most environments on one runner: what the address pool 10.213.0.0/16 holds.
const SLOTS: u32 = 15_000;

/// First host id of a slot's range.
#[must_use]
pub fn id_base(slot: u32) -> u32 {
    ID_POOL_BASE + slot * boatyard_sandbox::spec::ID_RANGE
}

/// Address of a slot, in 10.213.0.0/16.
#[must_use]
pub fn address(slot: u32) -> Ipv4Addr {
    let number = slot + 16;
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 213, high, low)
}

/// Environments that may have services: what the address pool 10.222.0.0/15 holds.
const SERVICE_SLOTS: u32 = 4096;

/// Address of a service beside the environment's own; None where the pool is too small.
#[must_use]
pub fn service_address(slot: u32, number: u32) -> Option<Ipv4Addr> {
    if slot >= SERVICE_SLOTS || !(1..32).contains(&number) {
        return None;
    }
    let [_, high, middle, low] = (slot * 32 + number).to_be_bytes();
    Some(Ipv4Addr::new(10, 222 + high, middle, low))
}

impl Record {
    /// Whether the images of the environment and of all its services are there.
    #[must_use]
    pub fn images_present(&self) -> bool {
        let others = self.compose.iter().flat_map(|plan| &plan.services);
        let others = others.filter(|service| Some(&service.name) != self.main_service());
        let mut images = others.map(|service| {
            let record = self.services.get(&service.name);
            record.and_then(|record| record.image.as_ref())
        });
        let there = |image: Option<&ImageRecord>| image.is_some_and(ImageRecord::is_present);
        there(self.image.as_ref()) && images.all(there)
    }

    /// Ids of the layers of all its images.
    #[must_use]
    pub fn layer_ids(&self) -> Vec<String> {
        let services = self.services.values();
        let images = services.filter_map(|service| service.image.as_ref());
        let ids = self
            .image
            .iter()
            .chain(images)
            .map(|image| &image.layer_ids);
        ids.flatten().cloned().collect()
    }

    /// Name of the service that is the environment itself.
    #[must_use]
    pub fn main_service(&self) -> Option<&String> {
        self.compose.as_ref().map(|plan| &plan.service)
    }

    /// Reads a record; None when there is none. A damaged record is an error that names the file.
    ///
    /// # Errors
    /// When the file cannot be read or is no record.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record atomically; `durable` waits until it is on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, durable: bool) -> std::io::Result<()> {
        let fresh = path.with_extension("json.new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&fresh, path)?;
        if durable && let Some(parent) = path.parent() {
            std::fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

/// Who has which slot. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Slots {
    first: u32,
    /// Where the number is kept that is given out next.
    next_file: PathBuf,
    state: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    slots: BTreeSet<u32>,
    /// Given out next, where it is free. What an environment wrote into a folder of its developer's
    /// stays there with ids of its range when it has gone: a range is given to another as late as
    /// possible.
    next: u32,
}

impl Slots {
    /// Reads which slots are taken, by environments and by trash not yet emptied. Slots below
    /// `first` belong to another runner on this host.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn read(layout: &Layout, first: u32) -> std::io::Result<Self> {
        let mut taken = BTreeSet::new();
        for directory in [layout.environments(), layout.trash()] {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path().join("record.json");
                match Record::read(&path) {
                    Ok(Some(record)) => drop(taken.insert(record.slot)),
                    Ok(None) => {}
                    Err(error) => {
                        taken.extend(slot_of_sandbox(&path));
                        tracing::error!(path = %path.display(), %error, "a damaged record: its environment stays untouched; restore the file or remove its directory")
                    }
                }
            }
        }
        let next_file = layout.next_slot();
        let next = match std::fs::read_to_string(&next_file) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self {
            first,
            next_file,
            state: Arc::new(Mutex::new(Taken { slots: taken, next })),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first free slot from `from` on, of those that may have services if there is one.
    fn take(&self, state: &mut Taken, from: u32) -> std::io::Result<u32> {
        let slot = (from.max(self.first)..SERVICE_SLOTS)
            .chain(self.first..SLOTS)
            .find(|slot| !state.slots.contains(slot));
        let slot = slot.ok_or_else(|| {
            std::io::Error::other("every slot of this runner is taken: remove environments")
        })?;
        state.slots.insert(slot);
        Ok(slot)
    }

    /// Takes the next free slot and makes the record that holds it durable.
    ///
    /// # Errors
    /// When all slots are taken or the record cannot be written.
    pub fn allocate(
        &self,
        layout: &Layout,
        uid: &Uid,
        namespace: &str,
        name: &str,
        disk: Option<u64>,
    ) -> std::io::Result<Record> {
        let slot = {
            let mut state = self.state();
            let next = state.next;
            let slot = self.take(&mut state, next)?;
            let fresh = self.next_file.with_extension("new");
            let written = std::fs::write(&fresh, format!("{}\n", slot + 1))
                .and_then(|()| std::fs::rename(&fresh, &self.next_file));
            if let Err(error) = written {
                state.slots.remove(&slot);
                return Err(error);
            }
            state.next = slot + 1;
            slot
        };
        let record = Record {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            slot,
            disk,
            source: false,
            configured: None,
            image: None,
            compose: None,
            services: BTreeMap::new(),
            resolved: None,
            incarnation: 0,
            class: None,
            session_of: None,
            session_env: BTreeMap::new(),
            started_at: None,
            restarted_at: None,
            hooks: BTreeMap::new(),
            dotfiles_tried: None,
            hook_run: None,
            hook_runs: 0,
            ids: None,
            steps: Vec::new(),
            failure: None,
        };
        let paths = layout.environment(uid);
        let written =
            private_directory(paths.root()).and_then(|()| record.write(&paths.record(), true));
        if let Err(error) = written {
            self.free(slot);
            return Err(error);
        }
        Ok(record)
    }

    /// Takes a slot for something that has no record: it is free again when the answer is dropped,
    /// or this process ends.
    ///
    /// # Errors
    /// When all slots are taken.
    pub fn borrow(&self) -> std::io::Result<Borrowed> {
        let slot = self.take(&mut self.state(), self.first)?;
        Ok(Borrowed {
            slots: self.clone(),
            slot,
        })
    }

    /// Frees a slot whose environment has nothing left on disk.
    pub fn free(&self, slot: u32) {
        self.state().slots.remove(&slot);
    }
}

/// The slot of what runs, or ran last, for the environment whose record this path was to be: its
/// sandbox knows its ids.
fn slot_of_sandbox(record: &Path) -> Option<u32> {
    #[derive(Deserialize)]
    struct Ids {
        id_base: u32,
    }
    let text = std::fs::read(record.with_file_name("run").join("spec.json")).ok()?;
    let ids: Ids = serde_json::from_slice(&text).ok()?;
    let offset = ids.id_base.checked_sub(ID_POOL_BASE)?;
    Some(offset / boatyard_sandbox::spec::ID_RANGE)
}

/// A slot without a record.
#[derive(Debug)]
pub struct Borrowed {
    slots: Slots,
    /// Its number.
    pub slot: u32,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.slots.free(self.slot);
    }
}

#[cfg(test)]
mod tests;

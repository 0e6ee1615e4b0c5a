//! Clears the runner's disk of cache that nobody uses, when it is full or the cache too large.
//!
//! Owns the loop that looks at the disk and what it counts. When and how much is `plan::garbage`'s,
//! what goes first the image store's; what an environment uses is read from the records, while
//! nobody can begin to hold an image ([`boatyard_image::Images::collect`]).
//!
//! Crash behaviour: nothing is kept; a killed collection leaves a smaller store, and the next start
//! looks again.

use crate::context::Context;
use crate::failure::Failed;
use crate::record::Record;
use boatyard_image::{LayerId, Pruned, Wanted};
use boatyard_plan::garbage::{Collection, Disk, Past, Reason, Settings, next};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What was collected since the runner's start, and the way to say that something was built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector(Arc<State>);

#[derive(Debug, Default)]
struct State {
    built: AtomicBool,
    full: Notify,
    collections: AtomicU64,
    layers: AtomicU64,
    images: AtomicU64,
    mounts: AtomicU64,
    bytes: AtomicU64,
    percent: AtomicU64,
}

impl Collector {
    /// Something was built: the cache is larger.
    pub(crate) fn built(&self) {
        self.0.built.store(true, Ordering::Relaxed);
    }

    /// Something found the disk full: it is looked at now.
    pub(crate) fn full(&self) {
        self.0.full.notify_one();
    }

    fn count(&self, pruned: &Pruned) {
        let add = |to: &AtomicU64, count: u64| to.fetch_add(count, Ordering::Relaxed);
        let state = &self.0;
        add(&state.collections, 1);
        add(&state.layers, pruned.layers as u64);
        add(&state.images, pruned.images as u64);
        add(&state.mounts, pruned.mounts as u64);
        add(&state.bytes, pruned.bytes);
    }

    /// As families of OpenMetrics.
    pub(crate) fn metrics(&self) -> String {
        let state = &self.0;
        let mut text = String::new();
        let percent = state.percent.load(Ordering::Relaxed);
        text.push_str(&format!(
            "# HELP boatyard_runner_disk_used_percent How full the state directory's file system is\n# TYPE boatyard_runner_disk_used_percent gauge\nboatyard_runner_disk_used_percent {percent}\n"
        ));
        for (name, help, value) in [
            ("collections", "Collections of garbage", &state.collections),
            ("layers", "Layers removed by them", &state.layers),
            ("images", "Names of images removed by them", &state.images),
            ("mounts", "Cache mounts removed by them", &state.mounts),
            ("bytes", "Bytes removed by them", &state.bytes),
        ] {
            let (name, value) = (
                format!("boatyard_runner_garbage_{name}"),
                value.load(Ordering::Relaxed),
            );
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {value}\n"
            ));
        }
        text
    }
}

/// Looks at the disk and clears it, until dropped.
pub(crate) async fn run(context: Context, settings: Settings) {
    let mut past = Past::default();
    let mut last = Instant::now();
    let mut told = false;
    loop {
        let state = &context.garbage.0;
        tokio::select! {
            () = tokio::time::sleep(settings.interval) => {}
            () = state.full.notified() => {}
        }
        let Some(disk) = look(context.layout.root()) else {
            continue;
        };
        state
            .percent
            .store(disk.percent().into(), Ordering::Relaxed);
        past.since = last.elapsed();
        past.built |= state.built.swap(false, Ordering::Relaxed);
        let Some(collection) = next(&settings, disk, past) else {
            continue;
        };
        let pruned = collect(&context, &settings, collection).await;
        last = Instant::now();
        let freed = pruned.map_or(0, |pruned| pruned.bytes);
        past = Past {
            since: Duration::ZERO,
            in_vain: collection.reason == Reason::Full && freed == 0,
            built: false,
        };
        let still = look(context.layout.root()).map_or(0, Disk::percent);
        let is_full = collection.reason == Reason::Full && still >= settings.high_percent;
        if is_full && !told {
            tracing::warn!(
                percent = still,
                path = %context.layout.root().display(),
                "the disk is nearly full, and nothing more on it is unused cache: delete environments or images, or make it larger"
            );
        }
        told = is_full;
    }
}

async fn collect(context: &Context, settings: &Settings, what: Collection) -> Option<Pruned> {
    let wanted = Wanted {
        cache_bytes: settings.cache_bytes,
        cache_age: settings.cache_age,
        image_age: settings.image_age,
        free: what.free,
        young: settings.min_age,
        partial: false,
    };
    let own = context.clone();
    let collected = context.blocking(move || own.images.collect(&wanted, || in_use(&own)));
    match collected.await {
        Ok(pruned) => {
            context.garbage.count(&pruned);
            if pruned != Pruned::default() {
                tracing::info!(
                    reason = ?what.reason,
                    layers = pruned.layers,
                    images = pruned.images,
                    mounts = pruned.mounts,
                    bytes = pruned.bytes,
                    "unused cache was removed"
                );
            }
            Some(pruned)
        }
        Err(error) => {
            tracing::warn!(
                error = error.message,
                "unused cache was not removed; the next look tries again"
            );
            None
        }
    }
}

/// How full the file system is that holds a path.
fn look(path: &Path) -> Option<Disk> {
    let there = rustix::fs::statvfs(path).ok()?;
    // Without the blocks that are kept for root, which nobody else can fill.
    let kept = there.f_bfree.saturating_sub(there.f_bavail);
    Some(Disk {
        bytes: there
            .f_blocks
            .saturating_sub(kept)
            .saturating_mul(there.f_frsize),
        free: there.f_bavail.saturating_mul(there.f_frsize),
    })
}

/// Layers of every environment on this runner: what must not be collected.
pub(crate) fn in_use(context: &Context) -> Result<Vec<LayerId>, Failed> {
    let directory = context.layout.environments();
    let mut layers = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(|error| Failed::disk(&directory, &error))? {
        let path = entry
            .map_err(|error| Failed::disk(&directory, &error))?
            .path()
            .join("record.json");
        let record = Record::read(&path).map_err(|error| {
            Failed::lasting(
                "RecordDamaged",
                format!(
                    "{} is damaged ({error}): its layers are unknown, so nothing is pruned",
                    path.display()
                ),
            )
        })?;
        let ids = record.map(|record| record.layer_ids()).unwrap_or_default();
        for id in ids {
            layers.push(LayerId::parse(&id).ok_or_else(|| {
                Failed::lasting(
                    "RecordDamaged",
                    format!("{} names a malformed layer", path.display()),
                )
            })?);
        }
    }
    Ok(layers)
}

//! Disk is finite: of what only might be of use again, what was used longest ago goes first.
//!
//! Candidates are names of images that can be had again (pulled ones, and those made up for
//! environments), entries of the cache of builds, and cache mounts. Never collected is what an
//! environment, an unfinished pull or build, or a name that a user gave holds: a user's own image
//! may exist nowhere else. A layer goes when nothing that stays names it. How much is to go, and
//! when, is not decided here.
//!
//! Crash behaviour: names and entries go before what they name, and a layer gets its grave by one
//! rename. Killed at any point, what is left is a smaller store, and the next collection or start
//! removes the rest; a name or entry whose layers are gone counts as none everywhere.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::build::{cache, mounts};
use crate::digest::Digest;
use crate::index::{Tag, Used};
use crate::layers::Staging;
use crate::{Error, Images, LayerId};

#[cfg(test)]
mod tests;

/// Bytes of layers and mounts that only the cache of builds keeps, unless somebody says otherwise.
pub const BUILD_CACHE: u64 = 20 << 30;
/// How long what only the cache of builds keeps, or a name that was made up for an environment,
/// stays without being used.
pub const CACHE_AGE: Duration = Duration::from_secs(7 * DAY);
/// The same of Features, templates and half-fetched blobs, which are small.
const SMALL_AGE: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;

/// What may stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes of what only the cache of builds keeps: those used last.
    pub cache_bytes: u64,
    /// How long that stays unused.
    pub cache_age: Duration,
    /// How long images that can be pulled again stay unused; None for as long as there is room.
    pub image_age: Option<Duration>,
    /// Bytes to be made free, whatever the age.
    pub free: u64,
    /// What was used within this time stays, whatever else is said: somebody is about to use it.
    pub young: Duration,
    /// Half-fetched blobs go too, which a next pull would have gone on from.
    pub partial: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            cache_bytes: BUILD_CACHE,
            cache_age: CACHE_AGE,
            image_age: None,
            free: 0,
            young: Duration::ZERO,
            partial: true,
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers.
    pub layers: usize,
    /// Names of images that can be had again.
    pub images: usize,
    /// Cache mounts.
    pub mounts: usize,
    /// Bytes of all of it.
    pub bytes: u64,
}

impl Images {
    /// Removes the layers that no tag, no unfinished pull or build, no step built lately and none
    /// of `in_use` names, and blobs that nobody is fetching. Blocking.
    ///
    /// # Errors
    /// Something cannot be removed; the rest was.
    pub fn prune(&self, in_use: &[LayerId]) -> Result<Pruned, Error> {
        self.prune_to(in_use, BUILD_CACHE)
    }

    /// The same with at most so many bytes that only the cache of builds keeps: those used last.
    ///
    /// # Errors
    /// As [`Images::prune`].
    pub fn prune_to(&self, in_use: &[LayerId], cache: u64) -> Result<Pruned, Error> {
        let wanted = Wanted {
            cache_bytes: cache,
            ..Wanted::default()
        };
        self.collect(&wanted, || Ok(in_use.to_vec()))
    }

    /// Removes what is not to stay. `in_use` is asked while nobody can begin to hold anything:
    /// what let go of an image before has by then written down that it uses it. Blocking.
    ///
    /// # Errors
    /// `in_use` fails: then nothing is removed. Something cannot be removed; the rest was.
    pub fn collect<E: From<Error>>(
        &self,
        wanted: &Wanted,
        in_use: impl FnOnce() -> Result<Vec<LayerId>, E>,
    ) -> Result<Pruned, E> {
        let inner = &self.inner;
        let mut pruned = Pruned::default();
        let mut graves = Vec::new();
        let mount_folder = inner.directory.join("build/mounts");
        // Measuring takes its time: before the gate.
        let mounted = mounts::idle(&mount_folder)?;
        {
            let _gate = inner.holds.gate()?;
            let now = inner.cache.clock()?;
            let mut used: HashSet<Digest> = inner.holds.held()?;
            used.extend(in_use()?.iter().map(|id| id.digest().clone()));
            let (again, own): (Vec<Tag>, Vec<Tag>) =
                inner.index.list()?.into_iter().partition(can_be_had_again);
            let mut documents = HashSet::new();
            let name = |tag: &Tag, used: &mut HashSet<Digest>| {
                used.extend(tag.layers.iter().map(|id| id.digest().clone()));
                used.insert(tag.manifest.clone());
                used.insert(tag.config.clone());
            };
            for tag in &own {
                name(tag, &mut used);
            }
            let mut candidates = Vec::new();
            for tag in again {
                candidates.push(Candidate {
                    used: inner.index.used(&tag.reference).unwrap_or_default(),
                    layers: tag.layers.iter().map(|id| id.digest().clone()).collect(),
                    bytes: 0,
                    kind: Kind::Name(tag),
                });
            }
            for entry in inner.cache.list()? {
                candidates.push(Candidate {
                    used: entry.used,
                    layers: entry.layer.iter().map(|id| id.digest().clone()).collect(),
                    bytes: 0,
                    kind: Kind::Step(entry),
                });
            }
            for mount in mounted {
                candidates.push(Candidate {
                    used: mount.used,
                    layers: Vec::new(),
                    bytes: mount.bytes,
                    kind: Kind::Mount(mount),
                });
            }
            let bytes = |digest: &Digest| {
                let id = LayerId::from(digest.clone());
                match inner.store.has(&id) {
                    true => inner.store.facts(&id).map_or(0, |facts| facts.bytes),
                    false => 0,
                }
            };
            let (stay, go) = choose(candidates, wanted, now, &used, &bytes);
            for Candidate { kind, bytes, .. } in go {
                match kind {
                    Kind::Name(tag) => {
                        inner.index.remove(&tag.reference)?;
                        pruned.images += 1;
                    }
                    Kind::Step(entry) => drop(std::fs::remove_file(&entry.path)),
                    Kind::Mount(mount) => {
                        if let Some(grave) = mount.bury(&inner.store)? {
                            graves.push(grave);
                            pruned.mounts += 1;
                            pruned.bytes += bytes;
                        }
                    }
                }
            }
            for Candidate { kind, layers, .. } in stay {
                used.extend(layers);
                if let Kind::Name(tag) = kind {
                    name(&tag, &mut documents);
                }
            }
            used.extend(documents);
            for id in inner.store.list()? {
                if used.contains(id.digest()) {
                    continue;
                }
                pruned.bytes += inner.store.facts(&id).map(|facts| facts.bytes).unwrap_or(0);
                pruned.layers += 1;
                graves.push(inner.store.bury(&id)?);
            }
            inner.index.prune_documents(&used)?;
            inner.store.prune_locks()?;
            if wanted.partial || wanted.free > 0 {
                pruned.bytes += crate::pull::prune_partial(inner)?;
            }
        }
        // The slow part, without keeping pulls waiting.
        drop::<Vec<Staging>>(graves);
        forget_small(&inner.directory);
        Ok(pruned)
    }
}

/// Something that might be of use again.
struct Candidate<T = Kind> {
    used: Used,
    layers: Vec<Digest>,
    /// Beside its layers'.
    bytes: u64,
    kind: T,
}

enum Kind {
    Name(Tag),
    Step(cache::Listed),
    Mount(mounts::Idle),
}

/// What decides about a candidate's age and size.
trait Ruled {
    /// How long it stays unused.
    fn age(&self, wanted: &Wanted) -> Option<Duration>;
    /// Whether it counts towards the cache's size.
    fn is_cache(&self) -> bool;
}

impl Ruled for Kind {
    fn age(&self, wanted: &Wanted) -> Option<Duration> {
        match self {
            Kind::Name(tag) if tag.pulled => wanted.image_age,
            _ => Some(wanted.cache_age),
        }
    }

    fn is_cache(&self) -> bool {
        !matches!(self, Kind::Name(_))
    }
}

/// Which candidates stay and which go, when `used` stays anyway.
fn choose<T: Ruled>(
    mut candidates: Vec<Candidate<T>>,
    wanted: &Wanted,
    now: i64,
    used: &HashSet<Digest>,
    bytes: &dyn Fn(&Digest) -> u64,
) -> (Vec<Candidate<T>>, Vec<Candidate<T>>) {
    let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let is_young = |one: &Candidate<T>| now - one.used.0 < seconds(wanted.young);
    // Newest first; of equal ones names first, which cost the cache nothing.
    candidates.sort_by_key(|one| (std::cmp::Reverse(one.used), one.kind.is_cache()));
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    let mut named: HashSet<Digest> = used.clone();
    let mut rest = Vec::new();
    for one in candidates {
        let age = one.kind.age(wanted);
        let is_old = age.is_some_and(|age| now - one.used.0 >= seconds(age));
        let is_in_use = !one.layers.is_empty()
            && !one.kind.is_cache()
            && one.layers.iter().all(|layer| used.contains(layer));
        match is_old && !is_young(&one) && !is_in_use {
            true => go.push(one),
            false => rest.push(one),
        }
    }
    for one in rest.iter().filter(|one| !one.kind.is_cache()) {
        named.extend(one.layers.iter().cloned());
    }
    let mut cache = 0u64;
    for one in rest {
        if one.kind.is_cache() {
            let fresh = one.layers.iter().filter(|layer| !named.contains(*layer));
            let more = fresh.map(bytes).sum::<u64>() + one.bytes;
            if cache.saturating_add(more) > wanted.cache_bytes && !is_young(&one) {
                go.push(one);
                continue;
            }
            cache = cache.saturating_add(more);
            named.extend(one.layers.iter().cloned());
        }
        stay.push(one);
    }
    if wanted.free == 0 {
        return (stay, go);
    }
    // What each would free if everything before it stayed and everything after it went.
    let mut named: HashSet<&Digest> = used.iter().collect();
    let mut own = Vec::new();
    for one in &stay {
        let fresh: Vec<&Digest> = one
            .layers
            .iter()
            .filter(|layer| named.insert(*layer))
            .collect();
        own.push(fresh.into_iter().map(bytes).sum::<u64>() + one.bytes);
    }
    let going: HashSet<&Digest> = go
        .iter()
        .flat_map(|one| &one.layers)
        .filter(|layer| !named.contains(*layer))
        .collect();
    let mut freed =
        going.into_iter().map(bytes).sum::<u64>() + go.iter().map(|one| one.bytes).sum::<u64>();
    let mut cut = stay.len();
    while freed < wanted.free && cut > 0 && !is_young(&stay[cut - 1]) {
        cut -= 1;
        freed += own[cut];
    }
    let behind = stay.split_off(cut);
    let mut named = used.clone();
    named.extend(stay.iter().flat_map(|one| one.layers.iter().cloned()));
    for one in behind {
        // What frees nothing by going stays: everything it names does.
        let frees = one.bytes > 0 || one.layers.iter().any(|layer| !named.contains(layer));
        match frees {
            true => go.push(one),
            false => stay.push(one),
        }
    }
    (stay, go)
}

/// Whether a tag is of an image that is fetched or built again when somebody wants it: one that was
/// pulled, or that was made up for an environment. A name of a user's own has a folder more.
fn can_be_had_again(tag: &Tag) -> bool {
    let name = tag.reference.to_string();
    let made_up = name
        .strip_prefix("boatyard.local/")
        .is_some_and(|rest| !rest.contains('/'));
    tag.pulled || made_up
}

/// Forgets small things that nobody used for long: what is lost costs fetching or reading again.
fn forget_small(images: &Path) {
    let folders = [
        ("artifacts/blobs", SMALL_AGE),
        ("artifacts/tags", SMALL_AGE),
        ("artifacts/folders", SMALL_AGE),
        ("build/digests", CACHE_AGE),
    ];
    for (name, age) in folders {
        let entries = std::fs::read_dir(images.join(name));
        for entry in entries.into_iter().flatten().flatten() {
            let old = entry
                .metadata()
                .and_then(|about| about.modified())
                .ok()
                .and_then(|used| used.elapsed().ok())
                .is_some_and(|unused| unused > age);
            let path = entry.path();
            let gone = match (old, path.is_dir()) {
                (false, _) => Ok(()),
                (true, true) => std::fs::remove_dir_all(&path),
                (true, false) => std::fs::remove_file(&path),
            };
            if let Err(error) = gone {
                tracing::info!(path = %path.display(), %error, "cannot be removed; the next collection tries again");
            }
        }
    }
}

//! Objects as memory holds them: what is not in use, compressed.
//!
//! Owns the two states of an object. A new one is [`State::Hot`], shared as it is by all who read
//! it; what nobody has asked for during a whole turn of [`sweep`] is [`State::Cold`]: its bytes
//! compressed against a dictionary of its resource's objects ([`Packer`]), which differ little, and
//! its key in parts that its neighbours share. Reading a cold object unpacks it for that reader
//! alone. What is read from the disk at start is packed at once. A resource of few objects has no
//! dictionary, and stays as it is.
//!
//! Nothing on disk or on the wire knows of it, and no reader: [`Held::stored`] gives what was put in.
//!
//! Crash behaviour: none, it is memory.
//!
//! Read next: `history`, which holds them, and docs/adr/2026-11-21-cold-objects.md.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, mpsc};
use std::time::Duration;

use zstd::zstd_safe::{self, CCtx, CDict, DCtx, DDict};

use crate::history::History;
use crate::{Key, Revision, Stored};

#[cfg(test)]
mod tests;

/// Objects of a resource from which on they are packed: the dictionary takes about as much as they.
const MANY: usize = 512;
/// Bytes of objects that a dictionary is made of.
const SAMPLES: usize = 16 << 10;
/// Fastest: a kind's objects are alike, and more effort finds little more.
const LEVEL: i32 = 1;
/// Smaller objects are not worth it.
const SMALL: usize = 128;

/// A key's parts, in the order of keys.
pub(crate) trait Keyed {
    fn parts(&self) -> (&str, &str, &str);
}

impl Keyed for Key {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.resource, &self.namespace, &self.name)
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Keyed + '_ {}

impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

/// A namespace's part of a resource.
#[derive(Debug)]
pub(crate) struct Place {
    resource: Box<str>,
    namespace: Box<str>,
    packer: Arc<Packer>,
}

impl Place {
    pub(crate) fn new(key: &Key, packer: &Arc<Packer>) -> Self {
        Self {
            resource: key.resource.as_str().into(),
            namespace: key.namespace.as_str().into(),
            packer: packer.clone(),
        }
    }
}

/// One version of an object.
pub(crate) struct Held {
    place: Arc<Place>,
    name: Box<str>,
    revision: u64,
    size: u32,
    state: Mutex<State>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.place.packer.held.fetch_sub(1, Relaxed);
    }
}

enum State {
    /// As it was put in, and whether it was asked for since the last sweep.
    Hot(Arc<Stored>, bool),
    Cold(Box<[u8]>),
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, namespace, name) = self.parts();
        write!(formatter, "{resource}/{namespace}/{name}@{}", self.revision)
    }
}

impl Keyed for Held {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.place.resource, &self.place.namespace, &self.name)
    }
}

impl Held {
    pub(crate) fn new(place: &Arc<Place>, stored: Arc<Stored>) -> Self {
        place.packer.held.fetch_add(1, Relaxed);
        Self {
            place: place.clone(),
            name: stored.key.name.as_str().into(),
            revision: stored.revision.0,
            size: u32::try_from(stored.data.len()).unwrap_or(u32::MAX),
            state: Mutex::new(State::Hot(stored, true)),
        }
    }

    pub(crate) fn key(&self) -> Key {
        let (resource, namespace, name) = self.parts();
        Key {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Of its data as it was put in.
    pub(crate) fn bytes(&self) -> u64 {
        self.size.into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was put in.
    pub(crate) fn stored(&self) -> Arc<Stored> {
        match &mut *self.state() {
            State::Hot(stored, used) => {
                *used = true;
                stored.clone()
            }
            State::Cold(packed) => Arc::new(self.unpacked(packed)),
        }
    }

    /// The same, kept as it is for those who ask next.
    pub(crate) fn warm(&self) -> Arc<Stored> {
        let mut state = self.state();
        let stored = match &*state {
            State::Hot(stored, _) => stored.clone(),
            State::Cold(packed) => Arc::new(self.unpacked(packed)),
        };
        *state = State::Hot(stored.clone(), true);
        stored
    }

    fn unpacked(&self, packed: &[u8]) -> Stored {
        Stored {
            key: self.key(),
            revision: Revision(self.revision),
            data: self.place.packer.unpack(packed).into(),
        }
    }

    /// Packs what was not asked for since the last time this was called, or at once.
    pub(crate) fn pack(&self, codec: &mut Codec, at_once: bool) {
        let stored = match &mut *self.state() {
            State::Hot(_, used) if *used && !at_once => return *used = false,
            State::Hot(stored, _) => stored.clone(),
            State::Cold(_) => return,
        };
        let Some(packed) = self.place.packer.pack(codec, &stored.data) else {
            return;
        };
        let mut state = self.state();
        // Asked for meanwhile: it stays.
        if matches!(&*state, State::Hot(_, false)) || at_once {
            *state = State::Cold(packed);
        }
    }
}

/// A resource's compression.
#[derive(Default)]
pub(crate) struct Packer {
    dictionary: OnceLock<(CDict<'static>, DDict<'static>)>,
    samples: Mutex<Vec<u8>>,
    /// Versions there are.
    held: AtomicUsize,
}

impl fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut packer = formatter.debug_struct("Packer");
        packer.field("ready", &self.dictionary.get().is_some());
        packer.finish_non_exhaustive()
    }
}

/// What compressing needs besides, for whoever packs many.
pub(crate) struct Codec {
    context: CCtx<'static>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Codec").finish_non_exhaustive()
    }
}

impl Codec {
    pub(crate) fn new() -> Self {
        Self {
            context: CCtx::create(),
            buffer: Vec::new(),
        }
    }
}

thread_local! {
    static UNPACKING: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

impl Packer {
    pub(crate) fn has_many(&self) -> bool {
        self.held.load(Relaxed) >= MANY
    }

    /// Packed bytes; None for what stays as it is.
    fn pack(&self, codec: &mut Codec, data: &[u8]) -> Option<Box<[u8]>> {
        if data.len() < SMALL || !self.has_many() {
            return None;
        }
        let (dictionary, _) = match self.dictionary.get() {
            Some(dictionary) => dictionary,
            None => self.learn(data)?,
        };
        let Codec { context, buffer } = codec;
        buffer.clear();
        buffer.reserve(zstd_safe::compress_bound(data.len()));
        let packed = context.compress_using_cdict(buffer, data, dictionary);
        let worth_it = packed.is_ok() && buffer.len() < data.len() / 4 * 3;
        worth_it.then(|| buffer.as_slice().into())
    }

    /// Adds to the samples, and makes the dictionary when there are enough.
    fn learn(&self, data: &[u8]) -> Option<&(CDict<'static>, DDict<'static>)> {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.extend_from_slice(data);
        if samples.len() < SAMPLES {
            return None;
        }
        let samples = std::mem::take(&mut *samples);
        // The end is what is nearest, and cheapest to refer to.
        let samples = &samples[samples.len() - SAMPLES..];
        let make = || (CDict::create(samples, LEVEL), DDict::create(samples));
        Some(self.dictionary.get_or_init(make))
    }

    fn unpack(&self, packed: &[u8]) -> Vec<u8> {
        let size = zstd_safe::get_frame_content_size(packed).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok());
        let unpacked = self
            .dictionary
            .get()
            .zip(size)
            .and_then(|((_, dictionary), size)| {
                let mut data = Vec::with_capacity(size);
                let unpack = |context: &RefCell<DCtx<'static>>| {
                    let mut context = context.borrow_mut();
                    context.decompress_using_ddict(&mut data, packed, dictionary)
                };
                UNPACKING.with(unpack).ok().map(|_| data)
            });
        match unpacked {
            Some(data) => data,
            None => unreachable!("packed by this process against this dictionary"),
        }
    }
}

/// How often what is not in use is looked for.
const TURN: Duration = Duration::from_secs(30);
/// Objects looked at between two looks of others into history.
const CHUNK: usize = 512;

/// Packs what is not in use, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Sweeper {
    _over: mpsc::Sender<()>,
}

impl Sweeper {
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start(history: &Arc<RwLock<History>>) -> std::io::Result<Self> {
        let (over, ended) = mpsc::channel();
        let history = Arc::downgrade(history);
        let turns = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(TURN)
                && let Some(history) = history.upgrade()
            {
                sweep(&history);
            }
        };
        let thread = std::thread::Builder::new().name("store-sweeper".to_owned());
        // It ends with the sender, within a turn's work.
        drop(thread.spawn(turns)?);
        Ok(Self { _over: over })
    }
}

/// One turn.
pub(crate) fn sweep(history: &RwLock<History>) {
    let read = || history.read().unwrap_or_else(PoisonError::into_inner);
    if !read().has_many() {
        return;
    }
    let mut codec = Codec::new();
    let mut last: Option<Arc<Held>> = None;
    loop {
        let chunk = read().live_after(last.as_deref(), CHUNK);
        for held in &chunk {
            held.pack(&mut codec, false);
        }
        match chunk.last() {
            Some(newest) => last = Some(newest.clone()),
            None => break,
        }
    }
    let mut after = 0;
    loop {
        let (chunk, upto) = read().superseded_after(after, CHUNK);
        for held in &chunk {
            held.pack(&mut codec, false);
        }
        if upto == after {
            return;
        }
        after = upto;
    }
}

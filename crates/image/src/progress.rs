//! What a long operation says while it goes on. Showing it is the caller's.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For its turn, or for another pull of the same layer.
    Waiting,
    /// Downloading, and unpacking what has come, at once.
    Downloading,
    /// All bytes are here.
    Unpacking,
    /// Being flushed to disk.
    Verifying,
    Done,
    /// Was here already.
    Cached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerProgress {
    pub phase: Phase,
    /// Compressed bytes that are here, those of an earlier attempt included.
    pub bytes_done: u64,
    /// Zero when unknown.
    pub bytes_total: u64,
}

/// Called from several threads, often: at most every 64 KiB of a layer.
pub trait Progress: Send + Sync {
    /// `id` is short and stands for the layer during this operation.
    fn layer(&self, id: &str, state: LayerProgress);
    /// A line worth showing.
    fn message(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn layer(&self, _id: &str, _state: LayerProgress) {}
    fn message(&self, _text: &str) {}
}

impl<P: Progress + ?Sized> Progress for std::sync::Arc<P> {
    fn layer(&self, id: &str, state: LayerProgress) {
        (**self).layer(id, state);
    }

    fn message(&self, text: &str) {
        (**self).message(text);
    }
}

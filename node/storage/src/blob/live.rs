//! A blob that is open in this process: growing under its one writer, or sealed; and the pins that readers hold on it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use flotilla_oci::Digest;
use flotilla_runtime::File;
use tokio::sync::watch;

use super::{StorageError, pieces::Pieces};

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Bytes before `readable` may be handed out. The last piece is not among them before the digest matched.
    Growing {
        readable: u64,
    },
    Sealed,
    /// Readers are cut with this.
    Failed(StorageError),
}

pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) len: u64,
    /// The same file while it grows and after it was sealed: a rename keeps the descriptor.
    pub(super) file: Arc<dyn File>,
    pub(super) phase: watch::Sender<Phase>,
    /// Set before the phase becomes `Sealed`.
    pub(super) pieces: OnceLock<Pieces>,
    /// Closed when nothing of the writer can touch the files any more.
    pub(super) tenure: Option<watch::Receiver<()>>,
    /// Changes only under the table's lock, or upwards from a pin.
    pins: AtomicUsize,
    /// When it was last looked up, in lookups.
    pub(super) touched: AtomicU64,
    /// When its last use was counted, as [`super::uses::Uses`] knows it: a look that spares the lock. 0 until known.
    pub(super) used_s: AtomicU32,
}

impl Blob {
    pub(super) fn growing(digest: Digest, len: u64, file: Arc<dyn File>, tenure: watch::Receiver<()>) -> Self {
        Self::new(digest, len, file, Phase::Growing { readable: 0 }, OnceLock::new(), Some(tenure))
    }

    pub(super) fn sealed(digest: Digest, len: u64, file: Arc<dyn File>, pieces: Pieces) -> Self {
        Self::new(digest, len, file, Phase::Sealed, OnceLock::from(pieces), None)
    }

    fn new(
        digest: Digest,
        len: u64,
        file: Arc<dyn File>,
        phase: Phase,
        pieces: OnceLock<Pieces>,
        tenure: Option<watch::Receiver<()>>,
    ) -> Self {
        let (pins, touched, used_s) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Self { digest, len, file, phase: watch::Sender::new(phase), pieces, tenure, pins, touched, used_s }
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Sealed)
    }

    pub(super) fn failure(&self) -> Option<StorageError> {
        match &*self.phase.borrow() {
            Phase::Failed(error) => Some(error.clone()),
            Phase::Growing { .. } | Phase::Sealed => None,
        }
    }

    pub(super) fn set_readable(&self, bytes: u64) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Growing { readable } if *readable < bytes => {
                *readable = bytes;
                true
            }
            _ => false,
        });
    }

    /// Cuts the readers; the first failure stays. `false` when it had failed before.
    pub(super) fn fail(&self, error: StorageError) -> bool {
        self.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Failed(_));
            if first {
                *phase = Phase::Failed(error);
            }
            first
        })
    }
}

/// Keeps a blob from being removed or its descriptor from being closed.
pub(super) struct Pin(Arc<Blob>);

impl Pin {
    /// Under the table's lock, or while another pin lives.
    pub(super) fn new(blob: &Arc<Blob>) -> Self {
        blob.pins.fetch_add(1, Ordering::Relaxed);
        Self(blob.clone())
    }

    pub(super) fn blob(&self) -> &Arc<Blob> {
        &self.0
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::Release);
    }
}

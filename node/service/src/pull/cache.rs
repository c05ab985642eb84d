use std::{
    collections::{HashMap, VecDeque},
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use flotilla_oci::Digest;

/// Bytes of manifests that are kept: the manifests of about ten thousand images.
const CAPACITY_BYTES: usize = 32 << 20;

/// Bytes of manifests by digest, which never change. Whether a repository may serve one, and as what, is asked of the
/// state each time.
#[derive(Default)]
pub(super) struct ManifestCache(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    manifests: HashMap<Digest, Bytes>,
    /// Oldest first.
    order: VecDeque<Digest>,
    bytes: usize,
}

impl ManifestCache {
    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        // Whole after a panic: a half-done `put` costs room, no correctness.
        self.0.read().unwrap_or_else(PoisonError::into_inner).manifests.get(digest).cloned()
    }

    pub(super) fn put(&self, digest: Digest, bytes: Bytes) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > CAPACITY_BYTES || kept.manifests.contains_key(&digest) {
            return;
        }
        kept.bytes += bytes.len();
        kept.order.push_back(digest);
        kept.manifests.insert(digest, bytes);
        while kept.bytes > CAPACITY_BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            let len = kept.manifests.remove(&oldest).map_or(0, |bytes| bytes.len());
            kept.bytes = kept.bytes.saturating_sub(len);
        }
    }
}

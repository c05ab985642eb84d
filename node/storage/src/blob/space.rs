//! How much is used, promised and free.

use std::collections::BTreeMap;

use flotilla_oci::Digest;
use flotilla_runtime::Usage;

use super::{BlobConfig, layout::Inventory, uses::Need};
use crate::metrics::Metrics;

/// Files that must remain creatable on the file system: the store is not its only user.
const RESERVED_INODES: u64 = 1_024;
/// Data and its pieces.
const INODES_OF_BLOB: u64 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum StorageClass {
    Sealed,
    Partial,
    Quarantine,
}

#[derive(Default)]
pub(super) struct Space {
    pub(super) blobs: u64,
    pub(super) sealed_bytes: u64,
    /// What partials without a writer hold. Whoever takes one out of this map owns its files.
    pub(super) idle: BTreeMap<Digest, u64>,
    /// Lengths announced to living writers.
    pub(super) promised_bytes: u64,
    /// The part of them that is not written yet.
    pub(super) unwritten_bytes: u64,
    pub(super) quarantined: u64,
    pub(super) quarantined_bytes: u64,
    /// When the file system was last asked.
    pub(super) free_bytes: u64,
}

impl Space {
    pub(super) fn new(inventory: Inventory) -> Self {
        Self {
            blobs: inventory.blobs,
            sealed_bytes: inventory.sealed_bytes,
            idle: inventory.partials.into_iter().collect(),
            quarantined: inventory.quarantined,
            quarantined_bytes: inventory.quarantined_bytes,
            ..Self::default()
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let sums = [self.sealed_bytes, self.partial_bytes(), self.quarantined_bytes];
        sums.into_iter().fold(0, u64::saturating_add)
    }

    fn partial_bytes(&self) -> u64 {
        self.idle.values().fold(self.promised_bytes, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Whether a partial of `len` bytes fits, of which `held` are there already.
    pub(super) fn fits(&self, config: &BlobConfig, usage: Usage, len: u64, held: u64) -> bool {
        self.lacks_beside(self.used_bytes(), config, usage, len, held).is_none()
    }

    /// What sealed blobs would have to give for a partial of `digest`, when no other partial without a writer were
    /// there.
    pub(super) fn lacks_without_idle(&self, config: &BlobConfig, usage: Usage, digest: &Digest, len: u64) -> Need {
        let (mut held, mut freed_bytes, mut freed_inodes) = (0, 0u64, 0u64);
        for (idle, bytes) in &self.idle {
            if idle == digest {
                held = *bytes;
            } else {
                freed_bytes = freed_bytes.saturating_add(*bytes);
                freed_inodes += INODES_OF_BLOB;
            }
        }
        let usage = Usage {
            free_bytes: usage.free_bytes.saturating_add(freed_bytes),
            free_inodes: usage.free_inodes.saturating_add(freed_inodes),
            ..usage
        };
        self.lacks_beside(self.used_bytes().saturating_sub(freed_bytes), config, usage, len, held)
    }

    fn lacks_beside(&self, used_bytes: u64, config: &BlobConfig, usage: Usage, len: u64, held: u64) -> Need {
        let used = used_bytes.saturating_sub(held).saturating_add(len);
        let wanted = self.unwritten_bytes.saturating_add(len.saturating_sub(held)).saturating_add(config.reserve.0);
        let over_budget = used.saturating_sub(config.max_bytes.0);
        let over_disk = wanted.saturating_sub(usage.free_bytes);
        let inodes = RESERVED_INODES.saturating_sub(usage.free_inodes);
        Need { bytes: over_budget.max(over_disk), blobs: inodes.div_ceil(INODES_OF_BLOB) }
    }

    pub(super) fn report(&self, metrics: &Metrics) {
        metrics.set_bytes(StorageClass::Sealed, self.sealed_bytes);
        metrics.set_bytes(StorageClass::Partial, self.partial_bytes());
        metrics.set_bytes(StorageClass::Quarantine, self.quarantined_bytes);
        metrics.set_free(self.free_bytes);
    }
}

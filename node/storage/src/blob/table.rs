//! The blobs that are open: those that grow, those that are read, and the ones asked for last.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use flotilla_oci::Digest;

use super::{live::Blob, pieces::Pieces};

/// Open files kept without a reader: a quarter of the usual limit of 1,024 descriptors.
const IDLE_BLOBS: usize = 256;
/// Pieces of which idle blobs may keep hashes: 9 MiB for 256 GiB of hot blobs.
const IDLE_PIECES: usize = 256 << 10;

#[derive(Default)]
pub(super) struct Table {
    live: HashMap<Digest, Arc<Blob>>,
    /// Damaged blobs that could not be set aside, with their lengths: they lie among the sealed ones and are absent.
    pub(super) bad: BTreeMap<Digest, u64>,
    lookups: u64,
}

impl Table {
    pub(super) fn get(&self, digest: &Digest) -> Option<&Arc<Blob>> {
        self.live.get(digest)
    }

    /// As [`Table::get`] for someone who will use it.
    pub(super) fn touch(&mut self, digest: &Digest) -> Option<&Arc<Blob>> {
        self.lookups += 1;
        let blob = self.live.get(digest)?;
        blob.touched.store(self.lookups, Ordering::Relaxed);
        Some(blob)
    }

    pub(super) fn insert(&mut self, blob: Arc<Blob>) {
        blob.touched.store(self.lookups, Ordering::Relaxed);
        self.live.insert(blob.digest, blob);
        self.trim();
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.live.remove(digest);
    }

    /// Blobs that somebody reads or writes.
    pub(super) fn busy(&self) -> HashSet<Digest> {
        self.live.values().filter(|blob| blob.is_pinned() || !blob.is_sealed()).map(|blob| blob.digest).collect()
    }

    /// Removes `blob` unless another took its place; whether it was there.
    pub(super) fn remove_this(&mut self, blob: &Arc<Blob>) -> bool {
        let there = self.live.get(&blob.digest).is_some_and(|current| Arc::ptr_eq(current, blob));
        if there {
            self.live.remove(&blob.digest);
        }
        there
    }

    /// Closes the blobs that were not asked for longest, when too many are open without a reader.
    pub(super) fn trim(&mut self) {
        let weigh = |blob: &Arc<Blob>| blob.pieces.get().map_or(0, Pieces::len);
        let is_idle = |blob: &&Arc<Blob>| blob.is_sealed() && !blob.is_pinned();
        let (mut count, mut pieces) = (0, 0);
        for blob in self.live.values().filter(is_idle) {
            count += 1;
            pieces += weigh(blob);
        }
        while count > IDLE_BLOBS || pieces > IDLE_PIECES {
            let idle = self.live.values().filter(is_idle);
            let oldest = idle.min_by_key(|blob| blob.touched.load(Ordering::Relaxed)).cloned();
            // A reader may have let go of one meanwhile, or none may be left.
            let Some(oldest) = oldest else { break };
            self.live.remove(&oldest.digest);
            count = count.saturating_sub(1);
            pieces = pieces.saturating_sub(weigh(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flotilla_runtime::{Disk, MemoryDisk};

    use super::{super::live::Pin, *};

    #[test]
    fn idle_blobs_are_closed_oldest_first_and_pinned_ones_stay() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/x")).unwrap();
        let digest = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            Digest::Sha256(hash)
        };
        let blob = |n| Arc::new(Blob::sealed(digest(n), 1, file.clone(), Pieces::new(vec![[0; 32]], 0)));
        let mut table = Table::default();
        let pinned = blob(0);
        let pin = Pin::new(&pinned);
        table.insert(pinned);
        for n in 1..=IDLE_BLOBS {
            table.insert(blob(n));
            table.touch(&digest(n));
        }
        table.touch(&digest(1));
        table.insert(blob(IDLE_BLOBS + 1));
        assert!(table.get(&digest(0)).is_some(), "pinned");
        assert!(table.get(&digest(1)).is_some(), "asked for just now");
        assert!(table.get(&digest(2)).is_none(), "not asked for longest");
        drop(pin);
        table.trim();
        assert!(table.get(&digest(0)).is_none());
        let large = Pieces::new(vec![[0; 32]; IDLE_PIECES + 1], 0);
        table.insert(Arc::new(Blob::sealed(digest(9_999), 1, file.clone(), large)));
        assert!(table.get(&digest(9_999)).is_none(), "a blob of many pieces is not kept without a reader");
    }
}

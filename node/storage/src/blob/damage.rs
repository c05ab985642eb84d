//! What is done about bytes on the disk that are not what they were: a bad blob is set aside, a lost outboard made again.

use std::sync::Arc;

use flotilla_oci::Digest;
use flotilla_runtime::{File, write_file};

use super::{
    StorageError,
    layout::{self, Paths, io_error},
    live::Blob,
    pieces, resume,
    store::Inner,
};

/// Damaged blobs kept for an operator to look at. Later ones are deleted: their number says enough, and disks fail in
/// crowds.
const QUARANTINE_BLOBS: u64 = 8;

impl Inner {
    /// The outboard of a sealed blob that lost it, from the bytes; `None`, and the blob set aside, when they do not
    /// match the digest. Under the stripe.
    pub(super) fn rebuild(
        &self,
        digest: &Digest,
        len: u64,
        file: &dyn File,
        paths: &Paths,
    ) -> Result<Option<Vec<pieces::Hash>>, StorageError> {
        let whole = resume::hash_prefix(file, digest, len, None).map_err(io_error("read", &paths.data))?;
        if whole.bytes != len || !whole.hash.matches(digest) {
            self.set_aside(digest, len, "outboard is damaged and bytes do not match the digest");
            return Ok(None);
        }
        let header = pieces::header(len, Some(&pieces::root(&whole.hashes)));
        let content = [header.as_slice(), whole.hashes.as_flattened()].concat();
        write_file(&*self.host.disk, &paths.pieces, &content).map_err(io_error("write", &paths.pieces))?;
        tracing::info!(%digest, "outboard made again");
        Ok(Some(whole.hashes))
    }

    /// Sets a sealed blob aside after a bad piece. Once: later calls for the same blob change nothing.
    pub(super) fn quarantine(&self, blob: &Arc<Blob>, cause: &std::io::Error) {
        let _stripe = self.stripe(&blob.digest);
        // Only what the table shows is what lies on the disk: another may have been sealed since.
        let current = self.table().remove_this(blob);
        if blob.fail(StorageError::Quarantined { digest: blob.digest }) && current {
            self.set_aside(&blob.digest, blob.len, &cause.to_string());
        }
    }

    /// Under the stripe.
    fn set_aside(&self, digest: &Digest, len: u64, cause: &str) {
        let disk = &*self.host.disk;
        let (from, to) = (self.layout.sealed(digest), self.layout.quarantined(digest));
        let full = self.space().quarantined >= QUARANTINE_BLOBS;
        // Removed rather than kept, when enough are kept: their number says enough, and disks fail in crowds.
        let moved = if full { disk.remove(&from.data) } else { disk.rename(&from.data, &to) };
        let synced = moved
            .and_then(|()| layout::remove(disk, &from.pieces).map_err(std::io::Error::other))
            .and_then(|_| disk.sync_dir(&self.layout.shard(digest)));
        self.metrics.quarantined.inc();
        match synced {
            Ok(()) => tracing::warn!(%digest, cause, "damaged blob quarantined"),
            Err(error) => tracing::error!(%digest, cause, %error, "damaged blob could not be quarantined"),
        }
        let mut space = self.space();
        space.sealed_bytes = space.sealed_bytes.saturating_sub(len);
        space.blobs = space.blobs.saturating_sub(1);
        if !full {
            space.quarantined += 1;
            space.quarantined_bytes = space.quarantined_bytes.saturating_add(len);
        }
        space.report(&self.metrics);
    }
}

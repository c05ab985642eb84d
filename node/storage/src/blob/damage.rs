//! What is done about bytes on the disk that are not what they were: a bad blob is set aside, a lost outboard made again.

use std::{io::ErrorKind, sync::Arc};

use flotilla_oci::Digest;
use flotilla_runtime::{File, write_file};

use super::{
    StorageError,
    error::is_damage,
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
        let read = match resume::hash_prefix(file, digest, len, None) {
            Ok(whole) => (whole.bytes == len && whole.hash.matches(digest)).then_some(whole.hashes),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(io_error("read", &paths.data)(error)),
        };
        let Some(whole) = read else {
            // A blob that stays is absent all the same.
            let _ = self.set_aside(digest, len, "outboard is damaged and bytes do not match the digest");
            return Ok(None);
        };
        let header = pieces::header(len, Some(&pieces::root(&whole)));
        let content = [header.as_slice(), whole.as_flattened()].concat();
        match write_file(&*self.host.disk, &paths.pieces, &content) {
            Ok(()) => tracing::info!(%digest, "outboard made again"),
            // The bytes are right, and a disk that takes no writes can still be read.
            Err(error) => tracing::warn!(%digest, %error, "outboard could not be made again"),
        }
        Ok(Some(whole))
    }

    /// Sets a sealed blob aside after a bad piece. Once: later calls for the same blob change nothing.
    pub(super) fn quarantine(&self, blob: &Arc<Blob>, cause: &std::io::Error) {
        let _stripe = self.stripe(&blob.digest);
        // Only what the table shows is what lies on the disk: another may have been sealed since.
        let current = self.table().remove_this(blob);
        if blob.fail(StorageError::Quarantined { digest: blob.digest }) && current {
            // A blob that stays is absent all the same.
            let _ = self.set_aside(&blob.digest, blob.len, &cause.to_string());
        }
    }

    /// Tries again to set aside a blob that is known as damaged; whether it was. Under the stripe.
    ///
    /// # Errors
    /// It still cannot be set aside.
    pub(super) fn set_aside_known(&self, digest: &Digest) -> Result<bool, StorageError> {
        let bad = self.table().bad.get(digest).copied();
        bad.map(|len| self.set_aside(digest, len, "found damaged before")).transpose().map(|done| done.is_some())
    }

    /// Under the stripe.
    ///
    /// # Errors
    /// The blob is still in its place, and remembered as bad.
    pub(super) fn set_aside(&self, digest: &Digest, len: u64, cause: &str) -> Result<(), StorageError> {
        let disk = &*self.host.disk;
        let (from, to) = (self.layout.sealed(digest), self.layout.quarantined(digest));
        let earlier = disk.stat(&to).ok();
        // Removed rather than kept, when enough are kept.
        let keep = earlier.is_some() || self.space().quarantined < QUARANTINE_BLOBS;
        let moved = if keep { disk.rename(&from.data, &to) } else { disk.remove(&from.data) };
        // Somebody else may have removed it.
        let gone = disk.stat(&from.data).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let kept = keep && moved.is_ok();
        if let Err(error) = moved
            && !gone
        {
            if self.table().bad.insert(*digest, len).is_none() {
                tracing::error!(%digest, cause, %error, "damaged blob could not be quarantined");
            }
            return Err(io_error("set aside", &from.data)(error));
        }
        self.table().bad.remove(digest);
        self.uses().remove(digest);
        self.metrics.quarantined.inc();
        tracing::warn!(%digest, cause, "damaged blob quarantined");
        let shard = self.layout.shard(digest);
        let tidied =
            layout::remove(disk, &from.pieces).and_then(|_| disk.sync_dir(&shard).map_err(io_error("sync", &shard)));
        if let Err(error) = tidied {
            // Found damaged again after a loss of power.
            tracing::warn!(%digest, %error, "quarantine of a blob is not durable");
        }
        let mut space = self.space();
        space.sealed_bytes = space.sealed_bytes.saturating_sub(len);
        space.blobs = space.blobs.saturating_sub(1);
        if kept {
            let replaced_bytes = earlier.map_or(0, |earlier| earlier.len_bytes);
            space.quarantined += u64::from(earlier.is_none());
            space.quarantined_bytes = space.quarantined_bytes.saturating_sub(replaced_bytes).saturating_add(len);
        }
        space.report(&self.metrics);
        Ok(())
    }
}

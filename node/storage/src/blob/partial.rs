use bytes::Bytes;
use flotilla_base::ByteLen;

use super::{BlobReader, StorageError};

/// The one writer of a growing blob. Dropping it cuts its readers with an error and keeps what is on disk; the next
/// writer goes on from there.
pub struct PartialWriter(());

impl PartialWriter {
    /// First byte that is missing: where an interrupted fill resumes.
    pub fn resume_at(&self) -> u64 {
        todo!()
    }

    pub fn len(&self) -> ByteLen {
        todo!()
    }

    pub fn reader(&self) -> BlobReader {
        todo!()
    }

    /// Appends. Returns when the bytes are queued within a fixed bound; readers see them soon after.
    /// Not cancel safe: after a cut the writer must be dropped.
    ///
    /// # Errors
    /// [`StorageError::TooLong`] and [`StorageError::Full`]: the partial is deleted and readers are cut.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), StorageError> {
        todo!()
    }

    /// Seals the blob once its digest and length match. Runs to its end even when the future is dropped.
    ///
    /// # Errors
    /// [`StorageError::Mismatch`]: partial deleted, readers cut. [`StorageError::Incomplete`]: partial kept.
    pub async fn publish(self) -> Result<BlobReader, StorageError> {
        todo!()
    }

    /// Syncs what is written, so that a later [`super::BlobStore::begin`] resumes there even after loss of power.
    pub async fn abandon(self) {
        todo!()
    }
}

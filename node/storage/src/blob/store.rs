use std::{path::PathBuf, time::Duration};

use flotilla_base::ByteLen;
use flotilla_oci::Digest;
use flotilla_runtime::Host;
use prometheus_client::registry::Registry;

use super::{BlobReader, PartialWriter, StorageError};

#[derive(Clone, Debug)]
pub struct BlobConfig {
    /// Folder of the blobs; made when absent.
    pub dir: PathBuf,
    /// Most bytes of blobs, sealed and partial.
    pub max_bytes: ByteLen,
    /// Free space of the file system that is left to others.
    pub reserve: ByteLen,
    /// How long a verified piece is trusted without being hashed again.
    pub verify_interval: Duration,
}

/// What this node's disk says about a blob.
pub enum Found {
    Sealed(BlobReader),
    /// A writer of it lives in this process.
    Partial(BlobReader),
    Absent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobUsage {
    /// Sealed, partial and quarantined, with what living writers still may write.
    pub used: ByteLen,
    pub max: ByteLen,
    /// Free on the file system when it was last asked: at each begin, publish and remove.
    pub free: ByteLen,
    /// Sealed blobs.
    pub blobs: u64,
    /// Blobs set aside because a piece was bad.
    pub quarantined: u64,
}

/// Content-addressed files. Clones share one store.
#[derive(Clone)]
pub struct BlobStore(());

impl BlobStore {
    pub async fn open(_host: Host, _config: BlobConfig, _registry: &mut Registry) -> Result<Self, StorageError> {
        todo!()
    }

    pub async fn find(&self, _digest: &Digest) -> Result<Found, StorageError> {
        todo!()
    }

    /// Starts a partial of `len` bytes, or takes up what an earlier one left.
    ///
    /// # Errors
    /// [`StorageError::Full`], [`StorageError::Busy`], [`StorageError::Sealed`].
    pub async fn begin(&self, _digest: &Digest, _len: ByteLen) -> Result<PartialWriter, StorageError> {
        todo!()
    }

    /// # Errors
    /// [`StorageError::Pinned`] while readers hold it.
    pub async fn remove(&self, _digest: &Digest) -> Result<(), StorageError> {
        todo!()
    }

    pub fn usage(&self) -> BlobUsage {
        todo!()
    }
}

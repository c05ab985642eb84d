use std::sync::Arc;

use flotilla_base::{ByteLen, NodeId};
use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::{ByteStream, Host};
use flotilla_storage::{BlobReader, BlobStore, StorageError};
use flotilla_upstream::UpstreamError;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use crate::{OriginError, Origins};

/// A blob that somebody needs, and where it comes from if nobody holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub digest: Digest,
    pub len: Option<ByteLen>,
    pub origin: Option<Origin>,
}

/// A blob whose head is known.
pub enum Blob {
    /// On this node, sealed or growing.
    Local(BlobReader),
    /// Passing by: not kept, verified, its last piece held back until the digest matched.
    Through { len: ByteLen, body: ByteStream },
}

/// That an upstream has a blob, as it told for one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub len: Option<ByteLen>,
    /// The host may be believed; else only its bytes count.
    pub trusted: bool,
}

/// Shared by all who wait for one fill, hence `Clone`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// Nobody holds it and there is no origin, or every source said 404 or 410.
    #[error("blob {0} is nowhere")]
    Nowhere(Digest),
    #[error("blob {0} came with other bytes than its digest names")]
    Mismatch(Digest),
    #[error("origin cannot be asked")]
    Origin(#[source] OriginError),
    #[error("blob store failed")]
    Storage(#[source] Arc<StorageError>),
    #[error("upstream did not deliver")]
    Upstream(#[source] Arc<UpstreamError>),
    #[error("the node is stopping")]
    Stopping,
}

pub struct Parts {
    pub node: NodeId,
    pub host: Host,
    pub blobs: BlobStore,
    pub origins: Arc<Origins>,
}

pub struct Transfer {
    parts: Parts,
}

impl Transfer {
    pub fn new(parts: Parts, registry: &mut Registry) -> Arc<Self> {
        todo!()
    }

    /// Returns as soon as the length is known; the bytes follow. The fill is a task of its own: dropping the blob does
    /// not stop it. On a full disk the blob passes through.
    pub async fn open(self: &Arc<Self>, wanted: &Wanted) -> Result<Blob, TransferError> {
        todo!()
    }

    /// Streams the blob from its own origin, verified, whatever is held here: what an untrusted upstream must do before
    /// a repository of its is linked to content that is here already. `done` is called when all bytes matched.
    pub async fn through(
        self: &Arc<Self>,
        wanted: &Wanted,
        done: Box<dyn FnOnce(ByteLen) + Send>,
    ) -> Result<Blob, TransferError> {
        todo!()
    }

    /// Only what is here, sealed, without causing anything.
    pub async fn held(&self, digest: &Digest) -> Result<Option<BlobReader>, TransferError> {
        todo!()
    }

    /// Fills that run now.
    pub fn fills_in_flight(&self) -> u64 {
        todo!()
    }

    /// Waits until a fill of `digest` that runs now has ended; `true` when the blob is sealed here.
    pub async fn sealed(&self, digest: &Digest) -> bool {
        todo!()
    }

    /// Asks the origin whether it has the blob (HEAD).
    pub async fn prove(&self, digest: &Digest, origin: &Origin) -> Result<Proof, TransferError> {
        todo!()
    }
}

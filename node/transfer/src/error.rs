use std::sync::Arc;

use flotilla_oci::Digest;
use flotilla_runtime::StreamError;
use flotilla_storage::StorageError;
use flotilla_upstream::UpstreamError;

use crate::OriginError;

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
    /// As many fills as a node does at once are running.
    #[error("too many blobs are being fetched")]
    Busy,
    #[error("the node is stopping")]
    Stopping,
    /// It was held for a repository whose upstream nobody knows any more.
    #[error("blob {0} is not held any more, and no cache rule says where it came from")]
    Lost(Digest),
    /// It passes by, and others wait for its place at the upstream.
    #[error("the client takes blob {0} too slowly")]
    SlowClient(Digest),
}

impl TransferError {
    pub(crate) fn of_upstream(digest: &Digest, error: UpstreamError) -> Self {
        match error {
            UpstreamError::NotFound { .. } => Self::Nowhere(*digest),
            error => Self::Upstream(Arc::new(error)),
        }
    }

    /// It says what the request of the one who began this came through, and nothing about others.
    pub(crate) fn is_circle(&self) -> bool {
        matches!(self, Self::Upstream(error) if matches!(**error, UpstreamError::Loop { .. }))
    }

    /// Of a body that ended with an error. `source` is named when the error does not.
    pub(crate) fn of_body(digest: &Digest, source: &str, error: StreamError) -> Self {
        match error.0.downcast::<UpstreamError>() {
            // Gone in the middle of its body is a failure, not an absence: some of it was there.
            Ok(error) if !error.is_definite_absence() => Self::of_upstream(digest, *error),
            _ => Self::short_body(source),
        }
    }

    /// Of a verified body, which says itself what is wrong.
    pub(crate) fn of_passing(digest: Digest, error: StreamError) -> Self {
        error.0.downcast::<Self>().map_or(Self::Mismatch(digest), |error| *error)
    }

    pub(crate) fn short_body(source: &str) -> Self {
        Self::Upstream(Arc::new(UpstreamError::Malformed { host: source.into(), reason: "its body ended early" }))
    }

    pub(crate) fn other_len(source: &str) -> Self {
        let reason = "the blob has another length than it is known to have";
        Self::Upstream(Arc::new(UpstreamError::Mismatch { host: source.into(), reason }))
    }
}

impl From<StorageError> for TransferError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Mismatch { digest } | StorageError::TooLong { digest, .. } => Self::Mismatch(digest),
            error => Self::Storage(Arc::new(error)),
        }
    }
}

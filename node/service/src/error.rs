use std::time::Duration;

use flotilla_base::store::StoreError;
use flotilla_consensus::ProposeError;
use flotilla_oci::{Digest, Name, Reference};
use flotilla_registry::{
    Refusal,
    access::{Action, Resource},
};
use flotilla_transfer::{OriginError, TransferError};
use flotilla_upstream::UpstreamError;

use crate::limits::{Limit, Limited};

/// Why a use case ended without what was asked. Each door has one table from this to its own codes.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{action:?} is not allowed on {resource:?}")]
    Denied { action: Action, resource: Resource },
    /// What the caller sent breaks a constraint of its protocol; the text is for the caller.
    #[error("invalid '{member}': {why}")]
    Invalid { member: &'static str, why: String },
    /// No such manifest here, and every source of this repository said so.
    #[error("'{reference}' is not in repository '{repository}'")]
    NoManifest { repository: Name, reference: Reference },
    #[error("blob {digest} is not in repository '{repository}'")]
    NoBlob { repository: Name, digest: Digest },
    #[error("upstream registry URL '{0}' is not allowed")]
    UnsupportedUpstream(String),
    #[error("secret '{0}' does not exist")]
    NoSecret(String),
    /// Too much at once; the same call later succeeds.
    #[error("busy, retry")]
    Busy { retry_after: Option<Duration> },
    /// The caller has caused so much that more has to wait; nothing is wrong with what he asked for.
    #[error("limit of {} reached", what.as_str())]
    Limited { what: Limit, retry_after: Duration },
    /// No quorum, stopping, or the outcome of a write is unknown.
    #[error("unavailable, retry")]
    Unavailable { retry_after: Duration },
    #[error("upstream did not deliver")]
    Upstream(#[source] UpstreamError),
    #[error("upstream cannot be asked")]
    Origin(#[source] OriginError),
    #[error("blob cannot be served")]
    Transfer(#[source] TransferError),
    #[error("replicated state cannot be read")]
    State(#[from] StoreError),
    /// A bug, said instead of a panic.
    #[error("unexpected outcome of {0}")]
    Unexpected(&'static str),
}

impl From<Limited> for ServiceError {
    fn from(Limited { what, retry_after }: Limited) -> Self {
        Self::Limited { what, retry_after }
    }
}

impl From<ProposeError> for ServiceError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(refusal) => Self::Refused(refusal),
            ProposeError::Unavailable(unavailable) => Self::Unavailable { retry_after: unavailable.retry_after },
            _ => Self::Unavailable { retry_after: Duration::from_secs(1) },
        }
    }
}

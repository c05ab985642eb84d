use std::time::Duration;

use flotilla_base::store::StoreError;
use flotilla_consensus::ProposeError;
use flotilla_oci::{Digest, Name, Reference};
use flotilla_registry::{
    Prefix, Refusal,
    access::{Action, Resource},
    mapping::Unmapped,
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
    /// It is not here, and the rule that covers its repository lets its name not through to the upstream.
    #[error("cache rule '{rule}' does not let repository '{repository}' through")]
    Filtered { repository: Name, rule: Prefix },
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    /// The text says which version was asked for.
    #[error("a secret has no value for {0}")]
    NoSecretVersion(String),
    /// What is asked does not fit what the secret is; the text is for the caller.
    #[error("{0}")]
    SecretRequest(String),
    #[error("the value of a secret cannot be opened with this node's keyring: {0}")]
    Unseal(String),
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

/// An error with its causes, for a text that has no other place for them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

use std::time::Duration;

use flotilla_base::store::StoreError;
use flotilla_oci::{Digest, Name, Reference};
use flotilla_registry::{Prefix, Refusal};
use flotilla_transfer::{OriginError, TransferError};
use flotilla_upstream::UpstreamError;

use crate::{ServiceError, limits::Limited};

/// Why a pull failed, as all who waited for the same work are told: [`ServiceError`] without what cannot be cloned.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    /// Upstream said for certain that it does not have it.
    Absent,
    /// The rule's filters changed while the pull was on its way.
    Filtered(Prefix),
    Upstream(UpstreamError),
    Origin(OriginError),
    Transfer(TransferError),
    Limited(Limited),
    Busy,
    Unavailable(Duration),
    Unexpected(&'static str),
}

/// When nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Failure {
    pub(super) fn of_manifest(self, repository: &Name, reference: &Reference) -> ServiceError {
        match self {
            Self::Absent => ServiceError::NoManifest { repository: repository.clone(), reference: reference.clone() },
            Self::Filtered(rule) => ServiceError::Filtered { repository: repository.clone(), rule },
            other => other.into_error(),
        }
    }

    pub(super) fn of_blob(self, repository: &Name, digest: &Digest) -> ServiceError {
        match self {
            Self::Absent => ServiceError::NoBlob { repository: repository.clone(), digest: *digest },
            Self::Filtered(rule) => ServiceError::Filtered { repository: repository.clone(), rule },
            other => other.into_error(),
        }
    }

    /// With its causes, for operators.
    pub(super) fn explain(&self) -> String {
        if let Self::Filtered(rule) = self {
            return format!("cache rule '{rule}' does not let this name through");
        }
        let error = self.clone().into_error();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What the upstream answered, if it did.
    pub(super) fn upstream_status(&self) -> Option<u16> {
        match self {
            Self::Upstream(error) => error.status(),
            Self::Transfer(TransferError::Upstream(error)) => error.status(),
            Self::Absent => Some(404),
            _ => None,
        }
    }

    pub(super) fn into_error(self) -> ServiceError {
        match self {
            Self::Refused(refusal) => ServiceError::Refused(refusal),
            Self::Absent => ServiceError::Unexpected("absence"),
            Self::Filtered(_) => ServiceError::Unexpected("a filter"),
            Self::Upstream(error) => ServiceError::Upstream(error),
            Self::Origin(error) => ServiceError::Origin(error),
            Self::Transfer(error) => ServiceError::Transfer(error),
            Self::Limited(limited) => limited.into(),
            Self::Busy => ServiceError::Busy { retry_after: Some(RETRY_AFTER) },
            Self::Unavailable(retry_after) => ServiceError::Unavailable { retry_after },
            Self::Unexpected(what) => ServiceError::Unexpected(what),
        }
    }

    /// It says how callers of that class stand, and nothing about others.
    pub(super) fn is_of_its_class(&self) -> bool {
        matches!(self, Self::Busy | Self::Upstream(UpstreamError::Reserved { .. } | UpstreamError::Busy { .. }))
    }

    /// It says what the request of the one who led came through, and nothing about others.
    pub(super) fn is_circle(&self) -> bool {
        matches!(self, Self::Upstream(UpstreamError::Loop { .. }))
    }

    /// The leader of the work is gone without a word: its task was cut.
    pub(super) fn abandoned() -> Self {
        Self::Unavailable(RETRY_AFTER)
    }
}

impl From<Limited> for Failure {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        if error.is_definite_absence() { Self::Absent } else { Self::Upstream(error) }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Nowhere(_) => Self::Absent,
            TransferError::Origin(error) => Self::Origin(error),
            TransferError::Upstream(error) => Self::Upstream((*error).clone()),
            TransferError::Busy => Self::Busy,
            TransferError::Stopping => Self::Unavailable(RETRY_AFTER),
            error => Self::Transfer(error),
        }
    }
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error, "replicated state cannot be read");
        Self::Unexpected("a read of the replicated state")
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => Self::Refused(refusal),
            ServiceError::Unavailable { retry_after } => Self::Unavailable(retry_after),
            ServiceError::Busy { .. } => Self::Busy,
            ServiceError::Limited { what, retry_after } => Self::Limited(Limited { what, retry_after }),
            ServiceError::Upstream(error) => error.into(),
            ServiceError::Origin(error) => Self::Origin(error),
            ServiceError::Transfer(error) => error.into(),
            ServiceError::State(error) => error.into(),
            _ => Self::Unexpected("a proposal"),
        }
    }
}

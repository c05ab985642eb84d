use std::time::Duration;

use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::Recent;
use flotilla_upstream::UpstreamError;

use crate::TransferError;

/// What sources said of late, by digest and source, so that a crowd of clients asks for a missing blob once.
pub(crate) struct Failures(Recent<(Digest, Origin), TransferError>);

/// Above what a page of broken images names; about 1 MiB.
const CAPACITY: usize = 4_096;

/// Short: a blob may be pushed right after we asked (`protocols.md` §1).
const ABSENT: Duration = Duration::from_secs(5);

/// A source that sends wrong bytes is broken or hostile, and costs a whole transfer each time.
const MISMATCH: Duration = Duration::from_secs(60);

/// For an upstream that throttles without saying for how long.
const THROTTLED: Duration = Duration::from_secs(5);

/// However long an upstream wants to be left alone, its word is checked again after this.
const THROTTLED_MOST: Duration = Duration::from_secs(600);

impl Default for Failures {
    fn default() -> Self {
        Self(Recent::new(CAPACITY))
    }
}

impl Failures {
    pub(crate) fn of(&self, digest: &Digest, origin: &Origin) -> Option<TransferError> {
        self.0.get(&(*digest, origin.clone()))
    }

    /// Remembers `error` as long as it may be repeated. Failures that say nothing about the blob are the circuit
    /// breaker's business.
    pub(crate) fn remember(&self, digest: &Digest, origin: &Origin, error: &TransferError) {
        let lifetime = match error {
            TransferError::Nowhere(_) => ABSENT,
            TransferError::Mismatch(_) => MISMATCH,
            TransferError::Upstream(error) => match **error {
                UpstreamError::Throttled { retry_after, .. } => retry_after.unwrap_or(THROTTLED).min(THROTTLED_MOST),
                UpstreamError::Mismatch { .. } => MISMATCH,
                UpstreamError::Denied { .. } | UpstreamError::Unauthorized { .. } => ABSENT,
                _ => return,
            },
            _ => return,
        };
        self.0.put((*digest, origin.clone()), error.clone(), lifetime);
    }
}

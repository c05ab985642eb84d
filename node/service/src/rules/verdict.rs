//! What `ValidatePullThroughCacheRule` says: the step that failed, then why.

use flotilla_transfer::{OriginError, Resolved};
use flotilla_upstream::{BlockReason, HttpError, UpstreamError};

use crate::error::chain;

/// Asks the upstream as the rule's account, with a new token.
pub(super) async fn verdict(resolved: Result<Resolved, OriginError>) -> Result<(), String> {
    let resolved = resolved.map_err(|error| match error {
        OriginError::Credential { source, .. } => format!("secret: {source}"),
        error @ OriginError::NoRule(_) => format!("rule: {error}"),
    })?;
    match resolved.upstream.probe().await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {}", step(&error), chain(&error))),
    }
}

fn step(error: &UpstreamError) -> &'static str {
    use UpstreamError as E;
    match error {
        E::Unavailable { source, .. } => match source {
            HttpError::Resolve { .. } => "resolve",
            HttpError::Connect { .. } | HttpError::ConnectTimeout { .. } => "connect",
            HttpError::Tls { .. } => "tls",
            _ => "answer",
        },
        E::Blocked { reason, .. } => match reason {
            BlockReason::RealmUrl
            | BlockReason::RealmDowngrade
            | BlockReason::RealmPlain
            | BlockReason::RealmUnlisted => "realm",
            BlockReason::Address { .. } | BlockReason::Metadata { .. } | BlockReason::Own => "connect",
            BlockReason::Downgrade | BlockReason::Userinfo | BlockReason::Fragment | BlockReason::TooManyRedirects => {
                "redirect"
            }
        },
        E::Loop { .. } => "loop",
        E::Unauthorized { .. } | E::Denied { .. } => "login",
        E::NotARegistry { .. } | E::Malformed { .. } | E::Status { .. } | E::NotFound { .. } => "not a registry",
        E::Throttled { .. } | E::Reserved { .. } | E::Busy { .. } | E::CircuitOpen { .. } => "throttled",
        E::Mismatch { .. } | E::TooLarge { .. } => "answer",
    }
}

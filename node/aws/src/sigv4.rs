//! Signature version 4: sign (clients) and verify (server) over one canonical form.
//!
//! The server takes a request apart in two steps, because between them it must look the key up: [`claim`] reads what
//! the request says about itself, [`Claim::verify`] holds it against the key. Until then nothing of the claim is to be
//! believed.
//!
//! Invariants:
//! - What decides the meaning of a request is signed: host, date, target and session token. A request that carries one
//!   of them unsigned is refused, whatever its signature.
//! - The payload's hash is always taken from the body that arrived, never from a header.
//! - Signatures compare in constant time.

mod canonical;
mod claim;
mod sign;
mod time;

use aws_lc_rs::hmac;
use flotilla_base::Secret;

use crate::ErrorCode;

pub use claim::{Claim, Scope, claim};
pub use sign::{Credentials, Unsignable, sign};

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// AWS's own bound for ECR; wide enough for a laptop's clock, narrow enough to bound replays.
pub const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// Why a signature is refused. Messages go to the client, which knows all that is in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("Missing Authentication Token: the request carries no Authorization header of signature version 4")]
    Missing,
    #[error("Signed URLs are not accepted here: sign with the Authorization header")]
    QueryString,
    #[error("The signature is incomplete: {0}")]
    Incomplete(&'static str),
    #[error("'{0}' must be among the SignedHeaders")]
    Unsigned(&'static str),
    #[error("Credential should be scoped to a valid {0}")]
    Scope(&'static str),
    #[error(
        "Signature expired or not yet current: {signed} is more than 15 min from this node's time {now}; check both clocks"
    )]
    Skew { signed: String, now: String },
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method. A proxy in front of this node must preserve the Host header."
    )]
    Mismatch,
}

impl SignatureError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::MISSING_AUTHENTICATION_TOKEN,
            Self::QueryString | Self::Incomplete(_) | Self::Unsigned(_) => ErrorCode::INCOMPLETE_SIGNATURE,
            Self::Scope(_) | Self::Skew { .. } | Self::Mismatch => ErrorCode::INVALID_SIGNATURE,
        }
    }
}

/// The key that signs strings of one day, region and service.
fn signing_key(secret: &Secret, scope: &Scope) -> hmac::Key {
    let mut start = Vec::with_capacity(4 + secret.expose().len());
    start.extend_from_slice(b"AWS4");
    start.extend_from_slice(secret.expose());
    let start = Secret::new(start);
    [scope.date.as_str(), &scope.region, &scope.service, "aws4_request"]
        .into_iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, start.expose()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod vector_tests;

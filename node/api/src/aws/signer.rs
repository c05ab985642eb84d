//! Who signed a call.

use bytes::Bytes;
use flotilla_aws::{ErrorCode, sigv4};
use flotilla_base::Secret;
use flotilla_registry::access::PrincipalArn;
use flotilla_service::Caller;
use flotilla_state::IdempotencyKey;
use http::{HeaderMap, request};

use super::{AwsError, Row};
use crate::{Door, http::Arrival};

/// SDKs send a UUID.
const MAX_INVOCATION_BYTES: usize = 64;

/// Whose key a request names; to be believed only after [`Signer::verify`].
pub(super) struct Signer {
    claim: sigv4::Claim,
    principal: PrincipalArn,
    secret: Secret,
}

impl Signer {
    /// # Errors
    /// Every request that is not signed as it must be, or with no key of ours.
    pub(super) async fn find(door: &Door, head: &request::Parts) -> Result<Self, AwsError> {
        let claim = sigv4::claim(head).map_err(|error| refused(&error))?;
        if claim.session_token.is_some() {
            let text = "The security token included in the request is invalid: no session tokens are issued here.";
            return Err(AwsError::new(ErrorCode::UNRECOGNIZED_CLIENT, text));
        }
        let key = door.services.access.signing_key(&claim.access_key_id).await;
        let key = key.map_err(|error| AwsError::from_service(&error, &door.account_id()))?;
        let (principal, secret) = key.ok_or_else(|| {
            AwsError::new(ErrorCode::UNRECOGNIZED_CLIENT, "The security token included in the request is invalid.")
        })?;
        Ok(Self { claim, principal, secret })
    }

    /// # Errors
    /// Everything that keeps a signature from being believed.
    pub(super) fn verify(
        self,
        door: &Door,
        arrival: &Arrival,
        head: &request::Parts,
        body: &Bytes,
        row: &Row,
    ) -> Result<Caller, AwsError> {
        let Self { claim, principal, secret } = self;
        let expected = row.service.signing_name();
        if claim.scope.service != expected {
            let text = format!("Credential should be scoped to correct service: '{expected}'.");
            return Err(AwsError::new(ErrorCode::INVALID_SIGNATURE, text));
        }
        claim.verify(head, body, &secret, door.host.clock.now()).map_err(|error| refused(&error))?;
        Ok(Caller {
            principal,
            access_key: Some(claim.access_key_id),
            source_ip: Some(arrival.client),
            request: arrival.request,
            region: Some(claim.scope.region),
            idempotency: idempotency(&head.headers, row.name, body),
        })
    }
}

fn refused(error: &sigv4::SignatureError) -> AwsError {
    AwsError::new(error.code(), error.to_string())
}

/// The same on every attempt of one call, so that a create whose reply was lost succeeds again.
fn idempotency(headers: &HeaderMap, operation: &str, body: &[u8]) -> Option<IdempotencyKey> {
    let invocation = headers.get("amz-sdk-invocation-id")?.to_str().ok()?;
    (1..=MAX_INVOCATION_BYTES).contains(&invocation.len()).then(|| IdempotencyKey {
        invocation: invocation.to_owned(),
        operation: operation.to_owned(),
        body: *blake3::hash(body).as_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_invocation_operation_and_body() {
        let key = |invocation: &str, operation, body: &[u8]| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("amz-sdk-invocation-id"),
                invocation.parse().unwrap(),
            )]);
            idempotency(&headers, operation, body)
        };
        let first = key("a", "CreateRepository", b"{}").unwrap();
        assert_eq!(key("a", "CreateRepository", b"{}").unwrap(), first);
        for other in [key("b", "CreateRepository", b"{}"), key("a", "X", b"{}"), key("a", "CreateRepository", b"{ }")] {
            assert_ne!(other.unwrap(), first);
        }
        assert_eq!(key(&"a".repeat(65), "X", b""), None);
        assert_eq!(key("", "X", b""), None);
        assert_eq!(idempotency(&HeaderMap::new(), "X", b""), None);
    }
}

use std::time::Duration;

use flotilla_oci::ErrorCode;
use flotilla_registry::{Refusal, access::PrincipalArn, mapping::Unmapped};
use flotilla_service::{Limit, ServiceError};
use flotilla_transfer::TransferError;
use flotilla_upstream::{BlockReason, UpstreamError};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::http::{Arrival, Body, observe::Chain};

/// What a registry client is told. `reason` is a stable word for programs; with the hint it is shown only to those who
/// signed in (`requirements.md` A).
#[derive(Debug)]
pub(crate) struct OciError(Box<Told>);

#[derive(Debug)]
struct Told {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    reason: &'static str,
    hint: Option<&'static str>,
    retry_after: Option<Duration>,
    challenge: Option<String>,
    content_range: Option<String>,
    upstream_status: Option<u16>,
    cause: Option<String>,
}

/// ECR's text for every image that is not there (`ecr-api.md` §7).
const NO_IMAGE: &str = "Requested image not found";

impl OciError {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            status,
            code,
            message: message.into(),
            reason: "request",
            hint: None,
            retry_after: None,
            challenge: None,
            content_range: None,
            upstream_status: None,
            cause: None,
        }))
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(super) fn unauthorized(message: &str, challenge: String) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message).reason("sign-in");
        error.0.challenge = Some(challenge);
        error
    }

    pub(super) fn unsatisfiable(len: u64) -> Self {
        let text = "the blob has nothing in that range";
        let mut error = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::RangeInvalid, text);
        error.0.content_range = Some(format!("bytes */{len}"));
        error
    }

    fn reason(mut self, reason: &'static str) -> Self {
        self.0.reason = reason;
        self
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.0.hint = Some(hint);
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The one table from what went wrong to what the spec calls it.
    pub(super) fn from_service(error: &ServiceError, account_id: &str) -> Self {
        use ServiceError as E;
        let mut mapped = match error {
            E::Refused(refusal) => from_refusal(refusal, account_id),
            E::Denied { action, .. } => {
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, format!("{} is not allowed here", action.0))
                    .reason("denied")
            }
            E::Invalid { why, .. } => Self::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, why.clone()),
            E::NoManifest { .. } => no_manifest(),
            E::NoBlob { .. } => no_blob(),
            E::Filtered { .. } => {
                let text = "the filters of its cache rule keep this name from the upstream registry";
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, text)
                    .reason("rule-filter")
                    .hint("the allow and deny globs of the rule say what it fetches: flotilla rule list")
            }
            E::Unmapped(unmapped) => from_unmapped(unmapped),
            E::Busy { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, "too many requests, retry later")
                    .reason("busy")
                    .retry_after(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            E::Limited { what, retry_after } => limited(*what, *retry_after),
            E::Unavailable { retry_after } => unavailable("no-leader", *retry_after),
            E::Upstream(error) => from_upstream(error),
            E::Origin(_) => bad_gateway("origin").hint("see the cache rule of this repository and its credential"),
            E::Transfer(error) => from_transfer(error),
            // What only calls about rules end with, and what should not happen at all.
            E::UnsupportedUpstream(_)
            | E::NoSecretVersion(_)
            | E::SecretRequest(_)
            | E::Unseal(_)
            | E::State(_)
            | E::Unexpected(_) => internal(),
        };
        mapped.0.cause = Some(Chain(error).to_string());
        mapped
    }

    pub(super) fn into_response(self, arrival: &Arrival, principal: Option<&PrincipalArn>) -> Response<Body> {
        let told = *self.0;
        let mut error = json!({ "code": told.code.as_str(), "message": told.message });
        if principal.is_some_and(|principal| !principal.is_anonymous()) {
            error["detail"] =
                json!({ "requestId": arrival.request.to_string(), "reason": told.reason, "hint": told.hint });
        }
        let mut response = Response::new(Body::from(json!({ "errors": [error] }).to_string()));
        *response.status_mut() = told.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = told.retry_after {
            // Whole seconds; none would be "now".
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil().max(1.0) as u64));
        }
        for (name, value) in [(header::WWW_AUTHENTICATE, told.challenge), (header::CONTENT_RANGE, told.content_range)] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
        arrival.record.note(|facts| {
            facts.upstream_status = told.upstream_status;
            facts.error = Some(told.cause.unwrap_or(told.message));
        });
        response
    }
}

fn from_refusal(refusal: &Refusal, account_id: &str) -> OciError {
    match refusal {
        Refusal::NoRepository(name) => OciError::new(
            StatusCode::NOT_FOUND,
            ErrorCode::NameUnknown,
            format!("The repository with name '{name}' does not exist in the registry with id '{account_id}'"),
        )
        .reason("no-repository"),
        Refusal::NoTemplate(_) => OciError::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "repository not found")
            .reason("no-template")
            .hint("repositories are created on pull only where a creation template covers their name"),
        Refusal::NoImage { .. } | Refusal::BadManifest(_) => no_manifest(),
        Refusal::FrozenTag(name, tag) => OciError::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::TagInvalid,
            format!(
                "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because \
                 the tag is immutable."
            ),
        )
        .reason("frozen-tag"),
        Refusal::NoRule(_) => bad_gateway("rule-gone"),
        // What a client's next attempt meets differently.
        Refusal::Moved | Refusal::PartsMissing(_) | Refusal::Condemned(_) | Refusal::StaleOperation => {
            unavailable("changed-meanwhile", Duration::from_secs(1))
        }
        Refusal::Limit { what, limit } => {
            let text = format!("at most {limit} {what} are allowed");
            OciError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, text).reason("limit")
        }
        // No pull makes, names or removes any of these.
        Refusal::RepositoryExists(_)
        | Refusal::RepositoryNotEmpty(_)
        | Refusal::RuleExists(_)
        | Refusal::TemplateExists(_)
        | Refusal::TemplateMissing(_)
        | Refusal::TooManyTags(_)
        | Refusal::AlreadyFounded
        | Refusal::TimeStep
        | Refusal::BadSetting(_)
        | Refusal::NoSecret(_)
        | Refusal::SecretExists(_)
        | Refusal::SecretDeleted(_)
        | Refusal::SecretPinned { .. }
        | Refusal::NoRobot(_)
        | Refusal::RobotExists(_)
        | Refusal::NoAccessKey(_)
        | Refusal::LastRootKey(_) => internal(),
    }
}

/// Which rules there are is not for everybody: the log and `flotilla rule check` name them.
fn from_unmapped(unmapped: &Unmapped) -> OciError {
    let unknown = |text: String| OciError::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, text);
    let why = |reason, error: OciError| {
        error.reason(reason).hint("flotilla rule check NAME --ns HOST names the rules that stand in the way")
    };
    match unmapped {
        Unmapped::NoRule { .. } => unknown(unmapped.to_string())
            .reason("mirror-no-rule")
            .hint("flotilla rule set PREFIX --mirror makes a cache rule stand in for its upstream host"),
        Unmapped::Ambiguous { host, name, .. } => {
            why("mirror-ambiguous", unknown(format!("more than one cache rule mirrors '{name}' of '{host}'")))
        }
        Unmapped::Shadowed { host, name, .. } => {
            why("mirror-shadowed", unknown(format!("the name of '{name}' of '{host}' is taken by another cache rule")))
        }
        Unmapped::CreatedHere { host, name, .. } => why(
            "mirror-created-here",
            unknown(format!("the name of '{name}' of '{host}' is that of a repository made here")),
        ),
    }
}

fn from_transfer(error: &TransferError) -> OciError {
    match error {
        TransferError::Nowhere(_) => no_blob(),
        TransferError::Mismatch(_) => bad_gateway("mismatch"),
        TransferError::Origin(_) => bad_gateway("origin"),
        TransferError::Lost(_) => {
            bad_gateway("lost").hint("the cache rule that this blob came through is gone: create it again")
        }
        TransferError::Storage(_) => internal(),
        TransferError::Upstream(error) => from_upstream(error),
        TransferError::Busy => OciError::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyRequests,
            "too many blobs are being fetched, retry later",
        )
        .reason("busy")
        .retry_after(Duration::from_secs(1)),
        TransferError::Stopping => unavailable("stopping", Duration::from_secs(1)),
        // Said while the body flows: nobody reads it as a status.
        TransferError::SlowClient(_) => unavailable("slow-client", Duration::from_secs(1)),
    }
}

fn from_upstream(error: &UpstreamError) -> OciError {
    let mut told = of_upstream(error);
    told.0.upstream_status = error.status();
    told
}

fn of_upstream(error: &UpstreamError) -> OciError {
    use UpstreamError as E;
    match error {
        E::NotFound { .. } => no_manifest(),
        E::Unauthorized { .. } | E::Denied { .. } => upstream_denies(),
        E::Throttled { retry_after, .. } => {
            let text = "the upstream registry limits our rate";
            OciError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, text)
                .reason("upstream-throttles")
                .hint("a credential on the cache rule raises the limit of most registries")
                .retry_after(retry_after.unwrap_or(Duration::from_secs(60)))
        }
        E::Reserved { retry_after, .. } => {
            let text = "the upstream registry's rate limit is nearly used up; the rest is kept for those who sign in";
            OciError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, text)
                .reason("upstream-reserved")
                .hint("sign in, or give the cache rule a credential")
                .retry_after(*retry_after)
        }
        E::Busy { .. } => unavailable("upstream-busy", Duration::from_secs(1)),
        E::CircuitOpen { retry_after, .. } => unavailable("upstream-circuit-open", *retry_after),
        E::Unavailable { .. } => bad_gateway("upstream-unavailable"),
        E::Status { .. } => bad_gateway("upstream-status"),
        E::NotARegistry { .. } | E::Malformed { .. } => bad_gateway("upstream-malformed"),
        E::Mismatch { .. } => bad_gateway("mismatch"),
        E::TooLarge { .. } => bad_gateway("upstream-too-large"),
        E::Blocked { reason: BlockReason::Own, .. } => {
            bad_gateway("upstream-is-this-node").hint("the upstream of the cache rule leads back to this node")
        }
        E::Blocked { .. } => bad_gateway("upstream-blocked")
            .hint("an address, a redirect or a token realm of the upstream is not allowed; the log names it"),
        E::Loop { .. } => {
            let text = "the upstream registry leads back to a cluster that this request came through";
            OciError::new(StatusCode::LOOP_DETECTED, ErrorCode::Unsupported, text)
                .reason("upstream-loop")
                .hint("two caches have rules that lead to each other for this name")
        }
    }
}

/// What is held stays served meanwhile.
fn limited(what: Limit, after: Duration) -> OciError {
    let (reason, text) = match what {
        Limit::Misses => ("limit-misses", "too many pulls of what is not cached yet"),
        Limit::NewRepositories => ("limit-new-repositories", "too many pulls from repositories that are new here"),
        Limit::Revalidations => ("limit-revalidations", "too many pulls of tags that are to be validated"),
        Limit::UpstreamBytes => ("limit-upstream-bytes", "too many bytes of what is not cached yet"),
    };
    OciError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, format!("{text}, retry later"))
        .reason(reason)
        .hint("[limits] of the configuration sets it; images that are held are not limited")
        .retry_after(after)
}

fn no_manifest() -> OciError {
    OciError::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, NO_IMAGE).reason("no-manifest")
}

fn no_blob() -> OciError {
    OciError::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, "blob unknown to this repository").reason("no-blob")
}

/// Docker Hub answers so for what does not exist, too, and leaves open which.
fn upstream_denies() -> OciError {
    let text = "the upstream registry denies this: it does not exist there, or the cache rule needs a credential";
    OciError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, text).reason("upstream-denied")
}

fn unavailable(reason: &'static str, after: Duration) -> OciError {
    OciError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, "temporarily unavailable, retry")
        .reason(reason)
        .retry_after(after)
}

fn bad_gateway(reason: &'static str) -> OciError {
    OciError::new(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable, "the upstream registry did not deliver")
        .reason(reason)
        .retry_after(Duration::from_secs(5))
}

fn internal() -> OciError {
    OciError::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, "internal error").reason("internal")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn table(error: &ServiceError) -> (u16, &'static str, String) {
        let error = OciError::from_service(error, "000000000000");
        (error.0.status.as_u16(), error.0.code.as_str(), error.0.message)
    }

    #[test]
    fn failures_have_the_codes_and_texts_of_ecr() {
        let host: Arc<str> = "quay.io".into();
        let name: flotilla_oci::Name = "a/b".parse().unwrap();
        let reference = "latest".parse().unwrap();
        for (error, status, code) in [
            (Refusal::NoTemplate(name.clone()).into(), 404, "NAME_UNKNOWN"),
            (ServiceError::NoManifest { repository: name.clone(), reference }, 404, "MANIFEST_UNKNOWN"),
            (ServiceError::Busy { retry_after: None }, 429, "TOOMANYREQUESTS"),
            (ServiceError::Unavailable { retry_after: Duration::ZERO }, 503, "UNAVAILABLE"),
            (ServiceError::Upstream(UpstreamError::NotFound { host: host.clone() }), 404, "MANIFEST_UNKNOWN"),
            (ServiceError::Upstream(UpstreamError::Denied { host: host.clone() }), 403, "DENIED"),
            (
                ServiceError::Upstream(UpstreamError::Throttled { host: host.clone(), retry_after: None }),
                429,
                "TOOMANYREQUESTS",
            ),
            (
                ServiceError::Upstream(UpstreamError::Reserved { host, retry_after: Duration::ZERO }),
                429,
                "TOOMANYREQUESTS",
            ),
            (ServiceError::Limited { what: Limit::Misses, retry_after: Duration::ZERO }, 429, "TOOMANYREQUESTS"),
            (ServiceError::Transfer(TransferError::Stopping), 503, "UNAVAILABLE"),
            (ServiceError::Transfer(TransferError::Lost(flotilla_oci::Digest::Sha256([0; 32]))), 502, "UNAVAILABLE"),
            (ServiceError::Unexpected("x"), 500, "UNKNOWN"),
        ] {
            let found = table(&error);
            assert_eq!((found.0, found.1), (status, code), "{found:?}");
        }
        let (status, code, text) = table(&Refusal::NoRepository(name).into());
        assert_eq!((status, code), (404, "NAME_UNKNOWN"));
        assert_eq!(text, "The repository with name 'a/b' does not exist in the registry with id '000000000000'");
    }

    #[test]
    fn what_failed_inside_is_logged_and_not_told() {
        let error = OciError::from_service(&ServiceError::Unexpected("internals"), "000000000000");
        assert!(!error.0.message.contains("internals"));
        assert!(error.0.cause.unwrap().contains("internals"));
    }
}

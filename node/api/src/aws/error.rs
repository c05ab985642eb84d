use std::time::Duration;

use flotilla_aws::{ErrorCode, ecr::TagsRefused, validate::InvalidParameter};
use flotilla_oci::{Digest, Name};
use flotilla_registry::{Refusal, access::Resource};
use flotilla_service::{Caller, ServiceError};
use flotilla_transfer::TransferError;
use http::StatusCode;

use crate::http::observe::Chain;

pub(super) const TOO_LARGE: ErrorCode = ErrorCode("RequestEntityTooLargeException");

/// What an AWS client is told.
#[derive(Debug)]
pub(super) struct AwsError {
    code: ErrorCode,
    message: String,
    retry_after: Option<Duration>,
    cause: Option<String>,
}

impl AwsError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None, cause: None }
    }

    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// 503 where there is hope: SDKs retry every 5xx, and proxies understand this one.
    pub(super) fn status(&self) -> StatusCode {
        if self.code == ErrorCode::SERVER && self.retry_after.is_some() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            self.code.status()
        }
    }

    /// For the log line.
    pub(super) fn logged(&self) -> String {
        format!("{}: {}", self.code, self.cause.as_deref().unwrap_or(&self.message))
    }

    /// The one table from what went wrong to what AWS calls it.
    pub(super) fn from_service(error: &ServiceError, account_id: &str) -> Self {
        use ServiceError as E;
        let mapped = match error {
            E::Refused(refusal) => from_refusal(refusal, account_id),
            E::Denied { action, .. } => {
                Self::new(ErrorCode::ACCESS_DENIED, format!("not authorized to perform: {}", action.0))
            }
            E::Invalid { member, why } => InvalidParameter::new(*member, why.as_str()).into(),
            E::NoManifest { repository, reference } => {
                let (digest, tag) = match reference {
                    flotilla_oci::Reference::Digest(digest) => (Some(digest.to_string()), None),
                    flotilla_oci::Reference::Tag(tag) => (None, Some(tag.to_string())),
                };
                no_image(repository.as_str(), digest.as_deref(), tag.as_deref(), account_id)
            }
            E::NoBlob { repository, digest } => no_blob(repository, digest, account_id),
            E::Filtered { repository, .. } => Self::new(
                ErrorCode::UNABLE_TO_GET_UPSTREAM_IMAGE,
                format!("The filters of its cache rule keep '{repository}' from the upstream registry"),
            ),
            E::Unmapped(unmapped) => InvalidParameter::new("ns", unmapped.to_string()).into(),
            E::UnsupportedUpstream(url) => Self::new(
                ErrorCode::UNSUPPORTED_UPSTREAM_REGISTRY,
                format!(
                    "The upstream registry URL {url} is invalid. Specify a valid upstream registry URL and try again"
                ),
            ),
            E::NoSecretVersion(_) => Self::new(ErrorCode::SECRET_NOT_FOUND, error.to_string()),
            E::SecretRequest(text) => Self::new(ErrorCode::UNABLE_TO_ACCESS_SECRET, text.clone()),
            E::Unseal(_) => Self::new(ErrorCode::UNABLE_TO_DECRYPT_SECRET_VALUE, "The secret's value cannot be opened"),
            E::Busy { .. } => Self::new(ErrorCode::THROTTLING, "Rate exceeded"),
            E::Limited { retry_after, .. } => {
                Self { retry_after: Some(*retry_after), ..Self::new(ErrorCode::THROTTLING, "Rate exceeded") }
            }
            E::Unavailable { retry_after } => {
                let text = "temporarily unavailable; the outcome of a change is unknown, retry";
                Self { retry_after: Some(*retry_after), ..Self::new(ErrorCode::SERVER, text) }
            }
            E::Upstream(_) | E::Origin(_) | E::Transfer(TransferError::Upstream(_) | TransferError::Origin(_)) => {
                Self::new(
                    ErrorCode::UNABLE_TO_GET_UPSTREAM_IMAGE,
                    "The image could not be read from its upstream registry",
                )
            }
            E::Transfer(_) | E::State(_) | E::Unexpected(_) => Self::new(ErrorCode::SERVER, "internal error"),
        };
        Self { cause: Some(Chain(error).to_string()), ..mapped }
    }

    /// AWS's text for a denial names who, what and on what.
    pub(super) fn from_denied(
        error: ServiceError,
        caller: &Caller,
        resource: &Resource,
        account_id: &str,
        home_region: &str,
    ) -> Self {
        let ServiceError::Denied { action, .. } = &error else { return Self::from_service(&error, account_id) };
        let region = caller.region.as_deref().unwrap_or(home_region);
        let resource = match resource {
            Resource::Repository(name) => format!("arn:aws:ecr:{region}:{account_id}:repository/{name}"),
            Resource::Secret(name) => format!("arn:aws:secretsmanager:{region}:{account_id}:secret:{name}"),
            Resource::Registry | Resource::Cluster => "*".to_owned(),
        };
        let text =
            format!("User: {} is not authorized to perform: {} on resource: {resource}", caller.principal, action.0);
        Self::new(ErrorCode::ACCESS_DENIED, text)
    }
}

impl From<InvalidParameter> for AwsError {
    fn from(error: InvalidParameter) -> Self {
        Self::new(ErrorCode::INVALID_PARAMETER, error.to_string())
    }
}

impl From<TagsRefused> for AwsError {
    fn from(error: TagsRefused) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

pub(super) fn no_image(repository: &str, digest: Option<&str>, tag: Option<&str>, account_id: &str) -> AwsError {
    let quoted = |text: Option<&str>| text.map_or_else(|| "'null'".to_owned(), |text| format!("'{text}'"));
    AwsError::new(
        ErrorCode::IMAGE_NOT_FOUND,
        format!(
            "The image with imageId {{imageDigest:{}, imageTag:{}}} does not exist within the repository with name \
             '{repository}' in the registry with id '{account_id}'",
            quoted(digest),
            quoted(tag)
        ),
    )
}

fn no_blob(repository: &Name, digest: &Digest, account_id: &str) -> AwsError {
    AwsError::new(
        ErrorCode("LayersNotFoundException"),
        format!(
            "The layer with digest '{digest}' does not exist in the repository with name '{repository}' in the \
             registry with id '{account_id}'"
        ),
    )
}

fn from_refusal(refusal: &Refusal, account_id: &str) -> AwsError {
    use ErrorCode as C;
    let (code, text) = match refusal {
        Refusal::NoRepository(name) => (
            C::REPOSITORY_NOT_FOUND,
            format!("The repository with name '{name}' does not exist in the registry with id '{account_id}'"),
        ),
        Refusal::NoTemplate(name) => (
            C::REPOSITORY_NOT_FOUND,
            format!(
                "The repository with name '{name}' does not exist in the registry with id '{account_id}', and no \
                 creation template covers it"
            ),
        ),
        Refusal::RepositoryExists(name) => (
            C::REPOSITORY_ALREADY_EXISTS,
            format!("The repository with name '{name}' already exists in the registry with id '{account_id}'"),
        ),
        Refusal::RepositoryNotEmpty(name) => (
            C::REPOSITORY_NOT_EMPTY,
            format!(
                "The repository with name '{name}' in registry with id '{account_id}' cannot be deleted because it \
                 still contains images"
            ),
        ),
        Refusal::NoImage { repository, digest, tag } => {
            let digest = digest.map(|digest| digest.to_string());
            let tag = tag.as_ref().map(flotilla_oci::Tag::as_str);
            return no_image(repository.as_str(), digest.as_deref(), tag, account_id);
        }
        Refusal::FrozenTag(name, tag) => (
            C::IMAGE_TAG_ALREADY_EXISTS,
            format!(
                "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because \
                 the tag is immutable."
            ),
        ),
        Refusal::RuleExists(prefix) => (
            C::PULL_THROUGH_CACHE_RULE_ALREADY_EXISTS,
            format!(
                "The pull through cache rule with prefix '{prefix}' already exists in the registry with id \
                 '{account_id}'"
            ),
        ),
        Refusal::NoRule(prefix) => (
            C::PULL_THROUGH_CACHE_RULE_NOT_FOUND,
            format!(
                "The pull through cache rule with prefix '{prefix}' does not exist in the registry with id \
                 '{account_id}'"
            ),
        ),
        Refusal::TemplateExists(prefix) => (
            C::TEMPLATE_ALREADY_EXISTS,
            format!(
                "The repository creation template with prefix '{prefix}' already exists in the registry with id \
                 '{account_id}'"
            ),
        ),
        Refusal::TemplateMissing(prefix) => (
            C::TEMPLATE_NOT_FOUND,
            format!(
                "The repository creation template with prefix '{prefix}' does not exist in the registry with id \
                 '{account_id}'"
            ),
        ),
        Refusal::Limit { what, limit } => (C::LIMIT_EXCEEDED, format!("at most {limit} {what} are allowed")),
        Refusal::TooManyTags(_) => return TagsRefused::TooMany.into(),
        Refusal::BadSetting(name) => {
            let why = format!("'{name}' is not known, or has no such value");
            return InvalidParameter::new("name", why).into();
        }
        Refusal::BadManifest(_) | Refusal::PartsMissing(_) => {
            (C::UNABLE_TO_GET_UPSTREAM_IMAGE, "The image could not be read from its upstream registry".to_owned())
        }
        // What the same call meets differently; SDKs send it again.
        Refusal::Moved | Refusal::Condemned(_) | Refusal::StaleOperation => {
            let error = AwsError::new(C::SERVER, "it changed meanwhile, retry");
            return AwsError { retry_after: Some(Duration::from_secs(1)), ..error };
        }
        Refusal::NoSecret(id) => (C::SECRET_NOT_FOUND, format!("The secret '{id}' does not exist")),
        Refusal::SecretExists(_) => (C("ResourceExistsException"), refusal.to_string()),
        Refusal::SecretDeleted(_) | Refusal::SecretPinned { .. } => (C::UNABLE_TO_ACCESS_SECRET, refusal.to_string()),
        Refusal::NoRobot(_) | Refusal::NoAccessKey(_) => (C("NoSuchEntityException"), refusal.to_string()),
        Refusal::RobotExists(_) => (C("EntityAlreadyExistsException"), refusal.to_string()),
        Refusal::LastRootKey(_) => (C("DeleteConflictException"), refusal.to_string()),
        Refusal::AlreadyFounded | Refusal::TimeStep => (C::SERVER, "internal error".to_owned()),
    };
    AwsError::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_codes_and_texts_of_aws() {
        let name: Name = "a/b".parse().unwrap();
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        for (refusal, code, text) in [
            (
                Refusal::NoRepository(name.clone()),
                "RepositoryNotFoundException",
                "The repository with name 'a/b' does not exist in the registry with id '000000000000'".to_owned(),
            ),
            (
                Refusal::RepositoryNotEmpty(name.clone()),
                "RepositoryNotEmptyException",
                "The repository with name 'a/b' in registry with id '000000000000' cannot be deleted because it still \
                 contains images"
                    .to_owned(),
            ),
            (
                Refusal::NoImage { repository: name.clone(), digest: Some(digest), tag: None },
                "ImageNotFoundException",
                format!(
                    "The image with imageId {{imageDigest:'{digest}', imageTag:'null'}} does not exist within the \
                     repository with name 'a/b' in the registry with id '000000000000'"
                ),
            ),
            (
                Refusal::FrozenTag(name, "v1".parse().unwrap()),
                "ImageTagAlreadyExistsException",
                "The image tag 'v1' already exists in the 'a/b' repository and cannot be overwritten because the tag \
                 is immutable."
                    .to_owned(),
            ),
        ] {
            let error = AwsError::from_service(&refusal.into(), "000000000000");
            assert_eq!((error.code.0, error.message), (code, text));
        }
    }

    #[test]
    fn trouble_of_ours_is_retried_and_not_explained() {
        let error = AwsError::from_service(&ServiceError::Unavailable { retry_after: Duration::ZERO }, "0");
        assert_eq!((error.code, error.status().as_u16()), (ErrorCode::SERVER, 503));
        let error = AwsError::from_service(&ServiceError::Unexpected("internals"), "0");
        assert_eq!(error.status().as_u16(), 500);
        assert!(!error.message.contains("internals") && error.logged().contains("internals"));
    }
}

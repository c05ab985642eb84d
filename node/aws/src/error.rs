use std::fmt;

use serde::{Deserialize, Serialize};

/// What AWS calls a failure. Clients act on this code and show the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub &'static str);

impl ErrorCode {
    pub const ACCESS_DENIED: Self = Self("AccessDeniedException");
    pub const DECRYPTION_FAILURE: Self = Self("DecryptionFailure");
    pub const EXPIRED_TOKEN: Self = Self("ExpiredTokenException");
    pub const IMAGE_ALREADY_EXISTS: Self = Self("ImageAlreadyExistsException");
    pub const IMAGE_NOT_FOUND: Self = Self("ImageNotFoundException");
    pub const IMAGE_TAG_ALREADY_EXISTS: Self = Self("ImageTagAlreadyExistsException");
    pub const INCOMPLETE_SIGNATURE: Self = Self("IncompleteSignatureException");
    pub const INVALID_PARAMETER: Self = Self("InvalidParameterException");
    pub const INVALID_REQUEST: Self = Self("InvalidRequestException");
    pub const INVALID_SIGNATURE: Self = Self("InvalidSignatureException");
    pub const INVALID_TAG_PARAMETER: Self = Self("InvalidTagParameterException");
    pub const KMS: Self = Self("KmsException");
    pub const LIFECYCLE_POLICY_NOT_FOUND: Self = Self("LifecyclePolicyNotFoundException");
    pub const LIMIT_EXCEEDED: Self = Self("LimitExceededException");
    pub const MISSING_AUTHENTICATION_TOKEN: Self = Self("MissingAuthenticationTokenException");
    pub const PULL_THROUGH_CACHE_RULE_ALREADY_EXISTS: Self = Self("PullThroughCacheRuleAlreadyExistsException");
    pub const PULL_THROUGH_CACHE_RULE_NOT_FOUND: Self = Self("PullThroughCacheRuleNotFoundException");
    pub const REPOSITORY_ALREADY_EXISTS: Self = Self("RepositoryAlreadyExistsException");
    pub const REPOSITORY_NOT_EMPTY: Self = Self("RepositoryNotEmptyException");
    pub const REPOSITORY_NOT_FOUND: Self = Self("RepositoryNotFoundException");
    pub const REPOSITORY_POLICY_NOT_FOUND: Self = Self("RepositoryPolicyNotFoundException");
    pub const RESOURCE_EXISTS: Self = Self("ResourceExistsException");
    pub const RESOURCE_NOT_FOUND: Self = Self("ResourceNotFoundException");
    pub const SECRET_NOT_FOUND: Self = Self("SecretNotFoundException");
    pub const SERIALIZATION: Self = Self("SerializationException");
    pub const SERVER: Self = Self("ServerException");
    pub const TEMPLATE_ALREADY_EXISTS: Self = Self("TemplateAlreadyExistsException");
    pub const TEMPLATE_NOT_FOUND: Self = Self("TemplateNotFoundException");
    pub const THROTTLING: Self = Self("ThrottlingException");
    pub const TOO_MANY_TAGS: Self = Self("TooManyTagsException");
    pub const UNABLE_TO_ACCESS_SECRET: Self = Self("UnableToAccessSecretException");
    pub const UNABLE_TO_DECRYPT_SECRET_VALUE: Self = Self("UnableToDecryptSecretValueException");
    pub const UNABLE_TO_GET_UPSTREAM_IMAGE: Self = Self("UnableToGetUpstreamImageException");
    pub const UNKNOWN_OPERATION: Self = Self("UnknownOperationException");
    pub const UNRECOGNIZED_CLIENT: Self = Self("UnrecognizedClientException");
    pub const UNSUPPORTED_UPSTREAM_REGISTRY: Self = Self("UnsupportedUpstreamRegistryException");
    pub const VALIDATION: Self = Self("ValidationException");

    /// HTTP status of a JSON error: clients look only at the code, but retry what is 5xx.
    pub fn status(self) -> http::StatusCode {
        if self == Self::SERVER { http::StatusCode::INTERNAL_SERVER_ERROR } else { http::StatusCode::BAD_REQUEST }
    }

    /// The code as services of the Query protocol (STS, IAM) write it: without `Exception`, and with their own names
    /// for a bad signature, key and operation.
    pub fn query_code(self) -> &'static str {
        match self {
            Self::INVALID_SIGNATURE => "SignatureDoesNotMatch",
            Self::UNRECOGNIZED_CLIENT => "InvalidClientTokenId",
            Self::UNKNOWN_OPERATION => "InvalidAction",
            Self::ACCESS_DENIED => "AccessDenied",
            Self::EXPIRED_TOKEN => "ExpiredToken",
            Self::INVALID_PARAMETER => "InvalidParameterValue",
            Self::SERVER => "InternalFailure",
            Self(name) => name.strip_suffix("Exception").unwrap_or(name),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Body of every JSON error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// `<Code>` or `prefix#<Code>`.
    #[serde(rename = "__type", default)]
    pub code: String,
    #[serde(default, alias = "Message")]
    pub message: String,
}

impl ErrorBody {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.0.to_owned(), message: message.into() }
    }

    /// The code without a prefix.
    pub fn bare_code(&self) -> &str {
        self.code.rsplit('#').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_follows_the_hash() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"__type":"com.amazonaws.ecr#ServerException","Message":"no"}"#).unwrap();
        assert_eq!((body.bare_code(), body.message.as_str()), ("ServerException", "no"));
        let written = serde_json::to_string(&ErrorBody::new(ErrorCode::SERVER, "no")).unwrap();
        assert_eq!(written, r#"{"__type":"ServerException","message":"no"}"#);
    }

    #[test]
    fn only_server_exceptions_are_retried() {
        assert_eq!(ErrorCode::SERVER.status(), 500);
        assert_eq!(ErrorCode::LIMIT_EXCEEDED.status(), 400);
    }

    #[test]
    fn query_services_have_names_of_their_own() {
        assert_eq!(ErrorCode::INVALID_SIGNATURE.query_code(), "SignatureDoesNotMatch");
        assert_eq!(ErrorCode::INCOMPLETE_SIGNATURE.query_code(), "IncompleteSignature");
        assert_eq!(ErrorCode::MISSING_AUTHENTICATION_TOKEN.query_code(), "MissingAuthenticationToken");
    }
}

//! Amazon ECR as an upstream: a signed `GetAuthorizationToken` gives the password, which is used as any token is: one
//! request at a time, until 80 % of its life, forgotten when it is refused.

use flotilla_aws::{
    ErrorBody, Operation,
    ecr::{GetAuthorizationToken, GetAuthorizationTokenInput, GetAuthorizationTokenOutput},
    json,
    sigv4::{Credentials, sign},
};
use flotilla_base::{ByteLen, Timestamp};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use url::Url;

use crate::{
    HttpError, Refusal, UpstreamError,
    destinations::Named,
    headers,
    origin::Origin,
    session::Session,
    tokens::{Granted, Token, TokenKey},
    wire::{Incame, Outgoing},
};

/// A password has some KiB.
const REPLY_LIMIT: ByteLen = ByteLen::kib(64);
const HOST_SUFFIX: &str = ".amazonaws.com";
/// Signed for where the host does not say: such an endpoint is the operator's own.
const OTHER_REGION: &str = "us-east-1";

/// Where a registry's passwords come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) origin: Origin,
    pub(crate) region: String,
}

impl Endpoint {
    /// Of `<account>.dkr.ecr.<region>.amazonaws.com`, or where the configuration says. `None` for all other hosts.
    pub(crate) fn of(host: &str, configured: Option<&Url>) -> Option<Self> {
        let region = region(host);
        let url = match (configured, region) {
            (Some(url), _) => url.clone(),
            (None, Some(region)) => Url::parse(&format!("https://api.ecr.{region}{HOST_SUFFIX}/")).ok()?,
            (None, None) => return None,
        };
        let origin = Origin::of(&url)?;
        Some(Self { url, origin, region: region.unwrap_or(OTHER_REGION).to_owned() })
    }
}

fn region(host: &str) -> Option<&str> {
    let mut labels = host.strip_suffix(HOST_SUFFIX)?.split('.');
    let account = labels.next()?;
    let twelve_digits = account.len() == 12 && account.bytes().all(|c| c.is_ascii_digit());
    let (registry, service, region) = (labels.next()?, labels.next()?, labels.next()?);
    let plain = !region.is_empty() && region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    (twelve_digits && registry == "dkr" && service == "ecr" && plain && labels.next().is_none()).then_some(region)
}

impl Session {
    /// The password of the registry as the value of an `Authorization` header.
    pub(crate) async fn ecr_password(&self, keys: &Credentials) -> Result<(TokenKey, Granted), UpstreamError> {
        let refused = UpstreamError::Unauthorized { host: self.site.name.clone(), reason: Refusal::NotEcr };
        let endpoint = self.site.ecr.as_ref().ok_or(refused)?;
        let service = Some(GetAuthorizationToken::SERVICE.signing_name().to_owned());
        let key = TokenKey { account: self.number(), realm: endpoint.url.clone(), service, scope: None };
        let granted =
            self.bounded(&endpoint.origin, self.shared.tokens.get(&key, || Box::pin(self.ask_ecr(keys, endpoint))));
        granted.await.map(|granted| (key.clone(), granted))
    }

    async fn ask_ecr(&self, keys: &Credentials, endpoint: &Endpoint) -> Result<Token, UpstreamError> {
        let host = || self.site.name.clone();
        let malformed = |reason| UpstreamError::Malformed { host: self.site.name.clone(), reason };
        let unusable = || self.failed(HttpError::Url { target: endpoint.origin.to_string().into() });
        let body = json::encode(&GetAuthorizationTokenInput::default());
        let target = HeaderValue::try_from(GetAuthorizationToken::target()).map_err(|_| unusable())?;
        let authority = HeaderValue::try_from(endpoint.origin.authority()).map_err(|_| unusable())?;
        let request = Request::post(endpoint.url.as_str())
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header(header::HOST, authority)
            .header("x-amz-target", target)
            .body(());
        let (mut head, ()) = request.map_err(|_| unusable())?.into_parts();
        let service = GetAuthorizationToken::SERVICE.signing_name();
        let now = self.shared.clock.now();
        sign(&mut head, &body, keys, &endpoint.region, service, now)
            .map_err(|_| UpstreamError::Unauthorized { host: host(), reason: Refusal::AwsKeys })?;
        let outgoing = Outgoing {
            method: Method::POST,
            url: &endpoint.url,
            origin: &endpoint.origin,
            // It follows from the upstream's name, or is the operator's own word.
            named: Named::ByOperator,
            headers: head.headers,
        };
        let Incame { status, headers, mut body, .. } = self.send_body(outgoing, body.into()).await?;
        if status.is_server_error() {
            let source = HttpError::Status { target: body.target().clone(), status: status.as_u16() };
            return Err(UpstreamError::Unavailable { host: host(), source });
        }
        let reply = self.whole(&mut body, REPLY_LIMIT).await?;
        if status == StatusCode::OK {
            self.judged(true);
            let token = password(&reply, now);
            return token.ok_or(malformed("its GetAuthorizationToken answers without a password"));
        }
        Err(self.refused_by_ecr(&reply, &headers))
    }

    fn refused_by_ecr(&self, reply: &[u8], headers: &HeaderMap) -> UpstreamError {
        let host = self.site.name.clone();
        let error: ErrorBody = serde_json::from_slice(reply).unwrap_or_default();
        let reason = match error.bare_code() {
            "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => {
                let retry_after = headers::retry_after(headers, self.shared.clock.now());
                return UpstreamError::Throttled { host, retry_after };
            }
            "AccessDeniedException" => Refusal::AwsDenied,
            "ExpiredTokenException" => Refusal::AwsExpired,
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => Refusal::AwsKeys,
            _ => {
                let reason = "its GetAuthorizationToken answers with an error that is not known";
                return UpstreamError::Malformed { host, reason };
            }
        };
        self.judged(false);
        UpstreamError::Unauthorized { host, reason }
    }
}

/// The reply's token is a Basic credential already.
fn password(reply: &[u8], now: Timestamp) -> Option<Token> {
    let output: GetAuthorizationTokenOutput = json::decode(reply).ok()?;
    let data = output.authorization_data.into_iter().next()?;
    let token = Some(data.authorization_token).filter(|token| !token.is_empty())?;
    Token::basic(&token, data.expires_at - now.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_follows_from_the_host_or_the_configuration() {
        let of = |host: &str| Endpoint::of(host, None).map(|endpoint| (endpoint.url.to_string(), endpoint.region));
        let frankfurt = ("https://api.ecr.eu-central-1.amazonaws.com/".to_owned(), "eu-central-1".to_owned());
        assert_eq!(of("123456789012.dkr.ecr.eu-central-1.amazonaws.com"), Some(frankfurt));
        for other in [
            "quay.io",
            "12345678901.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.a.b.amazonaws.com",
            "123456789012.dkr.ecr.evil.example/.amazonaws.com",
            "123456789012.dkr.ecr.amazonaws.com",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        let own = Url::parse("http://127.0.0.1:5000").unwrap();
        let endpoint = Endpoint::of("ecr.example", Some(&own)).unwrap();
        assert_eq!((endpoint.url.as_str(), endpoint.region.as_str()), ("http://127.0.0.1:5000/", "us-east-1"));
    }
}

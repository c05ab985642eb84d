//! The two forms in which an operation comes and goes.

use bytes::Bytes;
use flotilla_aws::{ErrorBody, ErrorCode, Service, query};
use flotilla_base::RequestId;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};

use super::{AwsError, Row};
use crate::http::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Json,
    Query,
}

/// An operation's input, not yet decoded.
pub(super) enum Payload {
    Json(Bytes),
    Query(query::Request),
}

/// Services that clients expect beside a registry, by target or by API version, and what to say about them.
const ELSEWHERE: [(&str, &str); 8] = [
    ("2010-05-15", "CloudFormation is not served here; see flotilla apply"),
    ("2010-05-08", "IAM is not served here yet; see flotilla key for access keys and robots"),
    ("secretsmanager", "Of Secrets Manager only what credentials of cache rules need is served here"),
    ("TrentService", "KMS is not served here: encryption settings are stored and returned"),
    ("AmazonSSM", "Systems Manager is not served here"),
    ("AWSEvents", "EventBridge is not served here"),
    ("SpencerFrontendService", "ECR Public is not served here: this is a private registry's API"),
    ("2016-11-15", "EC2 is not served here"),
];

impl Protocol {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let form = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        if form && !headers.contains_key("x-amz-target") { Self::Query } else { Self::Json }
    }

    /// # Errors
    /// `UnknownOperationException` with a word about what is served, and forms that are none.
    pub(super) fn read(self, head: &request::Parts, body: &Bytes) -> Result<(&'static Row, Payload), AwsError> {
        match self {
            Self::Json => {
                let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
                let target = target.ok_or_else(|| unknown("the request has no X-Amz-Target"))?;
                let row = Service::of_target(target).and_then(|(service, name)| Row::find(service, name));
                let row = row.ok_or_else(|| {
                    let (prefix, name) = target.split_once('.').unwrap_or((target, target));
                    not_served(prefix, name)
                })?;
                Ok((row, Payload::Json(body.clone())))
            }
            Self::Query => {
                let form =
                    query::parse(body).map_err(|error| AwsError::new(ErrorCode::SERIALIZATION, error.to_string()))?;
                let service = query::service_of_version(&form.version);
                let row = service.and_then(|service| Row::find(service, &form.action));
                let row = row.ok_or_else(|| not_served(&form.version, &form.action))?;
                Ok((row, Payload::Query(form)))
            }
        }
    }

    pub(super) fn success(self, reply: Vec<u8>) -> Response<Body> {
        self.respond(StatusCode::OK, reply)
    }

    pub(super) fn failure(self, error: &AwsError, request: RequestId) -> Response<Body> {
        let body = match self {
            Self::Json => flotilla_aws::json::encode(&ErrorBody::new(error.code(), error.message())),
            // The code says enough; the namespace is that of the only service with this protocol.
            Self::Query => query::error(Service::Sts, error.code(), error.message(), &request.to_string()).into_bytes(),
        };
        let mut response = self.respond(error.status(), body);
        if let Some(after) = error.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }

    fn respond(self, status: StatusCode, body: Vec<u8>) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let media_type = match self {
            Self::Json => JSON,
            Self::Query => HeaderValue::from_static(query::CONTENT_TYPE),
        };
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response
    }
}

fn unknown(message: &str) -> AwsError {
    AwsError::new(ErrorCode::UNKNOWN_OPERATION, message)
}

fn not_served(service: &str, operation: &str) -> AwsError {
    let known = ELSEWHERE.iter().find(|(name, _)| service.eq_ignore_ascii_case(name));
    known.map_or_else(
        // Names come from the client: no longer than a name is.
        || unknown(&format!("{} is not served here", operation.chars().take(80).collect::<String>())),
        |(_, text)| unknown(text),
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(headers: &[(&str, &str)], body: &'static str) -> Result<&'static str, String> {
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let protocol = Protocol::of(&head.headers);
        let row = protocol.read(&head, &Bytes::from_static(body.as_bytes()));
        row.map(|(row, _)| row.name).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn operations_are_found_by_target_or_by_action() {
        let target = ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.ListImages");
        assert_eq!(read(&[target], "{}"), Ok("ListImages"));
        let form = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
        assert_eq!(read(&[form], "Action=GetCallerIdentity&Version=2011-06-15"), Ok("GetCallerIdentity"));
        assert_eq!(read(&[target, form], "{}"), Ok("ListImages"));
    }

    #[test]
    fn what_is_not_served_says_so() {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let cloud_formation = read(&[form], "Action=CreateStack&Version=2010-05-15").unwrap_err();
        assert_eq!(cloud_formation, "CloudFormation is not served here; see flotilla apply");
        let secrets = read(&[("X-Amz-Target", "secretsmanager.RotateSecret")], "{}").unwrap_err();
        assert!(secrets.starts_with("Of Secrets Manager"));
        let nonsense = read(&[("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.Nonsense")], "{}").unwrap_err();
        assert_eq!(nonsense, "Nonsense is not served here");
        assert!(read(&[], "{}").is_err());
        assert!(read(&[form], "").is_err());
    }
}

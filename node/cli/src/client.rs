use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use flotilla_aws::{
    ErrorBody, Operation,
    json::{self, MalformedBody},
    sigv4::{self, Credentials},
};
use flotilla_base::Timestamp;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;

use crate::transport::{Endpoint, Transport, TransportError};

/// Longer than a node waits for an upstream that is slow to answer (`rule validate`, `rule refresh`).
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Signs and sends operations of the contract.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    credentials: Credentials,
    region: String,
}

/// Why a call has no output.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node's answer: the code is the contract's.
    #[error("{code}: {message}{}", RequestIdSuffix(request_id.as_deref()))]
    Service { code: String, message: String, request_id: Option<String> },
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the keys cannot be sent")]
    Sign(#[from] sigv4::Unsignable),
    #[error("{endpoint} answered {status}, but not as a Flotilla node does: is another server listening there?")]
    NotANode { endpoint: Endpoint, status: StatusCode },
    #[error("{endpoint} sent a reply that this version does not understand")]
    Reply { endpoint: Endpoint, source: MalformedBody },
}

impl CallError {
    /// The code of the node's answer.
    pub fn code(&self) -> Option<&str> {
        if let Self::Service { code, .. } = self { Some(code) } else { None }
    }
}

struct RequestIdSuffix<'a>(Option<&'a str>);

impl fmt::Display for RequestIdSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl Client {
    /// `ca_file` (PEM) is trusted besides the machine's certificates, for `https://` endpoints.
    ///
    /// # Errors
    /// When `ca_file` cannot be used.
    pub fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        region: impl Into<String>,
        ca_file: Option<&PathBuf>,
    ) -> Result<Self, TransportError> {
        Ok(Self { transport: Transport::new(endpoint, ca_file)?, credentials, region: region.into() })
    }

    pub fn endpoint(&self) -> &Endpoint {
        self.transport.endpoint()
    }

    /// One call, sent once. Bounded to two minutes.
    ///
    /// # Errors
    /// [`CallError`]; after anything but [`CallError::Service`] the node may or may not have acted.
    pub async fn call<O: Operation>(&self, input: &O::Input) -> Result<O::Output, CallError> {
        let body = Bytes::from(json::encode(input));
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint().uri())
            .header(header::HOST, self.endpoint().authority())
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header(header::USER_AGENT, concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            .header("x-amz-target", O::target())
            .body(())
            .expect("an endpoint's authority and a target are valid header values");
        let (mut head, ()) = request.into_parts();
        sigv4::sign(&mut head, &body, &self.credentials, &self.region, O::SERVICE.signing_name(), now())?;
        let reply = self.transport.exchange(Request::from_parts(head, Full::new(body)), CALL_TIMEOUT).await?;
        let endpoint = || self.endpoint().clone();
        if reply.status() == StatusCode::OK {
            return json::decode(reply.body()).map_err(|source| CallError::Reply { endpoint: endpoint(), source });
        }
        let request_id = reply.headers().get("x-amzn-requestid").and_then(|id| id.to_str().ok()).map(str::to_owned);
        match json::decode::<ErrorBody>(reply.body()) {
            Ok(body) if !body.code.is_empty() => {
                let code = body.bare_code().to_owned();
                Err(CallError::Service { code, message: body.message, request_id })
            }
            _ => Err(CallError::NotANode { endpoint: endpoint(), status: reply.status() }),
        }
    }
}

/// Whether the node at the endpoint says that it serves.
pub(crate) async fn is_ready(transport: &Transport) -> bool {
    let request = Request::builder()
        .uri(transport.endpoint().with_path("/readyz"))
        .body(Full::default())
        .expect("an endpoint with a path is a valid request");
    transport.exchange(request, READY_TIMEOUT).await.is_ok_and(|reply| reply.status() == StatusCode::OK)
}

/// The one place that reads the wall clock: signatures and ages need it, and a command line has no node's clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use flotilla_aws::ecr::{DescribeRepositories, DescribeRepositoriesInput};

    use super::*;
    use crate::fake_node::{FakeNode, credentials};

    async fn call(client: &Client) -> Result<(), CallError> {
        client.call::<DescribeRepositories>(&DescribeRepositoriesInput::default()).await.map(drop)
    }

    #[tokio::test]
    async fn calls_carry_a_signature_the_server_accepts() {
        let node = FakeNode::start(&[(200, r#"{"repositories": []}"#)]).await;
        call(&node.client()).await.unwrap();
        let calls = node.calls();
        let seen = calls.first().unwrap();
        assert_eq!(seen.target, "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories");
        assert_eq!(seen.signed, Ok(()));
        assert_eq!(seen.body, "{}");
    }

    #[tokio::test]
    async fn errors_carry_code_text_and_request_id() {
        let body =
            r#"{"__type": "com.amazonaws#RepositoryNotFoundException", "message": "The repository is not there"}"#;
        let node = FakeNode::start(&[(400, body)]).await;
        let error = call(&node.client()).await.unwrap_err();
        assert_eq!(error.code(), Some("RepositoryNotFoundException"));
        assert_eq!(error.to_string(), "RepositoryNotFoundException: The repository is not there (request fake-1)");
    }

    #[tokio::test]
    async fn other_servers_are_recognised() {
        let node = FakeNode::start(&[(404, "<html>"), (404, "{}"), (200, "<html>")]).await;
        let client = node.client();
        assert!(matches!(call(&client).await, Err(CallError::NotANode { .. })));
        assert!(matches!(call(&client).await, Err(CallError::NotANode { .. })));
        assert!(matches!(call(&client).await, Err(CallError::Reply { .. })));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named_with_what_to_do() {
        let node = FakeNode::start(&[]).await;
        let endpoint = node.stop().await;
        let client = Client::new(endpoint.clone(), credentials(), "us-east-1", None).unwrap();
        let error = call(&client).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot reach {endpoint}: is a node running there? `flotilla dev` starts one")
        );
    }

    #[tokio::test]
    async fn cut_replies_are_no_output() {
        let node = FakeNode::start(&[(FakeNode::CUT, "")]).await;
        let error = call(&node.client()).await.unwrap_err();
        assert!(matches!(error, CallError::Transport(TransportError::Exchange { .. })), "{error:?}");
    }
}

//! A node that answers what a test scripted, in order, and remembers what it was asked. It checks every signature with
//! the verifier the real server uses.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flotilla_aws::sigv4::{self, Credentials, SignatureError};
use flotilla_base::Secret;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{Client, client::now, transport::Endpoint};

pub(crate) fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDTEST".into(),
        secret_access_key: Secret::from("secret".to_owned()),
        session_token: None,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) body: String,
    pub(crate) signed: Result<(), SignatureError>,
}

#[derive(Default)]
struct Script {
    replies: VecDeque<(u16, String)>,
    calls: Vec<Call>,
}

pub(crate) struct FakeNode {
    endpoint: Endpoint,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl FakeNode {
    /// Instead of a status: the connection ends without a reply.
    pub(crate) const CUT: u16 = 0;

    /// `/readyz` always answers 200; every other request takes the next reply.
    pub(crate) async fn start(replies: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let replies = replies.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let script = Arc::new(Mutex::new(Script { replies, calls: Vec::new() }));
        let shared = script.clone();
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let script = shared.clone();
                let service = service_fn(move |request| answer(script.clone(), request));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { endpoint, script, server }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), credentials(), "us-east-1", None).unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// Nobody listens at the endpoint afterwards.
    pub(crate) async fn stop(mut self) -> Endpoint {
        self.server.abort();
        // The listener closes when the task is dropped, which aborting only asks for.
        let _ = (&mut self.server).await;
        self.endpoint.clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(script: Arc<Mutex<Script>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/readyz" {
        return Ok(Response::new(Full::default()));
    }
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let signed =
        sigv4::claim(&head).and_then(|claim| claim.verify(&head, &body, &credentials().secret_access_key, now()));
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let call = Call { target: target.to_owned(), body: String::from_utf8_lossy(&body).into_owned(), signed };
    let (status, body, number) = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.calls.push(call);
        let (status, body) = script.replies.pop_front().ok_or(Cut)?;
        (status, body, script.calls.len())
    };
    if status == FakeNode::CUT {
        return Err(Cut);
    }
    Response::builder()
        .status(status)
        .header("x-amzn-requestid", format!("fake-{number}"))
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| Cut)
}

//! One log line and one count per request, written when its body has ended or was cut: only then bytes and outcome are
//! known. Never a query string, a header's value or a token.

use std::{
    error::Error,
    fmt::{self, Write},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flotilla_base::RequestId;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{
    body::{Body, BodyError},
    connection::InFlight,
};
use crate::metrics::{ApiMetrics, RequestLabels, SourceLabels};

/// How long a body that failed waits for the bytes before the failure to leave. A client that stopped reading gets a
/// reset instead of an end.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

/// What the client went away with; nginx's number for it.
const CLIENT_GONE: u16 = 499;

/// What a door finds out about a request, for its log line.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) api: &'static str,
    /// Of the AWS door.
    pub(crate) operation: Option<&'static str>,
    pub(crate) principal: Option<String>,
    pub(crate) ns: Option<String>,
    /// The mapped name, never the raw one.
    pub(crate) repository: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) source: Option<&'static str>,
    pub(crate) upstream_status: Option<u16>,
    pub(crate) error: Option<String>,
}

/// Shared by the door and the one who writes the line: a request that is dropped has a line too.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Facts>>);

impl Record {
    pub(crate) fn note(&self, note: impl FnOnce(&mut Facts)) {
        note(&mut self.facts());
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Whole after a panic: each holder stores plain values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, as one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What every line of this node has in common.
pub(crate) struct Observer {
    pub(crate) node: String,
    pub(crate) region: String,
    pub(crate) metrics: ApiMetrics,
}

/// One request from its head to its last byte; dropping it writes the line.
pub(super) struct Observation {
    pub(super) observer: Arc<Observer>,
    pub(super) record: Record,
    pub(super) request: RequestId,
    pub(super) client: IpAddr,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) started: Instant,
    pub(super) in_flight: InFlight,
    status: Option<u16>,
    first_byte: Option<Duration>,
    bytes: u64,
    complete: bool,
}

impl Observation {
    pub(super) fn new(
        observer: Arc<Observer>,
        in_flight: InFlight,
        request: RequestId,
        client: IpAddr,
        head: &http::request::Parts,
    ) -> Self {
        Self {
            observer,
            record: Record::default(),
            request,
            client,
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            started: Instant::now(),
            in_flight,
            status: None,
            first_byte: None,
            bytes: 0,
            complete: false,
        }
    }

    pub(super) fn answered(&mut self, status: http::StatusCode) {
        self.status = Some(status.as_u16());
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let mut facts = std::mem::take(&mut *self.record.facts());
        if !self.complete && facts.error.is_none() {
            facts.error = Some("client went away".into());
        }
        let status = self.status.unwrap_or(CLIENT_GONE);
        let metrics = &self.observer.metrics;
        metrics.requests.get_or_create(&RequestLabels { api: facts.api, code: status }).inc();
        if let Some(source) = facts.source {
            metrics.pull_bytes.get_or_create(&SourceLabels { source }).inc_by(self.bytes);
            metrics.pull_ttfb.observe(self.first_byte.unwrap_or(duration).as_secs_f64());
        }
        tracing::info!(
            target: "flotilla::access",
            request_id = %self.request,
            node = self.observer.node,
            region = self.observer.region,
            principal = facts.principal,
            client_ip = %self.client,
            method = self.method,
            path = self.path,
            operation = facts.operation,
            ns = facts.ns,
            repository = facts.repository,
            reference = facts.reference,
            status,
            bytes = self.bytes,
            source = facts.source,
            ttfb_ms = self.first_byte.map(millis),
            duration_ms = millis(duration),
            upstream_status = facts.upstream_status,
            error = facts.error,
            "request"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A response's body on its way out: counted, held to the length that its head announced, and cut in a way that a client
/// can tell from the end.
///
/// Invariant: a response never looks complete when its body was not. What was handed out before a failure leaves first
/// (h1), so that the client can resume after it; then the connection ends without a reset.
pub(crate) struct ObservedBody {
    body: Body,
    /// Bytes still to come; known for every body we send.
    left: u64,
    multiplexed: bool,
    failure: Option<Failure>,
    observation: Observation,
}

struct Failure {
    error: BodyError,
    flushes_before: u64,
    patience: Pin<Box<Sleep>>,
}

impl ObservedBody {
    /// `len` is the length that the response's head announces, or 0 for a response that carries no body.
    pub(super) fn new(body: Body, len: u64, multiplexed: bool, mut observation: Observation) -> Self {
        observation.complete = len == 0;
        Self { body, left: len, multiplexed, failure: None, observation }
    }

    fn sent(&mut self, len: u64) {
        let observation = &mut self.observation;
        observation.first_byte.get_or_insert_with(|| observation.started.elapsed());
        observation.bytes += len;
        self.left = self.left.saturating_sub(len);
        observation.complete = self.left == 0;
    }

    fn failed(&mut self, error: BodyError) {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = write!(text, "{}", Chain(&error));
        self.observation.record.note(|facts| facts.error = Some(text));
        self.failure = Some(Failure {
            error,
            flushes_before: self.observation.in_flight.activity().flushes(),
            patience: Box::pin(tokio::time::sleep(FLUSH_WAIT)),
        });
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut failure) = self.failure.take() else { return Poll::Ready(None) };
        // A stream of h2 has a reset of its own; what is queued before it is not ours to wait for.
        if !self.multiplexed && failure.patience.as_mut().poll(cx).is_pending() {
            let activity = self.observation.in_flight.activity();
            if activity.poll_flushes_above(failure.flushes_before, cx).is_pending() {
                self.failure = Some(failure);
                return Poll::Pending;
            }
        }
        Poll::Ready(Some(Err(failure.error)))
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failure.is_some() {
            return self.poll_cut(cx);
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.body.poll_chunk(cx)) {
            Some(Ok(mut chunk)) => {
                chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.sent(chunk.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            Some(Err(error)) => self.failed(error),
            None => self.failed(BodyError::Short),
        }
        self.poll_cut(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

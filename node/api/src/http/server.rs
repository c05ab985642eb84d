//! Listeners, connections and their end. A request becomes an [`Arrival`] here, and every response leaves with the
//! headers that all have in common.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use flotilla_base::RequestId;
use flotilla_runtime::Host;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{
    Arrival, BindError, Body, Bound, DoorsConfig, Entrance,
    connection::{Activity, Reporting},
    listener::{self, Listening},
    observe::{Observation, ObservedBody, Observer},
    origin::{HostPolicy, HostRefused},
};

/// Streams of one h2 connection: more than any client opens, and a bound for what one connection may cost.
const MAX_STREAMS: u32 = 32;
/// Probes of an idle h2 connection, whose peer may have vanished without a word.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// What a stream of h2 holds while its client does not read. A body is asked for more as soon as there is room here.
const H2_SEND_BUFFER: usize = 64 << 10;
/// After a failed accept (too many open files) the next would fail at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections to `[admin]`, which a crowd at the registry must not keep out.
const ADMIN_CONNECTIONS: usize = 64;

/// Who answers requests. Errors are responses already.
pub(crate) trait Answer: Send + Sync + 'static {
    fn answer(&self, arrival: Arrival, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

    /// From now on `/readyz` says no.
    fn drain(&self);
}

/// The doors, open. Dropping it stops nothing; [`Server::drain`] does.
pub struct Server {
    stage: watch::Sender<Stage>,
    ended: watch::Receiver<bool>,
    drain: Box<dyn Fn() + Send + Sync>,
    addresses: Vec<SocketAddr>,
    mirror_addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    delay: Duration,
    timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Finishing,
    Cutting,
}

struct Shared<A> {
    door: Arc<A>,
    host: Host,
    observer: Arc<Observer>,
    bound: BoundParts,
    protocol: auto::Builder<TokioExecutor>,
    stage: watch::Receiver<Stage>,
}

struct BoundParts {
    hosts: HostPolicy,
    tls: Option<tokio_rustls::TlsAcceptor>,
    idle: Duration,
    head: Duration,
}

impl Server {
    /// As [`Bound::bind`], beside which it stands so that a node's life reads in one word.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: &DoorsConfig) -> Result<Bound, BindError> {
        Bound::bind(config.clone())
    }

    /// Begins to accept on everything that is bound.
    pub(crate) fn start<A: Answer>(bound: Bound, door: Arc<A>, host: Host, observer: Arc<Observer>) -> Self {
        let addresses = bound.addresses();
        let (mirror_addresses, admin_addresses) =
            (bound.addresses_of(Entrance::Mirror), bound.addresses_of(Entrance::Admin));
        let Bound { config, hosts, tls, listeners } = bound;
        let (stage, watch_stage) = watch::channel(Stage::Open);
        let shared = Arc::new(Shared {
            door: door.clone(),
            host: host.clone(),
            observer,
            protocol: protocol(config.max_header_bytes, config.max_headers),
            bound: BoundParts { hosts, tls, idle: config.idle_timeout(), head: config.header_read_timeout() },
            stage: watch_stage,
        });
        let permits = Arc::new(Semaphore::new(config.max_connections()));
        let admin_permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS + admin_addresses.len()));
        let (running, ended) = watch::channel(false);
        host.tasks.spawn("http", async move {
            let mut accepting = JoinSet::new();
            for listener in listeners {
                let permits = if listener.entrance == Entrance::Admin { &admin_permits } else { &permits };
                accepting.spawn(accept(shared.clone(), listener, permits.clone()));
            }
            while accepting.join_next().await.is_some() {}
            running.send_replace(true);
        });
        Self {
            stage,
            ended,
            drain: Box::new(move || door.drain()),
            addresses,
            mirror_addresses,
            admin_addresses,
            delay: config.drain_delay(),
            timeout: config.drain_timeout(),
        }
    }

    /// Those of the registry.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Those of `mirror.listen`.
    pub fn mirror_addresses(&self) -> &[SocketAddr] {
        &self.mirror_addresses
    }

    /// Those of `admin.listen`.
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Says "not ready", goes on accepting for `drain_delay`, finishes what is under way for at most `drain_timeout`,
    /// and cuts the rest. `false` when something was cut.
    pub async fn drain(&self) -> bool {
        (self.drain)();
        let mut all = self.ended.clone();
        tokio::time::sleep(self.delay).await;
        self.stage.send_replace(Stage::Finishing);
        let finished = tokio::time::timeout(self.timeout, ended(&mut all)).await.is_ok();
        if !finished {
            tracing::warn!(timeout_seconds = self.timeout.as_secs(), "responses were cut: they did not end in time");
            self.stage.send_replace(Stage::Cutting);
            ended(&mut all).await;
        }
        finished
    }
}

/// Also when the accepting task is gone with its runtime: then there is nothing left to wait for.
async fn ended(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

/// A server that is gone without a shutdown leaves its connections alone.
async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    if stage.wait_for(|stage| *stage >= wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn protocol(max_header_bytes: usize, max_headers: usize) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper refuses a read buffer below 8 KiB.
    let head = max_header_bytes.max(8 << 10);
    // hyper's own timer for heads also ends idle connections; the watchdog tells the two apart.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_headers(max_headers).max_buf_size(head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN);
    builder
}

async fn accept<A: Answer>(shared: Arc<Shared<A>>, listening: Listening, permits: Arc<Semaphore>) {
    let Listening { listener, entrance, .. } = listening;
    let mut connections = JoinSet::new();
    let mut stage = shared.stage.clone();
    loop {
        // A permit before the accept: what is above the limit waits in the kernel's queue.
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            biased;
            () = reached(&mut stage, Stage::Finishing) => break,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = next => match accepted {
                Ok((stream, client)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        shared.observer.metrics.connections.inc();
                        connection(&shared, stream, client, entrance).await;
                        shared.observer.metrics.connections.dec();
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = reached(&mut stage, Stage::Cutting) => connections.shutdown().await,
    }
}

async fn connection<A: Answer>(shared: &Arc<Shared<A>>, stream: TcpStream, client: SocketAddr, listener: Entrance) {
    let Ok(local) = stream.local_addr() else { return };
    if let Err(error) = listener::tune(&stream) {
        tracing::debug!(%error, %client, "a client left while its connection was set up");
        return;
    }
    let tls = shared.bound.tls.as_ref().filter(|_| listener != Entrance::Admin);
    let peer = Peer { client, local, tls: tls.is_some(), listener };
    match tls {
        None => serve(shared, stream, peer).await,
        Some(tls) => match tokio::time::timeout(shared.bound.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(shared, stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, %client, "tls handshake failed"),
            Err(_) => tracing::debug!(%client, "tls handshake took too long"),
        },
    }
}

#[derive(Clone, Copy)]
struct Peer {
    client: SocketAddr,
    local: SocketAddr,
    tls: bool,
    listener: Entrance,
}

async fn serve<A: Answer, S>(shared: &Arc<Shared<A>>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let io = TokioIo::new(Reporting::new(stream, activity.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, in_flight) = (shared.clone(), activity.request(request.version() == Version::HTTP_2));
        async move {
            let mut request = request;
            let multiplexed = request.version() == Version::HTTP_2;
            restore_host(&mut request);
            let (head, body) = request.into_parts();
            let id = RequestId(shared.host.entropy.u128());
            let client = peer.client.ip().to_canonical();
            let observation = Observation::new(shared.observer.clone(), in_flight, id, client, &head);
            let response = respond(&shared, peer, id, &observation, Request::from_parts(head, body)).await;
            Ok::<_, std::convert::Infallible>(finish(response, id, multiplexed, observation))
        }
    });
    let mut connection = pin!(shared.protocol.serve_connection(io, service));
    let mut stage = shared.stage.clone();
    let overdue = activity.overdue(shared.bound.idle, shared.bound.head);
    let mut overdue = pin!(overdue);
    let mut finishing = pin!(reached(&mut stage, Stage::Finishing));
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, client = %peer.client, "connection ended early");
                }
                return;
            }
            () = overdue.as_mut() => return,
            () = finishing.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// h2 carries the Host in its target; signatures and doors look for the header.
fn restore_host(request: &mut Request<Incoming>) {
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, value);
    }
}

async fn respond<A: Answer>(
    shared: &Shared<A>,
    peer: Peer,
    id: RequestId,
    observation: &Observation,
    request: Request<Incoming>,
) -> Response<Body> {
    let hosts = &shared.bound.hosts;
    let host = HostPolicy::host(request.uri(), request.headers())
        .and_then(|host| hosts.admit(&host, peer.local).map(|()| host));
    let host = match host {
        Ok(host) => host,
        Err(refused) => {
            let (status, text) = match refused {
                HostRefused::Malformed => (StatusCode::BAD_REQUEST, "the request needs one valid Host\n"),
                HostRefused::Foreign => (
                    StatusCode::MISDIRECTED_REQUEST,
                    "this node does not go by that Host on its loopback address; see http.allowed_hosts\n",
                ),
            };
            observation.record.note(|facts| facts.api = "http");
            let mut response = Response::new(Body::from(text));
            *response.status_mut() = status;
            return response;
        }
    };
    let entrance = hosts.entrance(&host, peer.listener);
    let arrival = Arrival {
        entrance,
        client: peer.client.ip().to_canonical(),
        private: peer.tls || peer.local.ip().to_canonical().is_loopback(),
        request: id,
        origin: hosts.origin(Some(&host), peer.local, peer.tls, entrance),
        record: observation.record.clone(),
    };
    let head_only = request.method() == Method::HEAD;
    let mut response = shared.door.answer(arrival, request).await;
    if head_only {
        *response.body_mut() = Body::Empty;
    }
    response
}

/// What every response carries, and the length that its body is held to.
fn finish(
    mut response: Response<Body>,
    id: RequestId,
    multiplexed: bool,
    mut observation: Observation,
) -> Response<ObservedBody> {
    observation.answered(response.status());
    let bodiless = response.status() == StatusCode::NO_CONTENT || response.status() == StatusCode::NOT_MODIFIED;
    let len = match response.body() {
        Body::Empty => 0,
        _ if bodiless => 0,
        Body::Full(bytes) => bytes.len() as u64,
        Body::Blob(_) | Body::Stream(_) | Body::Multipart(_) => announced(&response),
    };
    let headers = response.headers_mut();
    if !bodiless && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-amzn-requestid", value.clone());
        headers.insert("x-request-id", value);
    }
    // Content of others is served under our name: a browser must neither guess a type nor run it.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response.map(|body| ObservedBody::new(body, len, multiplexed, observation))
}

fn announced(response: &Response<Body>) -> u64 {
    let header = response.headers().get(header::CONTENT_LENGTH);
    header.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

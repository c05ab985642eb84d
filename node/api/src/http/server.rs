//! Listeners, and the end of all connections.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use flotilla_runtime::{Host, Published, Publisher};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Arrival, BindError, Body, Bound, DoorsConfig, Entrance, gate, listener::Listening, live::Live, observe::Observer,
    places::Places, tls::Certificates,
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
/// hyper refuses a read buffer below it.
const MIN_HEAD_BYTES: usize = 8 << 10;
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
    live: Publisher<Live>,
    certificates: Option<Arc<Certificates>>,
    host: Host,
    delay: Duration,
    timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Open,
    Finishing,
    Cutting,
}

pub(super) struct Shared<A> {
    pub(super) door: Arc<A>,
    pub(super) host: Host,
    pub(super) observer: Arc<Observer>,
    pub(super) live: Published<Live>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) proxy_protocol: bool,
    pub(super) max_header_bytes: usize,
    pub(super) places: Arc<Places>,
    pub(super) http1: auto::Builder<TokioExecutor>,
    pub(super) http2: auto::Builder<TokioExecutor>,
    pub(super) stage: watch::Receiver<Stage>,
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
        let Bound { config, live, tls, listeners } = bound;
        let (stage, watch_stage) = watch::channel(Stage::Open);
        let (publisher, live) = Publisher::new(live);
        let (certificates, tls) = tls.unzip();
        if let Some(certificates) = &certificates {
            host.tasks.spawn("certificates", certificates.clone().watch(host.clone(), observer.metrics.clone()));
        }
        let shared = Arc::new(Shared {
            door: door.clone(),
            host: host.clone(),
            observer,
            live,
            tls,
            proxy_protocol: config.proxy_protocol,
            max_header_bytes: config.max_header_bytes.max(MIN_HEAD_BYTES),
            places: Arc::default(),
            http1: protocol(config.max_header_bytes, config.max_headers).http1_only(),
            http2: protocol(config.max_header_bytes, config.max_headers).http2_only(),
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
            live: publisher,
            certificates,
            host,
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

    /// Takes over what may change while the doors are open: names, proxies, time-outs, limits per client and the files of
    /// TLS. Connections keep the time-outs that they began with.
    ///
    /// # Errors
    /// [`BindError`]; then nothing has changed.
    pub async fn reload(&self, config: &DoorsConfig) -> Result<(), BindError> {
        let live = Live::new(config)?;
        match (&self.certificates, &config.http.tls) {
            (Some(certificates), Some(files)) => certificates.replace(files, &self.host).await?,
            (None, None) => {}
            _ => return Err(BindError::TlsSwitched),
        }
        self.live.publish(live);
        Ok(())
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
pub(super) async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    if stage.wait_for(|stage| *stage >= wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn protocol(max_header_bytes: usize, max_headers: usize) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head = max_header_bytes.max(MIN_HEAD_BYTES);
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
                        gate::connection(&shared, stream, client, entrance).await;
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

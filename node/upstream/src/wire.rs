//! One request, one response, over one connection: no credentials of its own, no redirects, no retries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_runtime::{Host, Tasks, Trail};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use tokio::time::timeout;
use url::{Position, Url};

use crate::{
    HttpError, UpstreamConfig, UpstreamConfigError,
    connector::Connector,
    destinations::{Destinations, Named},
    metrics::HostMetrics,
    origin::Origin,
    pool::{Connection, Pool, PoolKey, start},
    proxy::Proxies,
};

/// By which chained caches notice that they ask each other in a circle: all that a request came through, then we.
const HOP: &str = "flotilla-hop";
/// What is read of a body that nobody wants, to keep its connection: error texts are shorter.
const DISCARD_BYTES: usize = 16 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

pub(crate) struct Wire {
    connector: Connector,
    pool: Arc<Pool>,
    tasks: Tasks,
    head_timeout: Duration,
    progress_timeout: Duration,
    user_agent: HeaderValue,
    /// Our own cluster's id.
    hop: Option<String>,
}

/// On whose behalf requests are sent.
#[derive(Clone)]
pub(crate) struct Behalf {
    /// Tells apart whose roots a connection was verified with.
    pub(crate) number: u64,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) metrics: HostMetrics,
}

pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) origin: &'a Origin,
    pub(crate) named: Named,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Incame {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) from_loopback: bool,
}

impl Wire {
    /// `tls` is for proxies; upstreams bring their own.
    pub(crate) fn new(
        host: &Host,
        config: &UpstreamConfig,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, UpstreamConfigError> {
        let header = |key, value: &str| HeaderValue::from_str(value).map_err(|_| UpstreamConfigError::Header { key });
        header("hop_header_id", &config.hop_header_id)?;
        let user_agent = header("user_agent", &config.user_agent)?;
        let connector = Connector {
            timeout: config.connect_timeout,
            destinations: Destinations::new(config)?,
            resolver: config.resolver.clone(),
            proxies: Proxies::new(config)?,
            proxy_tls: tls,
            user_agent: user_agent.clone(),
        };
        Ok(Self {
            connector,
            pool: Arc::default(),
            tasks: host.tasks.clone(),
            head_timeout: config.head_timeout,
            progress_timeout: config.progress_timeout,
            user_agent,
            hop: Some(config.hop_header_id.clone()).filter(|id| !id.is_empty()),
        })
    }

    fn hops(&self) -> Option<HeaderValue> {
        let own = self.hop.as_deref()?;
        let trail = Trail::current();
        let hops: Vec<_> = trail.hops().iter().map(String::as_str).chain([own]).collect();
        HeaderValue::try_from(hops.join(", ")).ok()
    }

    /// Cancel safe: closes the connection. A request with a body may be sent twice as any other.
    pub(crate) async fn send(&self, behalf: &Behalf, outgoing: Outgoing<'_>, body: Bytes) -> Result<Incame, HttpError> {
        let result = self.send_uncounted(behalf, outgoing, body).await;
        match &result {
            Ok(incame) if incame.status.as_u16() < 600 => behalf.metrics.request(incame.status.as_str()),
            Ok(_) => behalf.metrics.request("invalid"),
            Err(error) => behalf.metrics.request(error.code()),
        }
        result
    }

    async fn send_uncounted(
        &self,
        behalf: &Behalf,
        outgoing: Outgoing<'_>,
        content: Bytes,
    ) -> Result<Incame, HttpError> {
        let Outgoing { method, url, origin, named, mut headers } = outgoing;
        let target: Arc<str> = origin.to_string().into();
        let key = PoolKey { origin: origin.clone(), upstream: behalf.number };
        let unusable = || HttpError::Url { target: target.clone() };
        headers.insert(header::HOST, HeaderValue::from_str(&origin.authority()).map_err(|_| unusable())?);
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        // A coding would make lengths, ranges and digests those of something else.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(hops) = self.hops() {
            headers.insert(HOP, hops);
        }
        // Through a proxy, an http origin's whole URL is asked for; an https one is at the end of a tunnel.
        let proxy = self.connector.proxies.of(origin).filter(|_| !origin.https);
        if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let begin = if proxy.is_some() { Position::BeforeScheme } else { Position::BeforePath };
        let uri: Uri = url[begin..Position::AfterQuery].parse().map_err(|_| unusable())?;
        let request = || {
            let mut request = Request::new(Full::new(content.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        let mut pooled = self.pool.take(&key, |peer| self.connector.permits(named, origin, peer));
        let (connection, response) = loop {
            let reused = pooled.is_some();
            let mut connection = match pooled.take() {
                Some(connection) => connection,
                None => {
                    let (stream, peer) = self.connector.connect(origin, &behalf.tls, named).await?;
                    start(stream, peer, &self.tasks, &self.pool).await.map_err(|source| cut(&target, source))?
                }
            };
            let sent = timeout(self.head_timeout, async {
                connection.sender.ready().await?;
                connection.sender.send_request(request()).await
            });
            match sent.await {
                Ok(Ok(response)) => break (connection, response),
                // The server had closed the idle connection before it saw the request; all our requests may be repeated.
                Ok(Err(error)) if reused && !error.is_parse() => {}
                Ok(Err(error)) => return Err(cut(&target, error)),
                Err(_) => return Err(HttpError::HeadTimeout { target }),
            }
        };
        let from_loopback = connection.peer.is_loopback();
        let (head, incoming) = response.into_parts();
        let mut body = Body {
            incoming,
            lease: Some((self.pool.clone(), key, connection)),
            received: behalf.metrics.bytes.clone(),
            target,
            progress_timeout: self.progress_timeout,
        };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        Ok(Incame { status: head.status, headers: head.headers, body, from_loopback })
    }
}

fn cut(target: &Arc<str>, source: hyper::Error) -> HttpError {
    HttpError::Cut { target: target.clone(), source: Arc::new(source) }
}

/// A body as it arrives, in the buffers it was read into. Dropped before its end, it closes the connection.
pub(crate) struct Body {
    incoming: Incoming,
    lease: Option<(Arc<Pool>, PoolKey, Connection)>,
    received: Counter,
    target: Arc<str>,
    progress_timeout: Duration,
}

impl Body {
    pub(crate) fn target(&self) -> &Arc<str> {
        &self.target
    }

    /// `None` at the end. Cancel safe. Fails when no byte came for the progress timeout; a body that ends short of its
    /// `Content-Length` or chunking fails too.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, HttpError>> {
        loop {
            let Ok(frame) = timeout(self.progress_timeout, self.incoming.frame()).await else {
                self.lease = None;
                return Some(Err(HttpError::Stalled { target: self.target.clone() }));
            };
            match frame {
                None => {
                    self.give_back();
                    return None;
                }
                Some(Err(error)) => {
                    self.lease = None;
                    return Some(Err(cut(&self.target, error)));
                }
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.received.inc_by(bytes.len() as u64);
                    if self.incoming.is_end_stream() {
                        self.give_back();
                    }
                    if !bytes.is_empty() {
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }

    /// Reads what is left of a short body that nobody wants, so that its connection can be used again.
    pub(crate) async fn discard(mut self) {
        let mut left = DISCARD_BYTES;
        let read = async {
            while let Some(Ok(bytes)) = self.chunk().await {
                match left.checked_sub(bytes.len()) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        let _ = timeout(DISCARD_TIME, read).await;
    }

    fn give_back(&mut self) {
        if let Some((pool, key, connection)) = self.lease.take() {
            pool.put(key, connection);
        }
    }
}

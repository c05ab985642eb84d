use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flotilla_registry::upstream;
use flotilla_runtime::{Host, Trail};
use flotilla_service::Services;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;

use crate::{
    aws,
    http::{Answer, Arrival, Body, Bound, DoorsConfig, Entrance, Server, observe::Observer, request_body::Room},
    metrics::ApiMetrics,
    oci, operations,
};

/// The clusters that a request has come through, which the upstream client of each appends.
const HOP_HEADER: &str = "flotilla-hop";
/// More caches in a row than anybody builds; a request that came through as many goes round in a circle of caches that
/// do not know their own mark.
const MAX_HOPS: usize = 8;
/// Longest mark that is passed on; ours has 16 letters.
const MAX_HOP_BYTES: usize = 64;
/// What calls to the AWS door hold while they are received: those of a fleet's tools many times over.
const CALLS_BYTES: usize = 32 << 20;
/// The same for login forms, which come from anybody and must not get in the way of calls.
const FORMS_BYTES: usize = 8 << 20;

/// What a handler may reach.
pub struct Door {
    pub(crate) services: Arc<Services>,
    pub(crate) host: Host,
    /// Everything that the node counts; complete when the door is made.
    pub(crate) registry: Registry,
    allow_plaintext: bool,
    /// The registry that the mirror stands for where a request names none, by its canonical host.
    pub(crate) mirror_upstream: String,
    /// The mirror has a listener of its own.
    pub(crate) mirror_listens: bool,
    /// Metrics and details have a listener of their own.
    pub(crate) admin_apart: bool,
    pub(crate) draining: AtomicBool,
    pub(crate) calls: Room,
    pub(crate) forms: Room,
    observer: Arc<Observer>,
}

impl Door {
    /// `registry` holds what the floors below have registered; the doors add their own and show it at `/metrics`.
    pub fn new(services: Arc<Services>, host: Host, config: DoorsConfig, mut registry: Registry) -> Self {
        let metrics = ApiMetrics::register(&mut registry);
        let node = services.cluster.node();
        let observer = Observer { node: node.name.clone(), region: node.region.clone(), metrics };
        Self {
            services,
            host,
            registry,
            allow_plaintext: config.http.allow_plaintext,
            mirror_upstream: upstream::parse_host(&config.mirror.upstream).unwrap_or(config.mirror.upstream),
            mirror_listens: !config.mirror.listen.is_empty(),
            admin_apart: !config.admin.listen.is_empty(),
            draining: AtomicBool::new(false),
            calls: Room::new(CALLS_BYTES),
            forms: Room::new(FORMS_BYTES),
            observer: Arc::new(observer),
        }
    }

    /// Whether what was sent with credentials could be read on its way. Asked before they are looked at: a password on an
    /// open wire is spent, even when it is right.
    pub(crate) fn refuses_credentials(&self, arrival: &Arrival) -> bool {
        let refused = !arrival.private && !self.allow_plaintext;
        if refused {
            self.observer.metrics.refuse("plaintext");
        }
        refused
    }

    /// The clusters that a request came through; `None` when we are one of them, through an upstream that is this cluster
    /// or leads to it, or when they are too many.
    fn trail(&self, headers: &HeaderMap) -> Option<Trail> {
        if !headers.contains_key(HOP_HEADER) {
            return Some(Trail::default());
        }
        let own = self.services.cluster.node().cluster.to_string();
        let lines = headers.get_all(HOP_HEADER).iter();
        let hops: Vec<_> =
            lines.flat_map(|line| line.as_bytes().split(|c| *c == b',')).map(<[u8]>::trim_ascii).collect();
        if hops.len() > MAX_HOPS || hops.contains(&own.as_bytes()) {
            self.observer.metrics.refuse("loop");
            return None;
        }
        // What is no mark is counted, and not sent on to an upstream.
        let marks = hops.into_iter().filter(|hop| is_mark(hop));
        Some(Trail::new(marks.map(|hop| String::from_utf8_lossy(hop).into_owned()).collect()))
    }

    /// The 12 digits of the one account.
    pub(crate) fn account_id(&self) -> String {
        self.services.cluster.account_id()
    }
}

fn is_mark(hop: &[u8]) -> bool {
    (1..=MAX_HOP_BYTES).contains(&hop.len()) && hop.iter().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(c))
}

impl Bound {
    /// Begins to accept.
    pub fn serve(self, door: Door) -> Server {
        let (host, observer) = (door.host.clone(), door.observer.clone());
        Server::start(self, Arc::new(door), host, observer)
    }
}

impl Answer for Door {
    async fn answer(&self, arrival: Arrival, request: Request<Incoming>) -> Response<Body> {
        match self.trail(request.headers()) {
            Some(trail) => trail.scope(self.route(arrival, request)).await,
            None => oci::refuse_loop(&arrival),
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Door {
    async fn route(&self, arrival: Arrival, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if (path == "/v2" || path.starts_with("/v2/")) && arrival.entrance != Entrance::Admin {
            return oci::serve(self, &arrival, request).await;
        }
        // Neither a mirror nor the admin listener has an AWS API.
        if arrival.entrance != Entrance::Registry && !is_read {
            return operations::not_found(&arrival);
        }
        match *request.method() {
            // The AWS clients keep the path of their endpoint URL, whatever it is.
            Method::POST => Box::pin(aws::serve(self, &arrival, request)).await,
            Method::GET | Method::HEAD => operations::serve(self, &arrival, &request),
            _ => {
                arrival.record.note(|facts| facts.api = "http");
                let mut response = Response::new(Body::from("only GET, HEAD and POST mean something here\n"));
                *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_mark_is_one() {
        assert!(is_mark(b"00000000000000a1") && is_mark(b"Other_cache-2.example"));
        for bad in [&b""[..], b"a b", b"a,b", b"a\"", "\u{e9}".as_bytes(), &[b'a'; MAX_HOP_BYTES + 1]] {
            assert!(!is_mark(bad), "{bad:?}");
        }
    }
}

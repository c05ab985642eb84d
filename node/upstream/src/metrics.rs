use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Labelled by canonical upstream host: as many as the operator has rules for.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Request, Counter>,
    bytes: Family<Host, Counter>,
    remaining: Family<Host, Gauge>,
    circuit_open: Family<Host, Gauge>,
    blocked: Family<Blocked, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Blocked {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    upstream: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Host {
    upstream: String,
}

/// The metrics of one upstream.
#[derive(Clone)]
pub(crate) struct HostMetrics {
    upstream: Arc<str>,
    requests: Family<Request, Counter>,
    /// Body bytes as they came from the wire, of the upstream itself, its token service and where it redirects to.
    pub(crate) bytes: Counter,
    pub(crate) circuit_open: Gauge,
    remaining: Family<Host, Gauge>,
    blocked: Family<Blocked, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            bytes: Family::default(),
            remaining: Family::default(),
            circuit_open: Family::default(),
            blocked: Family::default(),
        };
        registry.register(
            "flotilla_upstream_requests",
            "Requests sent for an upstream, by status, or by what failed before there was one",
            metrics.requests.clone(),
        );
        registry.register("flotilla_upstream_bytes", "Body bytes received for an upstream", metrics.bytes.clone());
        registry.register(
            "flotilla_upstream_ratelimit_remaining",
            "What the upstream's rate limit leaves, as it last said",
            metrics.remaining.clone(),
        );
        registry.register(
            "flotilla_upstream_circuit_open",
            "1 while an upstream is left alone because it failed repeatedly",
            metrics.circuit_open.clone(),
        );
        registry.register(
            "flotilla_upstream_blocked",
            "Redirects, token services and addresses that were not followed, by what was wrong with them",
            metrics.blocked.clone(),
        );
        metrics
    }

    pub(crate) fn host(&self, upstream: &Arc<str>) -> HostMetrics {
        let label = Host { upstream: upstream.to_string() };
        HostMetrics {
            upstream: upstream.clone(),
            requests: self.requests.clone(),
            bytes: self.bytes.get_or_create(&label).clone(),
            circuit_open: self.circuit_open.get_or_create(&label).clone(),
            remaining: self.remaining.clone(),
            blocked: self.blocked.clone(),
        }
    }
}

impl HostMetrics {
    /// `code` is a status below 600 or one of a few words.
    pub(crate) fn request(&self, code: &str) {
        self.requests.get_or_create(&Request { upstream: self.upstream.to_string(), code: code.to_owned() }).inc();
    }

    /// `reason` is one of a few words.
    pub(crate) fn blocked(&self, reason: &'static str) {
        self.blocked.get_or_create(&Blocked { reason }).inc();
    }

    pub(crate) fn remaining(&self, requests: i64) {
        // Made at the first header: most upstreams send none, and a zero would read as an exhausted limit.
        self.remaining.get_or_create(&Host { upstream: self.upstream.to_string() }).set(requests);
    }
}

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) api: &'static str,
    pub(crate) code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabels {
    pub(crate) source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabels {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CertificateLabels {
    pub(crate) purpose: &'static str,
}

/// What the doors count.
#[derive(Clone)]
pub struct ApiMetrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) connections: Gauge,
    /// Connections and requests that a limit or a rule of the wire ended, before any door.
    pub(crate) refused: Family<RefusedLabels, Counter>,
    /// Only where TLS is served.
    pub(crate) certificate_expiry: Family<CertificateLabels, Gauge>,
    pub(crate) pull_bytes: Family<SourceLabels, Counter>,
    pub(crate) pull_ttfb: Histogram,
}

/// Seconds, from a manifest in memory to the 5 s after which a head leaves at the latest.
const TTFB_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

impl ApiMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            connections: Gauge::default(),
            refused: Family::default(),
            certificate_expiry: Family::default(),
            pull_bytes: Family::default(),
            pull_ttfb: Histogram::new(TTFB_BUCKETS),
        };
        registry.register("flotilla_http_requests", "Requests answered, by door and status", metrics.requests.clone());
        registry.register("flotilla_http_connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "flotilla_http_refused",
            "Connections and requests that a limit or a rule of the wire ended, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "flotilla_certificate_expiry_seconds",
            "When the certificate that is served ends, in seconds since 1970",
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "flotilla_pull_bytes",
            "Bytes of manifests and blobs sent to clients, by where they came from",
            metrics.pull_bytes.clone(),
        );
        registry.register(
            "flotilla_pull_ttfb_seconds",
            "From a pull's request to the first byte of its body",
            metrics.pull_ttfb.clone(),
        );
        metrics
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }
}

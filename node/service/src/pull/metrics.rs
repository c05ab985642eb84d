//! What pulls count.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{Freshness, Source};
use crate::ServiceError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Manifest,
    Blob,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PullLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: Source,
}

impl prometheus_client::encoding::EncodeLabelValue for Source {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        std::fmt::Write::write_str(encoder, self.as_str())
    }
}

pub(super) struct Metrics {
    pulls: Family<PullLabels, Counter>,
    bytes: Family<SourceLabels, Counter>,
    ttfb: Histogram,
    pub links_failed: Counter,
}

/// From a held manifest (tens of microseconds) to an upstream at its time limit.
const TTFB_SECONDS: [f64; 14] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            pulls: Family::default(),
            bytes: Family::default(),
            ttfb: Histogram::new(TTFB_SECONDS),
            links_failed: Counter::default(),
        };
        registry.register("flotilla_pulls", "Pulls of manifests and blobs, by how they ended", metrics.pulls.clone());
        registry.register(
            "flotilla_pull_bytes",
            "Bytes that left in pulls, by where they come from",
            metrics.bytes.clone(),
        );
        registry.register(
            "flotilla_pull_ttfb_seconds",
            "From a pull's request to the head of its answer",
            metrics.ttfb.clone(),
        );
        registry.register(
            "flotilla_blob_links_failed",
            "Links of pulled blobs that could not be recorded; the next pull proves them again",
            metrics.links_failed.clone(),
        );
        metrics
    }

    pub(super) fn bytes(&self, source: Source) -> Counter {
        self.bytes.get_or_create_owned(&SourceLabels { source })
    }

    pub(super) fn denied(&self, kind: &'static str) {
        self.count(kind, "denied");
    }

    pub(super) fn pulled(&self, kind: Kind, took: Duration, end: Result<Freshness, &ServiceError>) {
        let result = match end {
            Ok(Freshness::Hit) => "hit",
            Ok(Freshness::Miss) => "miss",
            Ok(Freshness::Stale) => "stale",
            Ok(Freshness::Passthrough) => "passthrough",
            Err(ServiceError::NoManifest { .. } | ServiceError::NoBlob { .. }) => "notfound",
            Err(ServiceError::Denied { .. }) => "denied",
            Err(_) => "error",
        };
        let kind = match kind {
            Kind::Manifest => "manifest",
            Kind::Blob => "blob",
        };
        self.count(kind, result);
        if end.is_ok() {
            self.ttfb.observe(took.as_secs_f64());
        }
    }

    fn count(&self, kind: &'static str, result: &'static str) {
        self.pulls.get_or_create(&PullLabels { kind, result }).inc();
    }
}

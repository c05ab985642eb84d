//! What pulls count; bytes and times are counted by the doors, who see them leave.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Freshness;
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

pub(super) struct Metrics {
    pulls: Family<PullLabels, Counter>,
    pub links_failed: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { pulls: Family::default(), links_failed: Counter::default() };
        registry.register("flotilla_pulls", "Pulls of manifests and blobs, by how they ended", metrics.pulls.clone());
        registry.register(
            "flotilla_blob_links_failed",
            "Links of pulled blobs that could not be recorded; the next pull proves them again",
            metrics.links_failed.clone(),
        );
        metrics
    }

    pub(super) fn denied(&self, kind: &'static str) {
        self.count(kind, "denied");
    }

    pub(super) fn pulled(&self, kind: Kind, end: Result<Freshness, &ServiceError>) {
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
    }

    fn count(&self, kind: &'static str, result: &'static str) {
        self.pulls.get_or_create(&PullLabels { kind, result }).inc();
    }
}

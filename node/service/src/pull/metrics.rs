//! What pulls count; bytes and times are counted by the doors, who see them leave.

use flotilla_oci::Name;
use flotilla_registry::Refusal;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryLabels {
    repository: String,
}

pub(super) struct Metrics {
    pulls: Family<PullLabels, Counter>,
    /// Only where it was asked for: a series for each repository is dear where there are many.
    repositories: Option<Family<RepositoryLabels, Counter>>,
    pub links_failed: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry, per_repository: bool) -> Self {
        let repositories = per_repository.then(Family::default);
        if let Some(repositories) = &repositories {
            registry.register(
                "flotilla_repository_pulls",
                "Pulls of images, by repository",
                Clone::clone(repositories),
            );
        }
        let metrics = Self { pulls: Family::default(), repositories, links_failed: Counter::default() };
        registry.register("flotilla_pulls", "Pulls of manifests and blobs, by how they ended", metrics.pulls.clone());
        registry.register(
            "flotilla_blob_links_failed",
            "Links of pulled blobs that could not be recorded; the next pull proves them again",
            metrics.links_failed.clone(),
        );
        metrics
    }

    /// An image was served; its blobs are not counted again.
    pub(super) fn pulled_from(&self, repository: &Name) {
        if let Some(repositories) = &self.repositories {
            repositories.get_or_create(&RepositoryLabels { repository: repository.as_str().to_owned() }).inc();
        }
    }

    pub(super) fn denied(&self, kind: &'static str) {
        self.count(kind, "denied");
    }

    pub(super) fn unmapped(&self, kind: &'static str) {
        self.count(kind, "notfound");
    }

    pub(super) fn pulled(&self, kind: Kind, end: Result<Freshness, &ServiceError>) {
        let result = match end {
            Ok(Freshness::Hit) => "hit",
            Ok(Freshness::Miss) => "miss",
            Ok(Freshness::Stale) => "stale",
            Ok(Freshness::Passthrough) => "passthrough",
            Err(
                ServiceError::NoManifest { .. }
                | ServiceError::NoBlob { .. }
                | ServiceError::Refused(Refusal::NoRepository(_) | Refusal::NoTemplate(_)),
            ) => "notfound",
            Err(ServiceError::Denied { .. } | ServiceError::Filtered { .. }) => "denied",
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

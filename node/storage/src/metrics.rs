use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::blob::StorageClass;

type Label = [(&'static str, &'static str); 1];

#[derive(Clone, Default)]
pub(crate) struct Metrics {
    bytes: Family<Label, Gauge>,
    free_bytes: Gauge,
    protected_bytes: Gauge,
    pub(crate) quarantined: Counter,
    pub(crate) evicted_bytes: Counter,
    pub(crate) evicted_blobs: Counter,
    pub(crate) admission_refused: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("flotilla_storage_bytes", "Bytes of blobs on this node's disk", metrics.bytes.clone());
        registry.register(
            "flotilla_storage_free_bytes",
            "Bytes free on the file system of the blobs",
            metrics.free_bytes.clone(),
        );
        registry.register(
            "flotilla_storage_protected_bytes",
            "Bytes of blobs that were used twice, which no blob that is asked for once displaces",
            metrics.protected_bytes.clone(),
        );
        registry.register(
            "flotilla_storage_evicted_bytes",
            "Bytes of cached blobs removed to make room for others",
            metrics.evicted_bytes.clone(),
        );
        registry.register(
            "flotilla_storage_evicted_blobs",
            "Cached blobs removed to make room for others",
            metrics.evicted_blobs.clone(),
        );
        registry.register(
            "flotilla_storage_admission_refused",
            "Blobs asked for once that were not kept, because all that could have gone for them had been used twice",
            metrics.admission_refused.clone(),
        );
        registry.register(
            "flotilla_blobs_quarantined",
            "Blobs set aside because a piece did not match its hash",
            metrics.quarantined.clone(),
        );
        metrics
    }

    pub(crate) fn set_bytes(&self, class: StorageClass, bytes: u64) {
        let class = match class {
            StorageClass::Sealed => "sealed",
            StorageClass::Partial => "partial",
            StorageClass::Quarantine => "quarantine",
        };
        self.bytes.get_or_create(&[("class", class)]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_protected(&self, bytes: u64) {
        self.protected_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_free(&self, bytes: u64) {
        self.free_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

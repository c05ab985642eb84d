//! What the data plane counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone)]
pub(crate) struct Metrics {
    pub in_flight: Gauge,
    pub duplicates: Counter,
    pub ungoverned: Counter,
    pub orphans_paused: Counter,
    pub slow_clients: Counter,
    fills: Family<FillLabels, Counter>,
    passthrough: Family<ReasonLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FillLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Why a blob passes by without being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    DiskFull,
    /// The disk is in trouble other than being full.
    DiskFailed,
    /// The disk became full or failed, or a held piece bad, after the client had got a part of it.
    Rescue,
    /// A repository's own upstream must deliver what is here already.
    Unproven,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            in_flight: Gauge::default(),
            duplicates: Counter::default(),
            ungoverned: Counter::default(),
            orphans_paused: Counter::default(),
            slow_clients: Counter::default(),
            fills: Family::default(),
            passthrough: Family::default(),
        };
        registry.register("flotilla_fills_in_flight", "Blobs being fetched into the store", metrics.in_flight.clone());
        registry.register(
            "flotilla_fill_duplicates",
            "Blob bodies asked of an upstream although the blob was here or on its way",
            metrics.duplicates.clone(),
        );
        registry.register("flotilla_fills_ungoverned", "Fills without a majority's lease", metrics.ungoverned.clone());
        registry.register(
            "flotilla_fills_paused",
            "Fills paused because too many went on without a client",
            metrics.orphans_paused.clone(),
        );
        registry.register("flotilla_fills", "Fills that ended, by result", metrics.fills.clone());
        registry.register(
            "flotilla_passthrough",
            "Blobs passed through without being kept, by reason",
            metrics.passthrough.clone(),
        );
        registry.register(
            "flotilla_passthrough_slow_clients",
            "Clients cut because they took a passing blob too slowly while others waited for their place",
            metrics.slow_clients.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, result: &'static str) {
        self.fills.get_or_create(&FillLabels { result }).inc();
    }

    pub(crate) fn passing(&self, reason: Passing) {
        let label = match reason {
            Passing::DiskFull => "disk_full",
            Passing::DiskFailed => "disk_failed",
            Passing::Rescue => "rescue",
            Passing::Unproven => "unproven",
        };
        self.passthrough.get_or_create(&ReasonLabels { reason: label }).inc();
    }
}

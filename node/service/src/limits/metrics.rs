use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Limit;

/// `who` is `anonymous` or `principal`: networks and names are for the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitedLabels {
    what: &'static str,
    who: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EntriesLabels {
    who: &'static str,
}

pub(super) struct Metrics {
    limited: Family<LimitedLabels, Counter>,
    entries: Family<EntriesLabels, Gauge>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { limited: Family::default(), entries: Family::default() };
        registry.register(
            "flotilla_limited",
            "Work for callers that was refused or put off because they have had their share, by limit",
            metrics.limited.clone(),
        );
        registry.register(
            "flotilla_limit_entries",
            "Callers whose use of the limits is remembered",
            metrics.entries.clone(),
        );
        metrics
    }

    pub(super) fn entries_of(&self, who: &'static str) -> Gauge {
        self.entries.get_or_create(&EntriesLabels { who }).clone()
    }

    pub(super) fn limited(&self, what: Limit, is_anonymous: bool) {
        let who = if is_anonymous { "anonymous" } else { "principal" };
        self.limited.get_or_create(&LimitedLabels { what: what.as_str(), who }).inc();
    }
}

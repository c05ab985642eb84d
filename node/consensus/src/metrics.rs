use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Clones count into the same.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub has_leader: Gauge,
    pub apply_lag: Gauge,
    pub log_bytes: Gauge,
    pub stopped: Gauge,
    pub snapshot_errors: Counter,
    pub proposals_refused: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register("flotilla_raft_has_leader", "1 while this node knows a leader", own.has_leader.clone());
        registry.register(
            "flotilla_raft_apply_lag_entries",
            "Entries of the log that are not applied yet",
            own.apply_lag.clone(),
        );
        registry.register_with_unit("flotilla_raft_log", "Log on disk", Unit::Bytes, own.log_bytes.clone());
        registry.register(
            "flotilla_raft_stopped",
            "1 when this node had to stop applying: an operator must act",
            own.stopped.clone(),
        );
        registry.register(
            "flotilla_raft_snapshot_errors",
            "Snapshots that could not be written",
            own.snapshot_errors.clone(),
        );
        registry.register(
            "flotilla_raft_proposals_refused_busy",
            "Proposals refused since too many waited",
            own.proposals_refused.clone(),
        );
        own
    }

    pub(crate) fn observe(&self, leader: bool, last: Option<u64>, applied: Option<u64>, log_bytes: u64, stopped: bool) {
        self.has_leader.set(leader.into());
        let lag = last.map_or(0, |last| last + 1).saturating_sub(applied.map_or(0, |applied| applied + 1));
        self.apply_lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.log_bytes.set(i64::try_from(log_bytes).unwrap_or(i64::MAX));
        self.stopped.set(stopped.into());
    }
}

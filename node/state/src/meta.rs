use flotilla_base::{ClusterId, Epoch, Timestamp};
use serde::{Deserialize, Serialize};

/// What this program speaks; a committed command of a higher one stops it (`protocols.md` §2.2).
pub const CLUSTER_VERSION: u16 = 2;

/// The state's own few numbers. Counters, never log indexes: a promotion and a restore would bend those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// `None` until the cluster is founded.
    pub cluster: Option<ClusterId>,
    pub cluster_epoch: Epoch,
    pub ring_epoch: u64,
    pub cluster_version: u16,
    /// Stamped by the leader; never goes back.
    pub time: Timestamp,
    pub last_incarnation: u64,
    pub last_tag_version: u64,
    pub last_rule_version: u64,
}

/// How many rows there are, where a limit or an answer asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) rules: u64,
    pub(crate) templates: u64,
    pub(crate) repositories: u64,
    pub(crate) idempotency: u64,
}

//! What the node says about itself and its cluster.

use flotilla_base::{ByteLen, ClusterId, NodeId, Timestamp};

use crate::{Parts, Permit, ServiceError};

pub struct Cluster {}

#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub version: &'static str,
    pub node: NodeId,
    pub name: String,
    pub cluster: ClusterId,
    pub region: String,
    pub started_at: Timestamp,
    pub raft: flotilla_consensus::Status,
    pub storage: flotilla_storage::BlobUsage,
    pub counts: Counts,
    /// Host, whether its circuit is open.
    pub upstreams: Vec<(String, bool)>,
    pub fills_in_flight: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub rules: u64,
    pub templates: u64,
    pub repositories: u64,
}

impl Cluster {
    pub(crate) fn new(parts: &Parts) -> Self {
        todo!()
    }

    pub fn status(&self, permit: Permit<'_>) -> Result<NodeStatus, ServiceError> {
        todo!()
    }

    /// This node can serve what it holds: neither leader, quorum, upstream nor peers are asked (`requirements.md` A).
    /// `Err` says why not.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }

    pub fn account_id(&self) -> String {
        todo!()
    }

    pub fn home_region(&self) -> String {
        todo!()
    }

    /// Sets an account setting.
    pub async fn put_setting(&self, permit: Permit<'_>, name: &str, value: &str) -> Result<(), ServiceError> {
        todo!()
    }

    /// The stored value, or the default of a known setting; `None` for an unknown one.
    pub fn setting(&self, permit: Permit<'_>, name: &str) -> Result<Option<String>, ServiceError> {
        todo!()
    }
}

use flotilla_base::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// A node as the cluster records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: String,
    pub region: String,
    pub zone: String,
    /// Highest cluster version whose commands this node can apply (`protocols.md` §2.2).
    pub speaks: u16,
    pub state: NodeState,
    pub joined_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    Joining,
    Active,
    Draining,
    Removed,
}

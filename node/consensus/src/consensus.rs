use std::{path::PathBuf, sync::Arc};

use flotilla_base::{LogIndex, NodeId};
use flotilla_registry::access::PrincipalArn;
use flotilla_runtime::{Host, Published};
use flotilla_state::{Founding, IdempotencyKey, Op, Outcome, View};
use prometheus_client::registry::Registry;

use crate::{ConsensusConfig, ProposeError, StartError, Unavailable};

/// What a member of the group is made of.
pub struct Parts {
    pub node: NodeId,
    pub host: Host,
    /// Holds `boot`, `raft/` (vote and log), `state/` (sled) and `snapshot/`.
    pub dir: PathBuf,
    pub config: ConsensusConfig,
}

/// This node's part in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub leader: Option<NodeId>,
    pub is_leader: bool,
    pub term: u64,
    pub last_log: Option<LogIndex>,
    pub applied: Option<LogIndex>,
    pub health: Health,
    pub log_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// It applies nothing any more, and why: an operator must act.
    Stopped(String),
}

/// The handle for all that must be agreed on.
pub struct Consensus(());

impl Consensus {
    /// Opens, recovers and replays; founds nothing. A node that is the whole group has applied, on return, all that it
    /// ever acknowledged.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: Parts, registry: &mut Registry) -> Result<Arc<Self>, StartError> {
        todo!()
    }

    /// The state as this node has applied it.
    pub fn view(&self) -> Published<View> {
        todo!()
    }

    /// Makes this node a group of one and gives it its first command, once per data folder. A crash between the two is
    /// survived: a second call finishes.
    ///
    /// # Errors
    /// As [`Consensus::propose`]; `Refused(AlreadyFounded)` when there is nothing left to do.
    pub async fn found(&self, founding: Founding) -> Result<(), ProposeError> {
        todo!()
    }

    /// Returns after the operation is committed and applied here. Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// [`ProposeError`]; `Unavailable` after 5 s: it may still be applied.
    pub async fn propose(
        &self,
        by: &PrincipalArn,
        idempotency: Option<IdempotencyKey>,
        op: Op,
    ) -> Result<Outcome, ProposeError> {
        todo!()
    }

    /// On return the view shows everything that any node had acknowledged before the call. Callers share rounds. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`Unavailable`] after 2 s, or at once without a leader.
    pub async fn read_barrier(&self) -> Result<LogIndex, Unavailable> {
        todo!()
    }

    pub fn status(&self) -> Status {
        todo!()
    }

    /// Refuses new proposals, finishes those that wait, makes everything durable. To be called before the tasks of the
    /// host are finished: until then other parts may still propose.
    pub async fn stop(&self) {
        todo!()
    }
}

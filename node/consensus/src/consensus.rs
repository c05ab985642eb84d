use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flotilla_base::{LogIndex, NodeId};
use flotilla_registry::{Refusal, access::PrincipalArn};
use flotilla_runtime::{Blocking, Host, Published};
use flotilla_state::{Founding, IdempotencyKey, Op, Outcome, View};
use openraft::{EmptyNode, error::InitializeError, error::RaftError};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    ConsensusConfig, ProposeError, StartError, Unavailable, barrier,
    collector::{Pending, RETRY_AFTER},
    halt::{Halt, chain},
    home::{Home, SledHome},
    log_store::LogStore,
    metrics::Metrics,
    start,
    state_machine::Inner,
    types::Raft,
};

/// Longest wait for a proposal's outcome (`protocols.md` §3.2).
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for proposals under way when the node stops.
const DRAIN: Duration = Duration::from_secs(10);

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
pub struct Consensus {
    pub(crate) node: NodeId,
    pub(crate) blocking: Blocking,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) state: Arc<Inner>,
    pub(crate) view: Published<View>,
    pub(crate) halt: Halt,
    pub(crate) metrics: Metrics,
    /// Taken when the node stops: the collector ends with its last sender.
    pub(crate) queue: Mutex<Option<mpsc::Sender<Pending>>>,
    pub(crate) barriers: mpsc::Sender<barrier::Waiting>,
    pub(crate) stopping: watch::Sender<bool>,
    /// Resolves when the collector has answered everything.
    pub(crate) drained: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Consensus {
    /// Opens, recovers and replays; founds nothing. A node that is the whole group has applied, on return, all that it
    /// ever acknowledged.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: Parts, registry: &mut Registry) -> Result<Arc<Self>, StartError> {
        let dir = parts.dir.join("state");
        let home = parts.host.blocking.run(move || SledHome::open(&dir)).await?;
        start::start(parts, Arc::new(home) as Arc<dyn Home>, registry).await
    }

    /// The state as this node has applied it.
    pub fn view(&self) -> Published<View> {
        self.view.clone()
    }

    /// Makes this node a group of one and gives it its first command, once per data folder. A crash between the two is
    /// survived: a second call finishes.
    ///
    /// # Errors
    /// As [`Consensus::propose`]; `Refused(AlreadyFounded)` when there is nothing left to do.
    pub async fn found(&self, founding: Founding) -> Result<(), ProposeError> {
        if self.view.load().is_founded() {
            return Err(Refusal::AlreadyFounded.into());
        }
        let members = std::collections::BTreeMap::from([(self.node, EmptyNode {})]);
        match self.raft.initialize(members).await {
            // Not allowed: an earlier call did this and was cut before its command.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(RaftError::APIError(error)) => {
                tracing::error!(error = chain(&error), "the group could not be founded");
                return Err(unavailable().into());
            }
            Err(RaftError::Fatal(_)) => return Err(ProposeError::Stopped),
        }
        let wait = self.raft.wait(Some(DEADLINE));
        wait.current_leader(self.node, "the founder leads").await.map_err(|_| unavailable())?;
        let by = PrincipalArn::root(&founding.account_id);
        self.propose(&by, None, Op::Found(Box::new(founding))).await.map(drop)
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
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.filter(|_| self.halt.reason().is_none()).ok_or(ProposeError::Stopped)?;
        let (pending, answer) = Pending::new(by.clone(), idempotency, op)?;
        match queue.try_send(pending) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.proposals_refused.inc();
                return Err(unavailable().into());
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ProposeError::Stopped),
        }
        drop(queue);
        match timeout(DEADLINE, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(unavailable().into()),
        }
    }

    /// On return the view shows everything that any node had acknowledged before the call. Callers share rounds. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`Unavailable`] after 2 s, or at once without a leader.
    pub async fn read_barrier(&self) -> Result<LogIndex, Unavailable> {
        let (waiting, answer) = oneshot::channel();
        self.barriers.try_send(waiting).map_err(|_| unavailable())?;
        match timeout(barrier::DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(unavailable()),
        }
    }

    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let raft = metrics.borrow();
        Status {
            leader: raft.current_leader,
            is_leader: raft.current_leader == Some(self.node),
            term: raft.current_term,
            last_log: raft.last_log_index.map(LogIndex),
            applied: raft.last_applied.map(|id| LogIndex(id.index)),
            health: self.halt.health(),
            log_bytes: self.log.len_bytes(),
        }
    }

    /// Refuses new proposals, finishes those that wait, makes everything durable. To be called before the tasks of the
    /// host are finished: until then other parts may still propose.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let drained = self.drained.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drained) = drained
            && timeout(DRAIN, drained).await.is_err()
        {
            tracing::warn!(waited = ?DRAIN, "proposals had no answer when the node stopped");
        }
        if self.raft.shutdown().await.is_err() {
            tracing::warn!("consensus ended with a panic");
        }
        let state = self.state.clone();
        if let Err(error) = self.blocking.run(move || state.close()).await {
            // The log has it all.
            tracing::warn!(
                error = chain(&error),
                "the state could not be made durable; the next start replays the log"
            );
        }
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
    }
}

fn unavailable() -> Unavailable {
    Unavailable { retry_after: RETRY_AFTER }
}

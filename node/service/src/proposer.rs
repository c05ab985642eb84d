use std::sync::Arc;

use flotilla_base::LogIndex;
use flotilla_consensus::Consensus;
use flotilla_registry::access::PrincipalArn;
use flotilla_state::{IdempotencyKey, Op, Outcome};

use crate::{Parts, Permit, ServiceError};

/// The one way to change state: says who, and makes a client's retry harmless.
#[derive(Clone)]
pub struct Proposer {
    consensus: Arc<Consensus>,
}

impl Proposer {
    pub fn new(parts: &Parts) -> Self {
        Self { consensus: parts.consensus.clone() }
    }

    /// Returns after commit and local apply.
    pub async fn propose(&self, permit: Permit<'_>, op: Op) -> Result<Outcome, ServiceError> {
        self.propose_marked(permit, permit.caller().idempotency.clone(), op).await
    }

    async fn propose_marked(
        &self,
        permit: Permit<'_>,
        mark: Option<IdempotencyKey>,
        op: Op,
    ) -> Result<Outcome, ServiceError> {
        let caller = permit.caller();
        let outcome = self.consensus.propose(&caller.principal, mark, op).await?;
        tracing::info!(principal = %caller.principal, action = permit.action().0, request_id = %caller.request, "changed");
        Ok(outcome)
    }

    /// As [`Proposer::propose`], without the client's mark of its call. For what takes a secret: the mark holds the hash
    /// of what was sent. And for what makes one: a retry would be answered with the first one's success, and its own
    /// secret be worth nothing; so the client sees that there is something already.
    pub async fn propose_unmarked(&self, permit: Permit<'_>, op: Op) -> Result<Outcome, ServiceError> {
        self.propose_marked(permit, None, op).await
    }

    /// What the node does on its own account: imports, links, counters.
    pub async fn propose_as_node(&self, op: Op) -> Result<Outcome, ServiceError> {
        Ok(self.consensus.propose(&PrincipalArn::system(), None, op).await?)
    }

    /// After it, what any node had acknowledged before is in the local tables. Asked before every "no".
    pub async fn barrier(&self) -> Result<LogIndex, ServiceError> {
        let barrier = self.consensus.read_barrier().await;
        barrier.map_err(|unavailable| ServiceError::Unavailable { retry_after: unavailable.retry_after })
    }
}

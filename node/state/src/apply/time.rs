//! State time: stamped by the leader, never back, never far ahead (`protocols.md` §2.3).

use std::{collections::BTreeSet, time::Duration};

use flotilla_base::{NodeId, Timestamp, store::StoreError};
use flotilla_registry::NodeState;

use super::{Applier, Halt};
use crate::{CommandBatch, Op, Outcome};

/// A tick comes each minute, so a longer step means a cluster that was off, or a wrong clock.
const STEP_MAX: Duration = Duration::from_secs(60 * 60);

/// What a clock may be behind the time that it vouches for: the bound on the leader's own clock.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Rows of a kind that one tick drops: readers wait while a batch is written, and after a time off all may have expired.
const EXPIRED_ROWS: usize = 512;

impl Applier<'_, '_> {
    /// Moves state time to that of `batch`; `false`: the step is too large, and nothing of the batch may happen.
    pub(super) fn advance(&mut self, batch: &CommandBatch) -> Result<bool, StoreError> {
        let allowed = |to: Timestamp| self.meta.cluster.is_none() || to.since(self.meta.time) <= STEP_MAX;
        let (to, accepted) = match batch.commands.as_slice() {
            [command] => match &command.op {
                Op::AdvanceTime { to, clocks } => (*to, self.vouched(*to, clocks)?),
                _ => (batch.at, allowed(batch.at)),
            },
            _ => (batch.at, allowed(batch.at)),
        };
        if accepted {
            self.meta.time = self.meta.time.max(to);
        }
        Ok(accepted)
    }

    /// Whether none of `clocks` is behind `to`, and they are those of more than half of the nodes that take part.
    fn vouched(&self, to: Timestamp, clocks: &[(NodeId, Timestamp)]) -> Result<bool, StoreError> {
        if clocks.iter().any(|(_, clock)| to.since(*clock) > CLOCK_SKEW) {
            return Ok(false);
        }
        let vouching: BTreeSet<NodeId> = clocks.iter().map(|(node, _)| *node).collect();
        let nodes = self.tables().nodes()?.into_iter();
        // A draining node has its vote until it is removed.
        let taking_part = nodes.filter(|node| matches!(node.state, NodeState::Active | NodeState::Draining));
        let (vouch, rest): (Vec<_>, Vec<_>) = taking_part.partition(|node| vouching.contains(&node.id));
        Ok(vouch.len() > rest.len())
    }

    /// Drops some of what has expired; nobody is answered from it, so that it may stay a while.
    pub(super) fn tick(&mut self) -> Result<Outcome, Halt> {
        self.expire_outcomes(EXPIRED_ROWS)?;
        self.expire_replies()?;
        self.expire_parts(EXPIRED_ROWS)?;
        self.purge_secrets()?;
        Ok(Outcome::Done)
    }
}

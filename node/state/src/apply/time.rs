//! State time: stamped by the leader, never back, never far ahead (`protocols.md` §2.3).

use std::time::Duration;

use flotilla_base::Timestamp;

use super::{Applier, Halt};
use crate::{CommandBatch, Op, Outcome};

/// A tick comes each minute, so a longer step means a cluster that was off, or a wrong clock.
const STEP_MAX: Duration = Duration::from_secs(60 * 60);

/// What a clock may be behind the time that it vouches for: the bound on the leader's own clock.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

impl Applier<'_, '_> {
    /// Moves state time to that of `batch`; `false`: the step is too large, and nothing of the batch may happen.
    pub(super) fn advance(&mut self, batch: &CommandBatch) -> bool {
        let allowed = |to: Timestamp| self.meta.cluster.is_none() || to.since(self.meta.time) <= STEP_MAX;
        let (to, accepted) = match batch.commands.as_slice() {
            [command] => match &command.op {
                Op::AdvanceTime { to, clocks } => {
                    let vouched = clocks.iter().all(|(_, clock)| to.since(*clock) <= CLOCK_SKEW);
                    (*to, vouched && !clocks.is_empty())
                }
                _ => (batch.at, allowed(batch.at)),
            },
            _ => (batch.at, allowed(batch.at)),
        };
        if accepted {
            self.meta.time = self.meta.time.max(to);
        }
        accepted
    }

    /// Drops what has expired.
    pub(super) fn tick(&mut self) -> Result<Outcome, Halt> {
        self.expire_outcomes()?;
        self.expire_replies()?;
        self.expire_parts()?;
        Ok(Outcome::Done)
    }
}

//! Each operation happens once, however often it is sent: by its id, and by its client's own mark (`protocols.md` §3.2).

use std::time::Duration;

use bytes::Bytes;
use flotilla_base::{
    NodeId, OpId, Timestamp, codec,
    store::{StoreError, Table},
};
use flotilla_registry::{Refusal, access::PrincipalArn};

use super::Applier;
use crate::{
    IdempotencyKey, Outcome, Reply,
    format::{
        IDEMPOTENCY, IDEMPOTENCY_BY_TIME, PROCESSES, REPLIES, corrupt, decode_row, empty_row, node_key, reply_key,
        time_key,
    },
    records::{KeptOutcome, Process},
};

/// Replies that are kept per process; its proposer has no more operations under way.
const REPLIES_MAX: u64 = 1_024;

/// A process that proposed nothing for so long waits for no reply.
const REPLIES_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// AWS SDKs give up far earlier.
const OUTCOME_TTL: Duration = Duration::from_secs(15 * 60);

/// Bounds the table; reached only by a client that floods, whose own marks are then mostly the oldest.
const OUTCOMES_MAX: u64 = 100_000;

/// Rows that expiry reads at once.
const PAGE: usize = 256;

/// What one client's mark of one call is kept under.
pub(super) fn mark(by: &PrincipalArn, key: &IdempotencyKey) -> [u8; 32] {
    let bytes = codec::encode(1, &(by, key)).expect("no Serialize of ours refuses");
    blake3::hash(&bytes).into()
}

impl Applier<'_, '_> {
    /// The reply that `id` has had, or must have because its time is over; `None` when it is new.
    pub(super) fn reply_of_before(&mut self, id: OpId, acked_below: u64) -> Result<Option<Reply>, StoreError> {
        let fresh = Process { boot: id.boot, floor: 0, kept: 0, last_at: self.meta.time };
        let mut process = match self.process(id.node)? {
            None => fresh,
            Some(process) if process.boot > id.boot => return Ok(Some(Err(Refusal::StaleOperation))),
            Some(process) if process.boot < id.boot => {
                self.raise_floor(id.node, process, None)?;
                fresh
            }
            Some(process) => process,
        };
        if let Some(reply) = self.tables().row::<Reply>(REPLIES, &reply_key(id))? {
            return Ok(Some(reply));
        }
        if id.seq < process.floor {
            return Ok(Some(Err(Refusal::StaleOperation)));
        }
        // Its own reply is not acknowledged yet, whatever it says.
        let acked_below = acked_below.min(id.seq);
        if acked_below > process.floor {
            process = self.raise_floor(id.node, process, Some(acked_below))?;
        }
        process.last_at = self.meta.time;
        self.put(PROCESSES, node_key(id.node), &process)?;
        Ok(None)
    }

    pub(super) fn keep_reply(&mut self, id: OpId, reply: &Reply) -> Result<(), StoreError> {
        let Some(mut process) = self.process(id.node)? else { return Ok(()) };
        self.put(REPLIES, reply_key(id), reply)?;
        process.kept = process.kept.saturating_add(1);
        if process.kept > REPLIES_MAX {
            let oldest = self.kept_from(id.node, &process)?.first().copied();
            process = self.raise_floor(id.node, process, oldest.map(|seq| seq.saturating_add(1)))?;
        }
        self.put(PROCESSES, node_key(id.node), &process)
    }

    /// Drops the replies of a process below a number, or all of them, and raises the floor so that what was forgotten
    /// cannot happen again.
    fn raise_floor(&mut self, node: NodeId, mut process: Process, to: Option<u64>) -> Result<Process, StoreError> {
        loop {
            let kept = self.kept_from(node, &process)?;
            let below: Vec<u64> = kept.iter().copied().filter(|seq| to.is_none_or(|to| *seq < to)).collect();
            for seq in &below {
                self.remove(REPLIES, reply_key(OpId { node, boot: process.boot, seq: *seq }))?;
                process.kept = process.kept.saturating_sub(1);
                process.floor = seq.saturating_add(1);
            }
            if below.is_empty() || below.len() < kept.len() {
                process.floor = process.floor.max(to.unwrap_or_default());
                return Ok(process);
            }
        }
    }

    /// A page of the operations whose replies are kept. Below the floor there are none: no time is lost on rows that
    /// are gone.
    fn kept_from(&self, node: NodeId, process: &Process) -> Result<Vec<u64>, StoreError> {
        let mut prefix = reply_key(OpId { node, boot: process.boot, seq: 0 });
        prefix.truncate(prefix.len() - size_of::<u64>());
        let after = process.floor.checked_sub(1).map(u64::to_be_bytes);
        let page = self.tables().under(REPLIES, &prefix, after.as_ref().map(<[u8; 8]>::as_slice), PAGE)?;
        page.iter().map(|(seq, _)| read_number(REPLIES, seq)).collect()
    }

    /// Drops the replies of one silent process: they are as many as a batch should drop.
    pub(super) fn expire_replies(&mut self) -> Result<(), StoreError> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.tables().under(PROCESSES, &[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in &page {
                let process: Process = decode_row(PROCESSES, row)?;
                if process.kept > 0 && self.meta.time.since(process.last_at) >= REPLIES_TTL {
                    return self.forget_replies(NodeId(read_number(PROCESSES, key)?));
                }
            }
        }
    }

    /// Drops every reply of a node's process.
    pub(super) fn forget_replies(&mut self, node: NodeId) -> Result<(), StoreError> {
        let Some(process) = self.process(node)? else { return Ok(()) };
        let process = self.raise_floor(node, process, None)?;
        self.put(PROCESSES, node_key(node), &process)
    }

    fn process(&self, node: NodeId) -> Result<Option<Process>, StoreError> {
        self.tables().row(PROCESSES, &node_key(node))
    }

    /// What the same call of the same principal got within the last 15 minutes.
    pub(super) fn outcome_of_before(&self, mark: Option<&[u8; 32]>) -> Result<Option<Outcome>, StoreError> {
        let Some(mark) = mark else { return Ok(None) };
        let kept = self.tables().row::<KeptOutcome>(IDEMPOTENCY, mark)?;
        Ok(kept.filter(|kept| self.meta.time.since(kept.at) < OUTCOME_TTL).map(|kept| kept.outcome))
    }

    pub(super) fn keep_outcome(&mut self, mark: Option<[u8; 32]>, outcome: &Outcome) -> Result<(), StoreError> {
        let Some(mark) = mark else { return Ok(()) };
        let at = self.meta.time;
        match self.tables().row::<KeptOutcome>(IDEMPOTENCY, &mark)? {
            Some(expired) => self.remove(IDEMPOTENCY_BY_TIME, time_key(expired.at, &mark))?,
            None => self.counters.idempotency = self.counters.idempotency.saturating_add(1),
        }
        self.put(IDEMPOTENCY, mark.to_vec(), &KeptOutcome { at, outcome: outcome.clone() })?;
        self.overlay.write(IDEMPOTENCY_BY_TIME, time_key(at, &mark), Some(empty_row()))?;
        if self.counters.idempotency > OUTCOMES_MAX {
            let oldest = self.tables().under(IDEMPOTENCY_BY_TIME, &[], None, 1)?;
            if let Some((key, _)) = oldest.first() {
                self.forget_outcome(key)?;
            }
        }
        Ok(())
    }

    /// Drops those that expired first, at most `limit`.
    pub(super) fn expire_outcomes(&mut self, limit: usize) -> Result<(), StoreError> {
        for (key, _) in self.tables().under(IDEMPOTENCY_BY_TIME, &[], None, limit)? {
            if self.meta.time.since(Timestamp(read_number(IDEMPOTENCY_BY_TIME, &key)?)) < OUTCOME_TTL {
                break;
            }
            self.forget_outcome(&key)?;
        }
        Ok(())
    }

    fn forget_outcome(&mut self, time_key: &[u8]) -> Result<(), StoreError> {
        let mark = time_key.get(8..).unwrap_or_default();
        self.remove(IDEMPOTENCY, mark.to_vec())?;
        self.remove(IDEMPOTENCY_BY_TIME, time_key.to_vec())?;
        self.counters.idempotency = self.counters.idempotency.saturating_sub(1);
        Ok(())
    }
}

/// The number that a key begins with.
fn read_number(table: Table, key: &[u8]) -> Result<u64, StoreError> {
    let number = key.first_chunk().ok_or_else(|| corrupt(table, "a key is too short for its number"))?;
    Ok(u64::from_be_bytes(*number))
}

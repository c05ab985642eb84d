//! Each operation happens once, however often it is sent: by its id, and by its client's own mark (`protocols.md` §3.2).

use std::time::Duration;

use flotilla_base::{OpId, Timestamp, codec, store::StoreError};
use flotilla_registry::{Refusal, access::PrincipalArn};

use super::Applier;
use crate::{
    IdempotencyKey, Outcome, Reply,
    format::{
        IDEMPOTENCY, IDEMPOTENCY_BY_TIME, NODES, PROCESSES, REPLIES, corrupt, empty_row, node_key, reply_key, time_key,
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
        let key = node_key(id.node);
        let fresh = Process { boot: id.boot, floor: 0, kept: 0, last_at: self.meta.time };
        let mut process = match self.tables().row::<Process>(PROCESSES, &key)? {
            None => fresh,
            Some(process) if process.boot > id.boot => return Ok(Some(Err(Refusal::StaleOperation))),
            Some(process) if process.boot < id.boot => {
                self.forget_replies(OpId { node: id.node, boot: process.boot, seq: u64::MAX }, process)?;
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
            process = self.forget_replies(OpId { seq: acked_below, ..id }, process)?;
        }
        process.last_at = self.meta.time;
        self.put(PROCESSES, key, &process)?;
        Ok(None)
    }

    pub(super) fn keep_reply(&mut self, id: OpId, reply: &Reply) -> Result<(), StoreError> {
        let key = node_key(id.node);
        // The operation itself may have removed its node, and with it the row.
        let Some(mut process) = self.tables().row::<Process>(PROCESSES, &key)? else { return Ok(()) };
        self.put(REPLIES, reply_key(id), reply)?;
        process.kept = process.kept.saturating_add(1);
        while process.kept > REPLIES_MAX {
            let of_process = reply_key(OpId { seq: 0, ..id });
            let prefix = &of_process[..16];
            let oldest = self.tables().under(REPLIES, prefix, None, 1)?;
            let Some((seq, _)) = oldest.first() else { break };
            let seq = read_seq(seq)?;
            process = self.forget_replies(OpId { seq: seq.saturating_add(1), ..id }, process)?;
        }
        self.put(PROCESSES, key, &process)
    }

    /// Drops the replies of `below`'s process below its number, and raises the floor to it.
    fn forget_replies(&mut self, below: OpId, mut process: Process) -> Result<Process, StoreError> {
        let of_process = reply_key(OpId { seq: 0, ..below });
        let prefix = &of_process[..16];
        let mut after = None;
        'pages: loop {
            let page = self.tables().under(REPLIES, prefix, after.as_deref(), PAGE)?;
            for (key, _) in &page {
                let seq = read_seq(key)?;
                if seq >= below.seq {
                    break 'pages;
                }
                self.remove(REPLIES, reply_key(OpId { seq, ..below }))?;
                process.kept = process.kept.saturating_sub(1);
            }
            match page.last() {
                Some((key, _)) => after = Some(key.clone()),
                None => break,
            }
        }
        process.floor = process.floor.max(below.seq);
        Ok(process)
    }

    /// Replies go; the floor stays, so that what was forgotten cannot happen again.
    pub(super) fn expire_replies(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.tables().under(PROCESSES, &[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, _) in page {
                let Some(process) = self.tables().row::<Process>(PROCESSES, &key)? else { continue };
                if process.kept > 0 && self.meta.time.since(process.last_at) >= REPLIES_TTL {
                    let node = flotilla_base::NodeId(read_seq(&key)?);
                    self.forget_process(node)?;
                }
            }
        }
    }

    /// Drops every reply of a node's process.
    pub(super) fn forget_process(&mut self, node: flotilla_base::NodeId) -> Result<(), StoreError> {
        let Some(process) = self.tables().row::<Process>(PROCESSES, &node_key(node))? else { return Ok(()) };
        let boot = process.boot;
        let prefix = reply_key(OpId { node, boot, seq: 0 });
        let mut highest = None;
        let mut after = None;
        loop {
            let page = self.tables().under(REPLIES, &prefix[..16], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            highest = Some(read_seq(last)?);
            after = Some(last.clone());
        }
        let Some(highest) = highest else { return Ok(()) };
        let process = self.forget_replies(OpId { node, boot, seq: highest.saturating_add(1) }, process)?;
        self.put(PROCESSES, node_key(node), &process)
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

    pub(super) fn expire_outcomes(&mut self) -> Result<(), StoreError> {
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let page = self.tables().under(IDEMPOTENCY_BY_TIME, &[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, _) in &page {
                if self.meta.time.since(Timestamp(read_seq(key)?)) < OUTCOME_TTL {
                    return Ok(());
                }
                self.forget_outcome(key)?;
            }
        }
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
fn read_seq(key: &[u8]) -> Result<u64, StoreError> {
    let number = key.first_chunk().ok_or_else(|| corrupt(NODES, "a key is too short for its number"))?;
    Ok(u64::from_be_bytes(*number))
}

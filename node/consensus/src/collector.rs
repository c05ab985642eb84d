//! Operations on their way into the log: gathered while an entry is under way, stamped, sent, answered.
//!
//! openraft writes and syncs each entry by itself, so many operations share one. An idle collector sends at once: waiting
//! pays only when there is something to wait for.

use std::{collections::BTreeSet, time::Duration};

use flotilla_base::{BootId, ByteLen, NodeId, OpId, Timestamp, codec::CodecError};
use flotilla_registry::access::PrincipalArn;
use flotilla_runtime::{Clock, Published};
use flotilla_state::{COMMAND_LIMIT, Command, CommandBatch, IdempotencyKey, Op, Outcome, View};
use openraft::error::{ClientWriteError, ForwardToLeader};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    ProposeError, Unavailable,
    network::Alone,
    types::{Proposal, Raft, Replies},
};

/// Longest wait for company while an entry is under way.
const GATHER: Duration = Duration::from_millis(1);
/// Most operations in an entry; beyond it the gain of sharing is small and the wait for the last one is not.
const BATCH_OPS: usize = 64;
/// Entries under way: one that is synced or replicated, the next behind it. More would only split the batches.
const IN_FLIGHT: usize = 4;
/// A longer step of state time needs an entry of its own that says so (`protocols.md` §2.3).
const STEP: Duration = Duration::from_secs(60 * 60);
/// What a client is told to wait when there was no agreement: an election is over by then.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One operation that waits for its answer.
pub(crate) struct Pending {
    /// Numbered when it is sent.
    command: Command,
    /// Upper bound of what it takes in an entry.
    len_bytes: u64,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Outcome, ProposeError>>;
pub(crate) type Answer = oneshot::Receiver<Result<Outcome, ProposeError>>;

impl Pending {
    /// # Errors
    /// [`ProposeError::TooLarge`] for what would not fit into an entry alone.
    pub(crate) fn new(
        by: PrincipalArn,
        idempotency: Option<IdempotencyKey>,
        op: Op,
    ) -> Result<(Self, Answer), ProposeError> {
        // The largest numbers take the most bytes.
        let id = OpId { node: NodeId(u64::MAX), boot: BootId(u64::MAX), seq: u64::MAX };
        let command = Command { id, acked_below: u64::MAX, by, idempotency, op };
        let mut alone = CommandBatch { at: Timestamp(u64::MAX), commands: vec![command] };
        let len_bytes = match alone.encode() {
            Ok(bytes) => bytes.len() as u64,
            Err(CodecError::TooLong { len, limit }) => return Err(ProposeError::TooLarge { len, limit }),
            Err(_) => return Err(ProposeError::TooLarge { len: ByteLen(u64::MAX), limit: COMMAND_LIMIT }),
        };
        let command = alone.commands.pop().expect("it was put there above");
        let (reply, answer) = oneshot::channel();
        Ok((Self { command, len_bytes, reply }, answer))
    }
}

pub(crate) struct Collector {
    raft: Raft,
    network: Alone,
    view: Published<View>,
    clock: Clock,
    node: NodeId,
    boot: BootId,
    queue: mpsc::Receiver<Pending>,
    /// The first of the next batch: it did not fit into the one before.
    held: Option<Pending>,
    in_flight: JoinSet<Settled>,
    next_seq: u64,
    unanswered: BTreeSet<u64>,
    /// Of entries that are not applied yet.
    stamped: Timestamp,
}

/// An entry whose operations have their answers.
struct Settled {
    seqs: Vec<u64>,
    committed: bool,
}

impl Collector {
    pub(crate) fn new(
        (raft, network): (Raft, Alone),
        view: Published<View>,
        clock: Clock,
        (node, boot): (NodeId, BootId),
        queue: mpsc::Receiver<Pending>,
    ) -> Self {
        Self {
            raft,
            network,
            view,
            clock,
            node,
            boot,
            queue,
            held: None,
            in_flight: JoinSet::new(),
            next_seq: 0,
            unanswered: BTreeSet::new(),
            stamped: Timestamp(0),
        }
    }

    /// Runs until every sender is gone and everything has its answer.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.first().await {
            let batch = self.gather(first).await;
            self.send(batch).await;
        }
        while let Some(done) = self.in_flight.join_next().await {
            self.settle(done);
        }
    }

    async fn first(&mut self) -> Option<Pending> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            tokio::select! {
                Some(done) = self.in_flight.join_next() => self.settle(done),
                first = self.queue.recv() => return first,
            }
        }
    }

    /// The operations of the next entry: those that wait already, and while an entry is under way those that come within
    /// [`GATHER`], or until there is room for another entry.
    async fn gather(&mut self, first: Pending) -> Vec<Pending> {
        let deadline = Instant::now() + GATHER;
        let mut len_bytes = first.len_bytes;
        let mut batch = vec![first];
        loop {
            let full = batch.len() >= BATCH_OPS || self.held.is_some();
            let room = self.in_flight.len() < IN_FLIGHT;
            if full && room {
                return batch;
            }
            tokio::select! {
                biased;
                next = self.queue.recv(), if !full => match next {
                    Some(next) if len_bytes.saturating_add(next.len_bytes) > COMMAND_LIMIT.0 => self.held = Some(next),
                    Some(next) => {
                        len_bytes = len_bytes.saturating_add(next.len_bytes);
                        batch.push(next);
                    }
                    None => return batch,
                },
                Some(done) = self.in_flight.join_next() => self.settle(done),
                () = std::future::ready(()), if self.in_flight.is_empty() => return batch,
                () = sleep_until(deadline), if room => return batch,
            }
        }
    }

    async fn send(&mut self, mut batch: Vec<Pending>) {
        // Nobody waits for these any more, and nothing has happened yet.
        batch.retain(|pending| !pending.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let at = self.stamp().await;
        let (mut commands, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Pending { command, reply, .. } in batch {
            commands.push(self.numbered(command));
            replies.push(reply);
        }
        self.submit(CommandBatch { at, commands }, replies).await;
    }

    /// The time of the next entry: this node's clock, never below the state's. A group of one is its own majority.
    async fn stamp(&mut self) -> Timestamp {
        let now = self.clock.now();
        let view = self.view.load();
        let state = view.meta.time.max(self.stamped);
        if view.is_founded() && now.since(state) > STEP {
            tracing::warn!(from = state.0, to = now.0, "state time makes a long step");
            let op = Op::AdvanceTime { to: now, clocks: vec![(self.node, now)] };
            let command =
                Command { id: OpId::default(), acked_below: 0, by: PrincipalArn::system(), idempotency: None, op };
            let command = self.numbered(command);
            self.submit(CommandBatch { at: state, commands: vec![command] }, Vec::new()).await;
        }
        self.stamped = state.max(now);
        self.stamped
    }

    fn numbered(&mut self, command: Command) -> Command {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.unanswered.insert(seq);
        let acked_below = self.unanswered.first().copied().unwrap_or(seq);
        Command { id: OpId { node: self.node, boot: self.boot, seq }, acked_below, ..command }
    }

    async fn submit(&mut self, batch: CommandBatch, waiting: Vec<Reply>) {
        let seqs: Vec<u64> = batch.commands.iter().map(|command| command.id.seq).collect();
        let sent = match batch.encode() {
            Ok(bytes) => self.raft.client_write_ff(Proposal(bytes)).await.map_err(|_| ProposeError::Stopped),
            Err(_) => Err(ProposeError::TooLarge { len: COMMAND_LIMIT, limit: COMMAND_LIMIT }),
        };
        match sent {
            Ok(response) => {
                let network = self.network;
                self.in_flight.spawn(async move {
                    let unavailable = || ProposeError::Unavailable(Unavailable { retry_after: RETRY_AFTER });
                    let answer = match response.await {
                        Ok(Ok(response)) => Ok(response.data),
                        Ok(Err(ClientWriteError::ForwardToLeader(ForwardToLeader {
                            leader_id: Some(leader), ..
                        }))) => network.forward(leader, batch).await.map_err(|_| unavailable()),
                        Ok(Err(_)) => Err(unavailable()),
                        Err(_) => Err(ProposeError::Stopped),
                    };
                    let committed = answer.is_ok();
                    respond(waiting, answer);
                    Settled { seqs, committed }
                });
            }
            Err(error) => {
                self.forget(&seqs);
                respond(waiting, Err(error));
            }
        }
    }

    fn settle(&mut self, done: Result<Settled, JoinError>) {
        // A task that waits and answers neither panics nor is aborted.
        let Ok(done) = done else { return };
        self.forget(&done.seqs);
        if !done.committed {
            // Its time may never become the state's.
            self.stamped = Timestamp(0);
        }
    }

    fn forget(&mut self, seqs: &[u64]) {
        for seq in seqs {
            self.unanswered.remove(seq);
        }
    }
}

fn respond(waiting: Vec<Reply>, answer: Result<Replies, ProposeError>) {
    match answer {
        Ok(Replies(replies)) => {
            for (waiting, reply) in waiting.into_iter().zip(replies) {
                // Who no longer waits has been told that the outcome is unknown.
                let _ = waiting.send(reply.map_err(ProposeError::Refused));
            }
        }
        Err(error) => {
            for waiting in waiting {
                let _ = waiting.send(Err(error.clone()));
            }
        }
    }
}

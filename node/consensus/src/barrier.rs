use std::time::Duration;

use flotilla_base::LogIndex;
use flotilla_runtime::Published;
use flotilla_state::View;
use openraft::EmptyNode;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Unavailable, collector::RETRY_AFTER, network::Alone, types::Raft};

/// A quorum answers in one heartbeat; beyond this there is none (`protocols.md` §3.1).
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// Callers that may wait for one round.
pub(crate) const WAITING: usize = 8_192;

pub(crate) type Waiting = oneshot::Sender<Result<LogIndex, Unavailable>>;

/// Runs one round at a time for all who came before it was sent; who comes later waits for the next, since a round
/// answers for what was acknowledged before it began. Ends when the node stops.
pub(crate) async fn run(
    raft: Raft,
    network: Alone,
    view: Published<View>,
    mut queue: mpsc::Receiver<Waiting>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let first = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        let mut waiting = vec![first];
        while let Ok(next) = queue.try_recv() {
            waiting.push(next);
        }
        let round = tokio::time::timeout(DEADLINE, round(&raft, network, view.clone())).await;
        let answer = round.ok().flatten().ok_or(Unavailable { retry_after: RETRY_AFTER });
        for waiting in waiting {
            // Who gave up needs no answer.
            let _ = waiting.send(answer);
        }
    }
}

async fn round(raft: &Raft, network: Alone, mut view: Published<View>) -> Option<LogIndex> {
    let index = match raft.get_read_log_id().await {
        Ok((read, _)) => LogIndex(read.map_or(0, |id| id.index)),
        Err(error) => {
            let leader = error.forward_to_leader::<EmptyNode>()?.leader_id?;
            network.read_index(leader).await.ok()?
        }
    };
    view.wait_until(|view| view.applied >= index).await?;
    Some(index)
}

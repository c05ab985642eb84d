use std::{sync::Arc, time::Duration};

use flotilla_base::NodeId;
use flotilla_registry::access::PrincipalArn;
use flotilla_state::Op;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Consensus, Parts, StartError, barrier,
    boot::next_boot,
    builder::Control,
    collector::Collector,
    halt::{Halt, chain},
    home::Home,
    keeper::{Keeper, openraft_config},
    metrics::Metrics,
    network::Alone,
    recover::{Recovered, recover},
    types::Raft,
};

/// Replaying a full log takes seconds; what was replayed stays so if it is not enough.
const REPLAY: Duration = Duration::from_secs(120);

/// [`Consensus::start`] over any home of the state.
pub(crate) async fn start(
    parts: Parts,
    home: Arc<dyn Home>,
    registry: &mut Registry,
) -> Result<Arc<Consensus>, StartError> {
    let Parts { node, host, dir, config } = parts;
    let metrics = Metrics::register(registry);
    let (stopping, stopped) = watch::channel(false);
    let control = Control { stopping: stopped.clone(), metrics: metrics.clone() };
    let (own_host, own_config) = (host.clone(), config.clone());
    let opened = host.blocking.run(move || {
        let boot = next_boot(&*own_host.disk, &dir)?;
        Ok::<_, StartError>((boot, recover(&own_host, &dir, &own_config, home, control)?))
    });
    let (boot, Recovered { log, state, view, halt }) = opened.await?;

    let raft_config = openraft_config(config.profile)?;
    let inner = state.0.clone();
    let raft = Raft::new(node, raft_config, Alone, log.clone(), state).await;
    let raft = raft.map_err(|error| StartError::Raft(halt.reason().map_or_else(|| chain(&error), str::to_owned)))?;
    replay(&raft, node, &halt).await?;

    let (queue, proposals) = mpsc::channel(config.max_pending.max(1));
    let (barriers, waiting) = mpsc::channel(barrier::WAITING);
    let (done, drained) = oneshot::channel();
    let collector = Collector::new((raft.clone(), Alone), view.clone(), host.clock.clone(), (node, boot), proposals);
    host.tasks.spawn("propose", async move {
        collector.run().await;
        // Nobody listens unless the node stops.
        let _ = done.send(());
    });
    host.tasks.spawn("barrier", barrier::run(raft.clone(), Alone, view.clone(), waiting, stopped.clone()));
    let keeper = Keeper {
        node,
        raft: raft.clone(),
        log: log.clone(),
        view: view.clone(),
        queue: queue.clone(),
        compact_bytes: config.compact_after.0,
        metrics: metrics.clone(),
        halt: halt.clone(),
        stopping: stopped,
    };
    host.tasks.spawn("keep", keeper.run());
    let consensus = Arc::new(Consensus {
        node,
        blocking: host.blocking,
        raft,
        log,
        state: inner,
        view,
        halt,
        metrics,
        queue: Some(queue).into(),
        barriers,
        stopping,
        drained: Some(drained).into(),
    });
    if consensus.view.load().is_founded() && consensus.status().is_leader {
        // Before anything is decided by a time that stood still while the node was off. Without it the next tick will do.
        if let Err(error) = consensus.propose(&PrincipalArn::system(), None, Op::Tick).await {
            tracing::warn!(%error, "state time could not be moved at start");
        }
    }
    Ok(consensus)
}

/// A group of one leads itself and applies what its log holds: every entry of it is committed. Others hear from a leader
/// in their own time.
async fn replay(raft: &Raft, node: NodeId, halt: &Halt) -> Result<(), StartError> {
    let stopped = || StartError::Raft(halt.reason().unwrap_or("it stopped").to_owned());
    // Asked of the core: the metrics know no member before its first report.
    let alone = raft.with_raft_state(move |state| {
        let members = state.membership_state.effective().membership();
        members.voter_ids().eq([node])
    });
    let alone = alone.await.map_err(|_| stopped())?;
    if !alone {
        return Ok(());
    }
    if raft.metrics().borrow().current_leader != Some(node) {
        raft.trigger().elect().await.map_err(|_| stopped())?;
    }
    let wait = raft.wait(Some(REPLAY));
    let caught_up = wait.metrics(
        |now| now.current_leader == Some(node) && now.last_applied.map(|id| id.index) >= now.last_log_index,
        "the log is replayed",
    );
    match caught_up.await {
        Ok(_) => Ok(()),
        Err(openraft::metrics::WaitError::Timeout(..)) => Err(StartError::Slow(REPLAY)),
        Err(_) => Err(stopped()),
    }
}

//! What the group needs done without being asked: ticks of state time, compaction, figures.

use std::{sync::Arc, time::Duration};

use flotilla_base::NodeId;
use flotilla_registry::access::PrincipalArn;
use flotilla_runtime::Published;
use flotilla_state::{Op, View};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    StartError,
    collector::{Answer, Pending},
    halt::Halt,
    log_store::LogStore,
    metrics::Metrics,
    types::Raft,
};

/// State time moves at least so often (`protocols.md` §2.3).
const TICK: Duration = Duration::from_secs(60);

pub(crate) struct Keeper {
    pub node: NodeId,
    pub raft: Raft,
    pub log: LogStore,
    pub view: Published<View>,
    pub queue: mpsc::Sender<Pending>,
    pub compact_bytes: u64,
    pub metrics: Metrics,
    pub halt: Halt,
    pub stopping: watch::Receiver<bool>,
}

impl Keeper {
    pub(crate) async fn run(self) {
        let mut stopping = self.stopping.clone();
        let mut raft = self.raft.metrics();
        // Kept: an operation that nobody waits for is not sent.
        let mut _last = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = ticks.tick() => _last = self.tick(),
                changed = raft.changed() => if changed.is_err() { return },
            }
            let now = raft.borrow_and_update().clone();
            self.look(&now).await;
        }
    }

    async fn look(&self, now: &openraft::RaftMetrics<NodeId, openraft::EmptyNode>) {
        if let Err(fatal) = &now.running_state
            && !*self.stopping.borrow()
        {
            self.halt.set(fatal);
        }
        let applied = now.last_applied.map(|id| id.index);
        let stopped = self.halt.reason().is_some();
        self.metrics.observe(now.current_leader.is_some(), now.last_log_index, applied, self.log.len_bytes(), stopped);
        if self.log.compaction_due(self.compact_bytes) {
            // The purge up to it follows by itself. Fails only when Raft is gone.
            let _ = self.raft.trigger().snapshot().await;
        }
    }

    fn tick(&self) -> Option<Answer> {
        let leads = self.raft.metrics().borrow().current_leader == Some(self.node);
        if !leads || !self.view.load().is_founded() {
            return None;
        }
        let (tick, answer) = Pending::new(PrincipalArn::system(), None, Op::Tick).ok()?;
        // A full queue moves the time too.
        self.queue.try_send(tick).ok().map(|()| answer)
    }
}

pub(crate) fn openraft_config(profile: crate::Profile) -> Result<Arc<openraft::Config>, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (shortest, longest) = profile.election();
    let config = openraft::Config {
        cluster_name: "flotilla".to_owned(),
        heartbeat_interval: millis(profile.heartbeat()),
        election_timeout_min: millis(shortest),
        election_timeout_max: millis(longest),
        // By bytes instead, see `Keeper`: entries are of any length up to 64 KiB.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StartError::Raft(error.to_string()))
}

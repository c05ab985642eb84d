use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::Trail;

/// Named tasks that are told to finish and waited for. The only way to spawn.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    drain: Drain,
}

/// Resolves when the node begins to stop.
#[derive(Clone, Debug, Default)]
pub struct Drain(CancellationToken);

impl Drain {
    /// Cancel safe.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    pub fn is_begun(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Tasks {
    /// The task has the [`Trail`] of who spawns it: it works on the same request.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let task = Trail::current().scope(task);
        self.tracker.spawn(task.instrument(tracing::debug_span!("task", name)));
    }

    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Asks every task to finish, and waits for none.
    pub fn begin_drain(&self) {
        self.drain.0.cancel();
    }

    /// Asks every task to finish; `false` when some had not by `deadline`.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.begin_drain();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

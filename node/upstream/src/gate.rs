use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How much may be under way at one upstream. Bodies of blobs, which last, leave a quarter of it to the rest.
pub(crate) struct Gate {
    all: Arc<Semaphore>,
    blobs: Arc<Semaphore>,
    blobs_at_once: usize,
    wait: Duration,
    wait_blob: Duration,
}

/// Held as long as a request or its body is under way.
pub(crate) struct Permit {
    _all: OwnedSemaphorePermit,
    _blob: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(concurrency: usize, wait: Duration, wait_blob: Duration) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let blobs = (concurrency - concurrency / 4).max(1);
        Self {
            all: Arc::new(Semaphore::new(concurrency)),
            blobs: Arc::new(Semaphore::new(blobs)),
            blobs_at_once: blobs,
            wait,
            wait_blob,
        }
    }

    pub(crate) fn blobs_at_once(&self) -> usize {
        self.blobs_at_once
    }

    /// `None` when it was not our turn in time. Cancel safe.
    pub(crate) async fn enter(&self) -> Option<Permit> {
        Some(Permit { _all: acquire(&self.all, self.wait).await?, _blob: None })
    }

    /// As [`Gate::enter`], for a blob.
    pub(crate) async fn enter_blob(&self) -> Option<Permit> {
        let blob = acquire(&self.blobs, self.wait_blob).await?;
        Some(Permit { _all: acquire(&self.all, self.wait_blob).await?, _blob: Some(blob) })
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, wait: Duration) -> Option<OwnedSemaphorePermit> {
    timeout(wait, semaphore.clone().acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn blobs_leave_room_for_manifests_and_nobody_waits_for_ever() {
        let gate = Gate::new(4, Duration::from_secs(1), Duration::from_secs(2));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.enter_blob().await.unwrap());
        }
        assert!(gate.enter_blob().await.is_none(), "a fourth blob");
        held.push(gate.enter().await.unwrap());
        assert!(gate.enter().await.is_none(), "a fifth request");
        held.clear();
        assert!(gate.enter_blob().await.is_some());
        assert!(Gate::new(1, Duration::ZERO, Duration::ZERO).enter_blob().await.is_some());
    }
}

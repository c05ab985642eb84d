use std::{sync::Arc, time::Duration};

use flotilla_base::store::{Rows, Store, StoreError};
use openraft::RaftSnapshotBuilder;
use tokio::sync::watch;

use crate::{
    SnapshotError,
    halt::chain,
    marks::caught,
    metrics::Metrics,
    record::Record,
    state_machine::Inner,
    types::{Snapshot, StorageError, StorageIoError, TypeConfig},
};

/// Before a failed snapshot is tried again: a full disk is not emptied in a moment, and the log grows meanwhile.
const RETRY: Duration = Duration::from_secs(10);

/// Attempts that may fail because entries were applied meanwhile; then they wait for a snapshot, as the log, which only a
/// snapshot lets be cut, would grow without end.
const MELTS: u32 = 3;

/// What a builder obeys and reports to.
pub(crate) struct Control {
    pub stopping: watch::Receiver<bool>,
    pub metrics: Metrics,
}

/// Writes one snapshot beside the applying of entries. openraft takes an error for the end of the node; a snapshot that
/// cannot be written now is none, so this goes on until it succeeds or the node stops.
pub(crate) struct Builder {
    inner: Arc<Inner>,
    frozen: Option<Result<Box<dyn Rows>, StoreError>>,
}

impl Builder {
    pub(crate) fn new(inner: Arc<Inner>, frozen: Result<Box<dyn Rows>, StoreError>) -> Self {
        Self { inner, frozen: Some(frozen) }
    }
}

impl Inner {
    /// Blocks for as long as the state takes to write.
    pub(crate) fn write_snapshot(&self, frozen: &dyn Rows) -> Result<Snapshot, SnapshotError> {
        let meta = Record::load(frozen)?.snapshot_meta();
        let (meta, file) = self.snapshots.write(&meta, frozen)?;
        Ok(Snapshot { meta, snapshot: Box::new(file) })
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let mut stopping = self.inner.builder.stopping.clone();
        let mut melts = 0;
        loop {
            let (inner, frozen) = (self.inner.clone(), self.frozen.take());
            let alone = melts >= MELTS;
            let attempt = self.inner.blocking.run(move || {
                let written = caught(|| {
                    let applied = inner.applied();
                    let frozen = frozen.unwrap_or_else(|| applied.generation.freeze())?;
                    // Nothing is applied while this is held; readers go on.
                    let _held = alone.then_some(applied);
                    inner.write_snapshot(&*frozen)
                });
                if let Err(SnapshotError::Store(error)) = &written {
                    inner.marks.note(error);
                }
                written
            });
            let error = match attempt.await {
                Ok(snapshot) => {
                    tracing::info!(last = ?snapshot.meta.last_log_id, "snapshot written");
                    return Ok(snapshot);
                }
                Err(error) => error,
            };
            if matches!(error, SnapshotError::Store(StoreError::FrozenTooLong)) {
                melts += 1;
                tracing::info!("the state changed too much while a snapshot was written; it is begun again");
            } else {
                self.inner.builder.metrics.snapshot_errors.inc();
                tracing::warn!(error = chain(&error), retry_after = ?RETRY, "a snapshot could not be written");
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(StorageIoError::write_snapshot(None, &error).into());
                }
            }
        }
    }
}

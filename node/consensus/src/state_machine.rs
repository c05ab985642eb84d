//! The only writer of the replicated state, and the only publisher of the view.
//!
//! Persistence: each run of entries is one batch of the store together with the mark of what is applied, but nobody waits
//! for the store to be durable: the log is, and after loss of power it is replayed from the store's mark. The log is
//! purged only up to a snapshot, which is a durable file; a lost store is rebuilt from it (`recover`).

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_base::{
    LogIndex, codec,
    codec::CodecError,
    store::{Store, StoreError},
};
use flotilla_runtime::{Blocking, Disk, Publisher, write_file};
use flotilla_state::{ApplyError, Overlay, View, apply};
use openraft::{EntryPayload, OptionalSend, storage::RaftStateMachine};

use crate::{
    SnapshotError,
    builder::Builder,
    halt::Halt,
    home::{Generation, Home},
    marks::{Mark, Marks, caught},
    record::Record,
    snapshot::{self, Folder},
    types::{
        Entry, LogId, Members, Replies, Snapshot, SnapshotFile, SnapshotMeta, StorageError, StorageIoError, TypeConfig,
    },
};

pub(crate) const POINTER_FORMAT: u8 = 1;
/// Log that is applied in one batch of the store: bounds what an overlay holds.
const RUN_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct StateMachine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub blocking: Blocking,
    pub disk: Arc<dyn Disk>,
    pub halt: Halt,
    pub home: Arc<dyn Home>,
    /// Names the generation in use.
    pub pointer: PathBuf,
    pub marks: Marks,
    pub snapshots: Folder,
    pub publisher: Publisher<View>,
    /// Held inside blocking work only.
    pub applied: Mutex<Applied>,
    pub builder: crate::builder::Control,
}

pub(crate) struct Applied {
    pub generation: Arc<Generation>,
    pub view: View,
    pub record: Record,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyFailure {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the state's store failed")]
    Store(#[from] StoreError),
    #[error("the mark of what is applied cannot be encoded")]
    Record(#[from] CodecError),
}

impl Inner {
    // Torn by a panic only if the store itself panicked; the next batch then starts from the store's own mark.
    pub(crate) fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until all that was applied survives loss of power, and notes that. Nothing is applied any more.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let applied = self.applied();
        applied.generation.durable()?;
        let operation = "mark the state as whole";
        self.marks.set(Mark::Clean).map_err(|source| StoreError::Io { operation, source })
    }

    fn install(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> Result<(), SnapshotError> {
        let mut applied = self.applied();
        let generation = restore(&self.home, applied.generation.number().saturating_add(1), file, Some(meta))?;
        // The snapshot before the pointer: a state without its snapshot could not be told from a lost log.
        self.snapshots.keep(meta, &*file.0)?;
        point(&*self.disk, &self.pointer, generation.number())?;
        let view = View::load(generation.clone())?;
        let record = Record { applied: meta.last_log_id, members: meta.last_membership.clone() };
        applied.generation.supersede();
        *applied = Applied { generation, view: view.clone(), record };
        self.publisher.publish(view);
        Ok(())
    }
}

/// A new generation with the rows of a snapshot, durable, not yet pointed at.
pub(crate) fn restore(
    home: &Arc<dyn Home>,
    number: u64,
    file: &SnapshotFile,
    expected: Option<&SnapshotMeta>,
) -> Result<Arc<Generation>, SnapshotError> {
    vacate(home, number)?;
    let generation = Generation::open(home.clone(), number)?;
    let meta = snapshot::load(&*file.0, &*generation)?;
    if expected.is_some_and(|expected| *expected != meta) {
        return Err(SnapshotError::Damaged("it is not the one that was announced"));
    }
    Ok(generation)
}

/// Removes what an earlier attempt at this generation left.
pub(crate) fn vacate(home: &Arc<dyn Home>, number: u64) -> Result<(), SnapshotError> {
    let io = |source| SnapshotError::Io { operation: "clear a place for", path: PathBuf::from("the state"), source };
    if home.generations().map_err(io)?.contains(&number) {
        home.discard(number).map_err(io)?;
    }
    Ok(())
}

/// Makes `number` the generation in use.
pub(crate) fn point(disk: &dyn Disk, pointer: &std::path::Path, number: u64) -> Result<(), SnapshotError> {
    let content = codec::encode(POINTER_FORMAT, &number)?;
    let io = |source| SnapshotError::Io { operation: "write", path: pointer.to_owned(), source };
    write_file(disk, pointer, &content).map_err(io)
}

impl Applied {
    fn run(&mut self, entries: Vec<Entry>, publisher: &Publisher<View>) -> Result<Vec<Replies>, ApplyFailure> {
        let mut replies = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut run = Vec::new();
            let mut run_bytes = 0;
            while run_bytes < RUN_BYTES
                && let Some(entry) = entries.next()
            {
                run_bytes += match &entry.payload {
                    EntryPayload::Normal(proposal) => proposal.0.len(),
                    _ => 0,
                };
                run.push(entry);
            }
            replies.extend(self.batch(run)?);
            publisher.publish(self.view.clone());
        }
        Ok(replies)
    }

    /// All of `entries` or none.
    fn batch(&mut self, entries: Vec<Entry>) -> Result<Vec<Replies>, ApplyFailure> {
        let mut replies = Vec::with_capacity(entries.len());
        let mut record = self.record.clone();
        let mut overlay = Overlay::over(&*self.generation)?;
        for entry in entries {
            record.applied = Some(entry.log_id);
            replies.push(match entry.payload {
                EntryPayload::Blank => Replies::default(),
                EntryPayload::Normal(proposal) => Replies(apply(&mut overlay, &proposal.0)?),
                EntryPayload::Membership(members) => {
                    record.members = Members::new(Some(entry.log_id), members);
                    Replies::default()
                }
            });
        }
        let index = LogIndex(record.applied.map_or(0, |id| id.index));
        let (batch, changes, _) = overlay.finish(index, Some(record.encode()?));
        self.generation.write(batch)?;
        self.view = self.view.after(index, changes)?;
        self.record = record;
        Ok(replies)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Members), StorageError> {
        let applied = self.0.applied();
        Ok((applied.record.applied, applied.record.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let inner = self.0.clone();
        let last = entries.last().map(|entry| entry.log_id).unwrap_or_default();
        let done = self.0.blocking.run(move || {
            let done = caught(|| inner.applied().run(entries, &inner.publisher));
            if let Err(ApplyFailure::Store(error) | ApplyFailure::Apply(ApplyError::Store(error))) = &done {
                inner.marks.note(error);
            }
            done
        });
        done.await.map_err(|failure| {
            self.0.halt.set(&failure);
            StorageIoError::apply(last, &failure).into()
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let inner = self.0.clone();
        // Here, not when it is built: openraft counts on the order of applied entries and snapshots.
        let frozen = self.0.blocking.run(move || inner.applied().generation.freeze()).await;
        Builder::new(self.0.clone(), frozen)
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let inner = self.0.clone();
        let file = self.0.blocking.run(move || inner.snapshots.receive()).await;
        file.map(Box::new).map_err(|error| StorageIoError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<SnapshotFile>) -> Result<(), StorageError> {
        let (inner, own) = (self.0.clone(), meta.clone());
        let done = self.0.blocking.run(move || caught(|| inner.install(&own, &snapshot))).await;
        done.map_err(|error| {
            self.0.halt.set(&error);
            StorageIoError::write_snapshot(Some(meta.signature()), &error).into()
        })
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let inner = self.0.clone();
        let current = self.0.blocking.run(move || inner.snapshots.current()).await;
        match current {
            Ok(current) => Ok(current.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) })),
            Err(error) => {
                self.0.halt.set(&error);
                Err(StorageIoError::read_snapshot(None, &error).into())
            }
        }
    }
}

//! Vote and log over `storage::SegmentLog`.
//!
//! Invariant: every method returns after what it wrote is durable, so openraft's order of votes, entries and purges is
//! the order on disk. A failed write stops the node: what reached the disk is unknown until it is opened again.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flotilla_base::{
    ByteLen, LogIndex,
    codec::{self, CodecError},
};
use flotilla_runtime::{Blocking, Disk};
use flotilla_storage::{LogError, SegmentLog, SegmentLogConfig, Slot};
use openraft::{LogState, OptionalSend, RaftLogReader, storage::LogFlushed, storage::RaftLogStorage};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{
    StartError,
    halt::Halt,
    recent::Recent,
    types::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote},
};

const FORMAT: u8 = 1;
/// A command batch with its head; a membership of a hundred nodes is far smaller.
const RECORD_LIMIT: ByteLen = ByteLen::kib(96);
/// Most that one append to a follower carries: heartbeats queue behind it (`protocols.md` §2.1).
const READ_BYTES: u64 = 128 << 10;
/// The committed index is saved once in so many entries. It only bounds what is read into memory at once when the state
/// is replayed; saving each would cost a second sync per proposal.
const COMMITTED_EVERY: u64 = 256;

/// Clones share one log; openraft reads through one while it writes through another.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Inner>);

struct Inner {
    blocking: Blocking,
    halt: Halt,
    /// Up to where a durable snapshot stands in for the log.
    snapshot_end: watch::Receiver<Option<LogId>>,
    // Lock order: segments, then recent. Held inside blocking work only.
    segments: Mutex<Segments>,
    recent: Mutex<Recent>,
    len_bytes: AtomicU64,
    /// Appended since the last compaction began.
    fresh_bytes: AtomicU64,
}

struct Segments {
    log: SegmentLog,
    last: Option<LogId>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    committed_saved: u64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the log failed")]
    Log(#[from] LogError),
    #[error("a record of the log cannot be encoded or decoded")]
    Record(#[from] CodecError),
    #[error("the log was not cut at entry {}: no snapshot holds what is before it", .0.index)]
    NoSnapshot(LogId),
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    codec::encode(FORMAT, value).map(Bytes::from)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode_version(FORMAT, RECORD_LIMIT, bytes)
}

impl LogStore {
    /// Blocks.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        blocking: Blocking,
        dir: &Path,
        config: SegmentLogConfig,
        halt: Halt,
        snapshot_end: watch::Receiver<Option<LogId>>,
    ) -> Result<Self, StartError> {
        let log = SegmentLog::open(disk, dir, config)?;
        let slot = |slot| -> Result<Option<LogId>, StartError> {
            log.slot(slot).map(|bytes| decode(&bytes)).transpose().map_err(StartError::LogRecord)
        };
        let (purged, committed) = (slot(Slot::Purged)?, slot(Slot::Committed)?);
        let last = match log.last() {
            Some(last) if purged.is_none_or(|purged| purged.index < last.0) => {
                let entries = log.read(last, LogIndex(last.0.saturating_add(1)), u64::MAX)?;
                let entry = entries.first().map(|(_, bytes)| decode::<Entry>(bytes)).transpose();
                entry.map_err(StartError::LogRecord)?.map(|entry| entry.log_id)
            }
            _ => purged,
        };
        // What lies below a purge or was saved before the end of the log was lost is of no use.
        let committed = committed.filter(|committed| Some(*committed) <= last);
        let len_bytes = log.len_bytes();
        let committed_saved = committed.map_or(0, |id| id.index);
        Ok(Self(Arc::new(Inner {
            blocking,
            halt,
            snapshot_end,
            segments: Mutex::new(Segments { log, last, purged, committed, committed_saved }),
            recent: Mutex::default(),
            len_bytes: len_bytes.into(),
            fresh_bytes: len_bytes.into(),
        })))
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.0.segments().last
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.0.segments().purged
    }

    pub(crate) fn has_vote(&self) -> bool {
        self.0.segments().log.slot(Slot::Vote).is_some()
    }

    /// Everything up to `id` is known to be committed: a snapshot has it.
    pub(crate) fn raise_committed(&self, id: LogId) {
        let mut segments = self.0.segments();
        if Some(id) <= segments.last && Some(id) > segments.committed {
            segments.committed = Some(id);
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.0.len_bytes.load(Ordering::Relaxed)
    }

    /// `true` once for each `bytes` of log that were written.
    pub(crate) fn compaction_due(&self, bytes: u64) -> bool {
        let due = self.0.fresh_bytes.load(Ordering::Relaxed) >= bytes.max(1);
        if due {
            self.0.fresh_bytes.store(0, Ordering::Relaxed);
        }
        due
    }

    /// Runs `work` on the log where disk work may run.
    async fn with<T: Send + 'static>(
        &self,
        error: fn(&Failure) -> StorageIoError,
        work: impl FnOnce(&Inner, &mut Segments) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = self.0.clone();
        let done = self.0.blocking.run(move || {
            let mut segments = inner.segments();
            let done = work(&inner, &mut segments);
            inner.len_bytes.store(segments.log.len_bytes(), Ordering::Relaxed);
            done
        });
        done.await.map_err(|failure| {
            self.0.halt.set(&failure);
            error(&failure).into()
        })
    }

    async fn read(&self, from: u64, end: u64, limit_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        if from >= end {
            return Ok(Vec::new());
        }
        // What was just appended is read at once by who applies it, and by each follower.
        if let Some(entries) = self.0.recent().range(from, end, limit_bytes) {
            return Ok(entries);
        }
        self.with(
            |failure| StorageIoError::read_logs(failure),
            move |_, segments| {
                let from = from.max(segments.purged.map_or(0, |purged| purged.index.saturating_add(1)));
                let end = end.min(segments.last.map_or(0, |last| last.index.saturating_add(1)));
                if from >= end {
                    return Ok(Vec::new());
                }
                let records = segments.log.read(LogIndex(from), LogIndex(end), limit_bytes)?;
                records.iter().map(|(_, bytes)| Ok(decode(bytes)?)).collect()
            },
        )
        .await
    }
}

impl Inner {
    // A panic inside leaves the log's own invariants to the log, which poisons itself on a failed write.
    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, end, u64::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, READ_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let segments = self.0.segments();
        Ok(LogState { last_purged_log_id: segments.purged, last_log_id: segments.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.with(
            |failure| StorageIoError::write_vote(failure),
            move |_, segments| Ok(segments.log.save(Slot::Vote, &encode(&vote)?)?),
        )
        .await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.with(
            |failure| StorageIoError::read_vote(failure),
            |_, segments| Ok(segments.log.slot(Slot::Vote).map(|bytes| decode(&bytes)).transpose()?),
        )
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(id) = committed else { return Ok(()) };
        {
            let mut segments = self.0.segments();
            segments.committed = Some(id);
            if id.index < segments.committed_saved.saturating_add(COMMITTED_EVERY) {
                return Ok(());
            }
        }
        self.with(
            |failure| StorageIoError::write_logs(failure),
            move |_, segments| {
                segments.log.save(Slot::Committed, &encode(&id)?)?;
                segments.committed_saved = id.index;
                Ok(())
            },
        )
        .await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.0.segments().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        self.with(
            |failure| StorageIoError::write_logs(failure),
            move |inner, segments| {
                // What a snapshot has replaced is not written again.
                entries.retain(|entry| segments.purged.is_none_or(|purged| entry.log_id.index > purged.index));
                let records = entries
                    .iter()
                    .map(|entry| Ok((LogIndex(entry.log_id.index), encode(entry)?)))
                    .collect::<Result<Vec<_>, CodecError>>()?;
                segments.log.append(&records)?;
                segments.last = entries.last().map(|entry| entry.log_id).or(segments.last);
                let mut recent = inner.recent();
                for (entry, (_, record)) in entries.into_iter().zip(&records) {
                    inner.fresh_bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
                    recent.push(entry, record.len());
                }
                Ok(())
            },
        )
        .await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.with(
            |failure| StorageIoError::write_logs(failure),
            move |inner, segments| {
                inner.recent().clear();
                segments.log.truncate(LogIndex(log_id.index))?;
                segments.last = match segments.log.last() {
                    Some(last) => {
                        let left = segments.log.read(last, LogIndex(last.0.saturating_add(1)), u64::MAX)?;
                        left.first().map(|(_, bytes)| decode::<Entry>(bytes)).transpose()?.map(|entry| entry.log_id)
                    }
                    None => None,
                };
                segments.last = segments.last.max(segments.purged);
                Ok(())
            },
        )
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        // openraft asks for this while it still installs the snapshot. Should that fail, the log is what there is.
        let mut snapshot_end = self.0.snapshot_end.clone();
        tokio::select! {
            biased;
            end = snapshot_end.wait_for(|end| *end >= Some(log_id)) => {
                end.map(drop).map_err(|_| StorageIoError::write_logs(&Failure::NoSnapshot(log_id)))?;
            }
            () = self.0.halt.wait() => return Err(StorageIoError::write_logs(&Failure::NoSnapshot(log_id)).into()),
        }
        self.with(
            |failure| StorageIoError::write_logs(failure),
            move |inner, segments| {
                inner.recent().purge(log_id.index);
                segments.log.purge(LogIndex(log_id.index), &encode(&log_id)?)?;
                segments.purged = segments.purged.max(Some(log_id));
                segments.last = segments.last.max(segments.purged);
                Ok(())
            },
        )
        .await
    }
}

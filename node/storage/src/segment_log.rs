//! Vote and Raft log in segment files of our own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flotilla_base::LogIndex;
use flotilla_runtime::Disk;

#[derive(Clone, Copy, Debug)]
pub struct SegmentLogConfig {
    /// A segment that has reached this length is closed and the next one begun.
    pub segment_bytes: u64,
}

impl Default for SegmentLogConfig {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20 }
    }
}

/// Small values that are replaced whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Vote,
    Purged,
    Committed,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: &'static str },
    /// An earlier write failed: what reached the disk is unknown until the log is opened again.
    #[error("log is closed to writes since an earlier one failed")]
    Poisoned,
    #[error("entry {found:?} cannot follow, {expected:?} is next")]
    Gap { expected: LogIndex, found: LogIndex },
    #[error("entry {index:?} of {len} bytes is too long")]
    TooLong { index: LogIndex, len: usize },
}

pub struct SegmentLog(());

impl SegmentLog {
    pub fn open(_disk: Arc<dyn Disk>, _dir: &Path, _config: SegmentLogConfig) -> Result<Self, LogError> {
        todo!()
    }
    /// Contiguous; durable on return.
    pub fn append(&mut self, _entries: &[(LogIndex, Bytes)]) -> Result<(), LogError> {
        todo!()
    }
    /// Inclusive; durable on return.
    pub fn truncate(&mut self, _from: LogIndex) -> Result<(), LogError> {
        todo!()
    }
    /// Inclusive; `Slot::Purged` is durable before anything is deleted.
    pub fn purge(&mut self, _upto: LogIndex, _purged: &[u8]) -> Result<(), LogError> {
        todo!()
    }
    /// At least one entry if any.
    pub fn read(
        &self,
        _from: LogIndex,
        _to_exclusive: LogIndex,
        _limit_bytes: u64,
    ) -> Result<Vec<(LogIndex, Bytes)>, LogError> {
        todo!()
    }
    /// Durable on return.
    pub fn save(&mut self, _slot: Slot, _value: &[u8]) -> Result<(), LogError> {
        todo!()
    }
    pub fn slot(&self, _slot: Slot) -> Option<Bytes> {
        todo!()
    }
    pub fn first(&self) -> Option<LogIndex> {
        todo!()
    }
    pub fn last(&self) -> Option<LogIndex> {
        todo!()
    }
    pub fn len_bytes(&self) -> u64 {
        todo!()
    }
}

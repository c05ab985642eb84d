//! Vote and log of Raft on disk, in segment files of our own: a lost vote or acknowledged entry is a broken promise to
//! the whole cluster, so nothing foreign stands between them and the disk.
//!
//! Layout of the folder: `<first index>.seg` per segment (`segment`), `vote`, `purged`, `committed` (`slots`).
//!
//! Invariants, and the write orders that keep them:
//! - what `append`, `truncate`, `save` acknowledged survives loss of power: one `fdatasync` ends an append; a new
//!   segment's header and name are synced before its first record is written;
//! - no holes: segments are deleted oldest first by `purge`, newest first by `truncate`, so that a crash between two
//!   deletions leaves one contiguous log;
//! - `purged` is durable before the first deletion: entries below it that are still there after a crash are ignored;
//! - a torn append is cut at open, and only that: a batch is written after the one before it was synced, so damage with
//!   a record of a *later* batch behind it is no torn write but a lost promise, and the log refuses to open. Damage to
//!   the very last batch cannot be told from a torn one;
//! - after a failed write or sync nothing more is written (the kernel may have dropped dirty pages and forgotten the
//!   error): the log must be opened again. That reads the page cache, which may show a batch that the disk does not
//!   hold, so the last batch is written once more and synced before anybody counts on it.
//!
//! Not here: what the entries mean. Locking the folder against a second process is the business of the node's start.

mod segment;
mod slots;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flotilla_base::LogIndex;
use flotilla_runtime::Disk;
use segment::Segment;
use slots::Slots;

/// Far above the 64 KiB that an entry of ours has (`protocols.md` §2.1); a length beyond it is damage.
const MAX_ENTRY_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug)]
pub struct SegmentLogConfig {
    /// A segment that has reached this length is closed and the next one begun. Purging frees whole segments.
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
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: &'static str },
    /// An earlier write failed: what reached the disk is unknown until the log is opened again.
    #[error("log is closed to writes since an earlier one failed")]
    Poisoned,
    #[error("entry {found:?} cannot follow: {expected:?} is next")]
    Gap { expected: LogIndex, found: LogIndex },
    #[error("entry {index:?} of {len} bytes is too long")]
    TooLong { index: LogIndex, len: usize },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError + use<> {
    let path = path.to_owned();
    move |source| LogError::Io { operation, path, source }
}

/// The log. Blocks; one owner, who calls it where disk work may run.
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: SegmentLogConfig,
    slots: Slots,
    /// Contiguous; none is empty, but for the last after a failed append.
    segments: VecDeque<Segment>,
    poisoned: bool,
}

impl SegmentLog {
    /// Opens or creates the log in `dir`, and cuts a torn append.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when something that was acknowledged is damaged.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: SegmentLogConfig) -> Result<Self, LogError> {
        disk.create_dir(dir).map_err(io_error("create", dir))?;
        let slots = Slots::open(&*disk, dir)?;
        let mut paths = disk.list(dir).map_err(io_error("list", dir))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == segment::EXTENSION));
        // Names have as many digits as the largest index.
        paths.sort();
        let floor = slots.purged_upto();
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            found.push((segment::first_of(&path)?, path));
        }
        let mut segments = VecDeque::new();
        let mut obsolete = Vec::new();
        for (at, (first, path)) in found.iter().enumerate() {
            let next = found.get(at + 1).map(|(first, _)| *first);
            // A purge that a crash cut. Not read: an obsolete segment may end before the floor.
            if next.zip(floor).is_some_and(|(next, floor)| next.0 <= floor.0.saturating_add(1)) {
                obsolete.push(path);
                continue;
            }
            let Some(segment) = Segment::open(&*disk, path, *first, next.is_none())? else { continue };
            if next.is_some_and(|next| next != segment.next()) {
                let reason = "the next segment does not follow";
                return Err(LogError::Corrupt { path: path.clone(), offset: segment.len_bytes(), reason });
            }
            // The last one may lie below the floor as a whole, when a snapshot was ahead of the log; or hold nothing,
            // when its first append was cut.
            if segment.is_empty() || floor.is_some_and(|floor| segment.next().0 <= floor.0.saturating_add(1)) {
                obsolete.push(path);
                continue;
            }
            segments.push_back(segment);
        }
        for path in &obsolete {
            disk.remove(path).map_err(io_error("remove", path))?;
        }
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(Self { disk, dir: dir.to_owned(), config, slots, segments, poisoned: false })
    }

    /// Appends entries of ascending, contiguous indexes that follow the last one. Durable on return.
    ///
    /// # Errors
    /// [`LogError::Gap`] and [`LogError::TooLong`] change nothing; others poison the log.
    pub fn append(&mut self, entries: &[(LogIndex, Bytes)]) -> Result<(), LogError> {
        let Some((start, _)) = entries.first() else { return Ok(()) };
        self.writable()?;
        let mut expected = self.next().unwrap_or(*start);
        for (index, payload) in entries {
            if *index != expected {
                return Err(LogError::Gap { expected, found: *index });
            }
            if payload.len() > MAX_ENTRY_BYTES {
                return Err(LogError::TooLong { index: *index, len: payload.len() });
            }
            expected = LogIndex(index.0.saturating_add(1));
        }
        let outcome = self.write(*start, entries);
        self.poison(outcome)
    }

    fn write(&mut self, start: LogIndex, entries: &[(LogIndex, Bytes)]) -> Result<(), LogError> {
        let roll = self.segments.back().is_none_or(|last| last.len_bytes() >= self.config.segment_bytes);
        if roll {
            self.segments.push_back(Segment::create(&*self.disk, &self.dir, start)?);
        }
        let last = self.segments.back_mut().expect("a segment was pushed when there was none");
        last.append(entries)
    }

    /// Removes the entries from `from` on. Durable on return.
    ///
    /// # Errors
    /// Any poisons the log.
    pub fn truncate(&mut self, from: LogIndex) -> Result<(), LogError> {
        self.writable()?;
        let outcome = self.cut(from);
        self.poison(outcome)
    }

    fn cut(&mut self, from: LogIndex) -> Result<(), LogError> {
        while let Some(last) = self.segments.pop_back_if(|last| last.first() >= from) {
            self.delete(&last)?;
            // Each before the next: deleted in another order, a crash would leave a hole.
            self.sync_dir()?;
        }
        match self.segments.back_mut() {
            Some(last) => last.truncate(from),
            None => Ok(()),
        }
    }

    /// Forgets the entries up to `upto`, which may lie beyond the last one: a snapshot replaces them all. `purged` is
    /// what [`Slot::Purged`] holds from then on.
    ///
    /// # Errors
    /// Any poisons the log.
    pub fn purge(&mut self, upto: LogIndex, purged: &[u8]) -> Result<(), LogError> {
        self.writable()?;
        let outcome = self.forget(upto, purged);
        self.poison(outcome)
    }

    fn forget(&mut self, upto: LogIndex, purged: &[u8]) -> Result<(), LogError> {
        // Never lowered: entries below the old floor may be gone already.
        let upto = self.slots.purged_upto().map_or(upto, |floor| floor.max(upto));
        self.slots.save_purged(&*self.disk, upto, purged)?;
        let mut deleted = false;
        while let Some(first) = self.segments.pop_front_if(|first| first.next().0 <= upto.0.saturating_add(1)) {
            self.delete(&first)?;
            deleted = true;
        }
        if deleted { self.sync_dir() } else { Ok(()) }
    }

    /// The entries in `from..to_exclusive`, as many as fit `limit_bytes` but at least one if there is any.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when an entry no longer matches its checksum.
    pub fn read(
        &self,
        from: LogIndex,
        to_exclusive: LogIndex,
        limit_bytes: u64,
    ) -> Result<Vec<(LogIndex, Bytes)>, LogError> {
        let Some((first, last)) = self.first().zip(self.last()) else { return Ok(Vec::new()) };
        let (mut from, to) = (from.max(first), to_exclusive.min(LogIndex(last.0.saturating_add(1))));
        let mut entries = Vec::new();
        let mut budget_bytes = limit_bytes;
        for segment in &self.segments {
            if segment.next() <= from {
                continue;
            }
            if from >= to {
                break;
            }
            let end = to.min(segment.next());
            let read = segment.read(from, end, budget_bytes, entries.is_empty())?;
            let read_bytes: u64 = read.iter().map(|(_, payload)| payload.len() as u64).sum();
            let whole = read.last().is_some_and(|(index, _)| index.0.saturating_add(1) == end.0);
            entries.extend(read);
            if !whole {
                break;
            }
            budget_bytes = budget_bytes.saturating_sub(read_bytes);
            from = end;
        }
        Ok(entries)
    }

    /// Replaces a slot's value. Durable on return. [`Slot::Purged`] keeps the floor that [`SegmentLog::purge`] set.
    ///
    /// # Errors
    /// Any poisons the log.
    pub fn save(&mut self, slot: Slot, value: &[u8]) -> Result<(), LogError> {
        self.writable()?;
        let outcome = self.slots.save(&*self.disk, slot, value);
        self.poison(outcome)
    }

    pub fn slot(&self, slot: Slot) -> Option<Bytes> {
        self.slots.value(slot)
    }

    pub fn first(&self) -> Option<LogIndex> {
        let first = self.segments.iter().find(|segment| !segment.is_empty())?.first();
        Some(self.slots.purged_upto().map_or(first, |floor| first.max(LogIndex(floor.0.saturating_add(1)))))
    }

    pub fn last(&self) -> Option<LogIndex> {
        let next = self.segments.iter().rev().find(|segment| !segment.is_empty())?.next();
        Some(LogIndex(next.0.saturating_sub(1)))
    }

    /// On disk: what a purge and its snapshot would shrink.
    pub fn len_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::len_bytes).sum()
    }

    /// The index that must come next; any may when nothing ever came.
    fn next(&self) -> Option<LogIndex> {
        let after_floor = || self.slots.purged_upto().map(|floor| LogIndex(floor.0.saturating_add(1)));
        self.segments.back().map(Segment::next).or_else(after_floor)
    }

    fn writable(&self) -> Result<(), LogError> {
        if self.poisoned { Err(LogError::Poisoned) } else { Ok(()) }
    }

    fn poison(&mut self, outcome: Result<(), LogError>) -> Result<(), LogError> {
        self.poisoned |= outcome.is_err();
        outcome
    }

    fn delete(&self, segment: &Segment) -> Result<(), LogError> {
        self.disk.remove(segment.path()).map_err(io_error("remove", segment.path()))
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))
    }
}

#[cfg(test)]
mod tests;

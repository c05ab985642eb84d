//! Small durable values beside the log, each in a file that is replaced whole: checksum, then content.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use flotilla_base::LogIndex;
use flotilla_runtime::{Disk, read_file, write_file};

use super::{LogError, Slot, io_error};

/// A vote and a log id are far below it.
const LIMIT_BYTES: u64 = 64 << 10;
const CHECKSUM_BYTES: usize = 32;
const VERSION: u8 = 1;

pub(super) struct Slots {
    dir: PathBuf,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    /// With the last index that is purged.
    purged: Option<(Option<LogIndex>, Bytes)>,
}

fn name(slot: Slot) -> &'static str {
    match slot {
        Slot::Vote => "vote",
        Slot::Purged => "purged",
        Slot::Committed => "committed",
    }
}

fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Bytes>, LogError> {
    let corrupt = |reason| LogError::Corrupt { path: path.to_owned(), offset: 0, reason };
    let Some(content) = read_file(disk, path, LIMIT_BYTES).map_err(io_error("read", path))? else { return Ok(None) };
    let (sum, content) = content.split_at_checked(CHECKSUM_BYTES).ok_or_else(|| corrupt("too short"))?;
    if blake3::hash(content).as_bytes() != sum {
        return Err(corrupt("content does not match its checksum"));
    }
    match content.split_first() {
        Some((&VERSION, value)) => Ok(Some(Bytes::copy_from_slice(value))),
        _ => Err(corrupt("format is not known here")),
    }
}

impl Slots {
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let load = |slot| load(disk, &dir.join(name(slot)));
        let purged = match load(Slot::Purged)? {
            None => None,
            Some(content) => Some(parse_purged(&content).ok_or_else(|| LogError::Corrupt {
                path: dir.join(name(Slot::Purged)),
                offset: 0,
                reason: "malformed",
            })?),
        };
        Ok(Self { dir: dir.to_owned(), vote: load(Slot::Vote)?, committed: load(Slot::Committed)?, purged })
    }

    pub(super) fn value(&self, slot: Slot) -> Option<Bytes> {
        match slot {
            Slot::Vote => self.vote.clone(),
            Slot::Committed => self.committed.clone(),
            Slot::Purged => self.purged.as_ref().map(|(_, value)| value.clone()),
        }
    }

    /// Entries up to this index are gone, whatever lies on disk.
    pub(super) fn purged_upto(&self) -> Option<LogIndex> {
        self.purged.as_ref().and_then(|(upto, _)| *upto)
    }

    pub(super) fn save(&mut self, disk: &dyn Disk, slot: Slot, value: &[u8]) -> Result<(), LogError> {
        match slot {
            Slot::Vote => {
                self.store(disk, slot, value)?;
                self.vote = Some(Bytes::copy_from_slice(value));
            }
            Slot::Committed => {
                self.store(disk, slot, value)?;
                self.committed = Some(Bytes::copy_from_slice(value));
            }
            Slot::Purged => self.write_purged(disk, self.purged_upto(), value)?,
        }
        Ok(())
    }

    pub(super) fn save_purged(&mut self, disk: &dyn Disk, upto: LogIndex, value: &[u8]) -> Result<(), LogError> {
        self.write_purged(disk, Some(upto), value)
    }

    fn write_purged(&mut self, disk: &dyn Disk, upto: Option<LogIndex>, value: &[u8]) -> Result<(), LogError> {
        let index = upto.map(|upto| upto.0.to_le_bytes());
        let content = match &index {
            Some(index) => [&[1], index.as_slice(), value].concat(),
            None => [&[0], value].concat(),
        };
        self.store(disk, Slot::Purged, &content)?;
        self.purged = Some((upto, Bytes::copy_from_slice(value)));
        Ok(())
    }

    fn store(&self, disk: &dyn Disk, slot: Slot, value: &[u8]) -> Result<(), LogError> {
        let path = self.dir.join(name(slot));
        let content = [&[VERSION], value].concat();
        let content = [blake3::hash(&content).as_bytes().as_slice(), &content].concat();
        write_file(disk, &path, &content).map_err(io_error("write", &path))
    }
}

fn parse_purged(content: &[u8]) -> Option<(Option<LogIndex>, Bytes)> {
    match content.split_first()? {
        (0, value) => Some((None, Bytes::copy_from_slice(value))),
        (1, rest) => {
            let (index, value) = rest.split_first_chunk::<8>()?;
            Some((Some(LogIndex(u64::from_le_bytes(*index))), Bytes::copy_from_slice(value)))
        }
        _ => None,
    }
}

//! One segment file: a header, then records.
//!
//! Header: `FLOTLOG`, format byte, first index, checksum of these. Record: mark, length of the payload, index, offset
//! at which its batch began, checksum of these and the payload, payload. All integers are little-endian.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flotilla_base::LogIndex;
use flotilla_runtime::{Disk, File};

use super::{LogError, MAX_ENTRY_BYTES, io_error};

pub(super) const EXTENSION: &str = "seg";

const MAGIC: [u8; 8] = *b"FLOTLOG\x01";
const HEADER_BYTES: usize = 24;
/// Lets the search for records behind damage skip most offsets.
const MARK: [u8; 4] = *b"\xf1\x07fl";
const RECORD_HEADER_BYTES: usize = 32;

pub(super) struct Segment {
    path: PathBuf,
    file: Arc<dyn File>,
    first: LogIndex,
    /// Where each record begins. Bounded by the length of the segment.
    offsets: Vec<u64>,
    len_bytes: u64,
}

/// A record within the bytes of a segment.
struct Record {
    index: u64,
    batch: u64,
    payload: std::ops::Range<usize>,
}

fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn header(first: LogIndex) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&first.0.to_le_bytes());
    let sum = checksum(&[&header[..16]]);
    header[16..].copy_from_slice(&sum);
    header
}

fn encode(out: &mut Vec<u8>, index: LogIndex, batch: u64, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&index.0.to_le_bytes());
    out.extend_from_slice(&batch.to_le_bytes());
    let sum = checksum(&[&out[start..], payload]);
    out.extend_from_slice(&sum);
    out.extend_from_slice(payload);
}

/// The record at `offset`; `None` when there is no whole and sound one.
fn decode(bytes: &[u8], offset: usize) -> Option<Record> {
    let (head, rest) = bytes.get(offset..)?.split_at_checked(RECORD_HEADER_BYTES)?;
    let (fields, sum) = head.split_at_checked(RECORD_HEADER_BYTES - 8)?;
    let fields = fields.strip_prefix(&MARK)?;
    let (len, fields) = fields.split_first_chunk::<4>()?;
    let (index, batch) = fields.split_first_chunk::<8>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= MAX_ENTRY_BYTES)?;
    let payload = rest.get(..len)?;
    if checksum(&[&head[..RECORD_HEADER_BYTES - 8], payload]) != sum {
        return None;
    }
    let start = offset + RECORD_HEADER_BYTES;
    Some(Record {
        index: u64::from_le_bytes(*index),
        batch: u64::from_le_bytes(batch.try_into().ok()?),
        payload: start..start + len,
    })
}

fn read_all(file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The index in a segment's name.
pub(super) fn first_of(path: &Path) -> Result<LogIndex, LogError> {
    let name = path.file_stem().and_then(|name| name.to_str());
    let index = name.and_then(|name| name.parse().ok());
    index.map(LogIndex).ok_or_else(|| LogError::Corrupt {
        path: path.to_owned(),
        offset: 0,
        reason: "not a segment's name",
    })
}

impl Segment {
    /// Header and name are durable on return.
    pub(super) fn create(disk: &dyn Disk, dir: &Path, first: LogIndex) -> Result<Self, LogError> {
        let path = dir.join(format!("{:020}.{EXTENSION}", first.0));
        let file = disk.create(&path).map_err(io_error("create", &path))?;
        file.write_at(0, &header(first)).map_err(io_error("write", &path))?;
        file.sync().map_err(io_error("sync", &path))?;
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        Ok(Self { path, file, first, offsets: Vec::new(), len_bytes: HEADER_BYTES as u64 })
    }

    /// Reads the segment through. In the `last` one a torn append is cut, a creation that was cut short is undone
    /// (`None`), and what is left is durable on return: its last batch may never have been synced.
    pub(super) fn open(disk: &dyn Disk, path: &Path, first: LogIndex, last: bool) -> Result<Option<Self>, LogError> {
        let file = disk.open(path).map_err(io_error("open", path))?;
        let len = file.len().map_err(io_error("measure", path))?;
        let corrupt =
            |offset: usize, reason| LogError::Corrupt { path: path.to_owned(), offset: offset as u64, reason };
        let bytes = usize::try_from(len).map_err(|_| corrupt(0, "longer than memory"))?;
        let bytes = read_all(&*file, 0, bytes).map_err(io_error("read", path))?;
        if bytes.get(..HEADER_BYTES) != Some(&header(first)) {
            // The header is synced before the first record is written.
            if last && bytes.len() <= HEADER_BYTES {
                disk.remove(path).map_err(io_error("remove", path))?;
                return Ok(None);
            }
            return Err(corrupt(0, "bad header"));
        }
        let mut offset = HEADER_BYTES;
        let mut offsets = Vec::new();
        let mut batch = offset;
        while offset < bytes.len() {
            let Some(record) = decode(&bytes, offset) else { break };
            if record.index != first.0.saturating_add(offsets.len() as u64) {
                return Err(corrupt(offset, "index out of order"));
            }
            offsets.push(offset as u64);
            batch = usize::try_from(record.batch).map_or(offset, |batch| batch.min(offset));
            offset = record.payload.end;
        }
        if offset < bytes.len() {
            if !last || later_batch(&bytes, offset) {
                return Err(corrupt(offset, "record does not match its checksum"));
            }
            tracing::info!(path = %path.display(), offset, bytes = bytes.len() - offset, "torn append cut");
            // Before anything is appended: the rest of the torn records must not come to lie behind new ones.
            file.set_len(offset as u64).map_err(io_error("cut", path))?;
        }
        if last {
            // Read through the page cache, the last batch says nothing of the disk: its sync may have failed or never
            // begun. After a failure a bare sync succeeds without writing, so the bytes are written once more.
            let shown = bytes.get(batch..offset).unwrap_or_default();
            file.write_at(batch as u64, shown).map_err(io_error("write", path))?;
            file.sync().map_err(io_error("sync", path))?;
        }
        Ok(Some(Self { path: path.to_owned(), file, first, offsets, len_bytes: offset as u64 }))
    }

    pub(super) fn append(&mut self, entries: &[(LogIndex, Bytes)]) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        let mut offsets = Vec::with_capacity(entries.len());
        for (index, payload) in entries {
            offsets.push(self.len_bytes + bytes.len() as u64);
            encode(&mut bytes, *index, self.len_bytes, payload);
        }
        self.file.write_at(self.len_bytes, &bytes).map_err(io_error("write", &self.path))?;
        self.file.sync().map_err(io_error("sync", &self.path))?;
        self.offsets.extend(offsets);
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn truncate(&mut self, from: LogIndex) -> Result<(), LogError> {
        let keep = usize::try_from(from.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        let Some(&len_bytes) = self.offsets.get(keep) else { return Ok(()) };
        self.file.set_len(len_bytes).map_err(io_error("cut", &self.path))?;
        self.file.sync().map_err(io_error("sync", &self.path))?;
        self.offsets.truncate(keep);
        self.len_bytes = len_bytes;
        Ok(())
    }

    /// Entries `from..to`, both within the segment; `at_least_one` even when it exceeds `limit_bytes`.
    pub(super) fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        limit_bytes: u64,
        at_least_one: bool,
    ) -> Result<Vec<(LogIndex, Bytes)>, LogError> {
        let place = |index: LogIndex| usize::try_from(index.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        let wanted = self.offsets.get(place(from)..place(to).min(self.offsets.len())).unwrap_or_default();
        let Some(&start) = wanted.first() else { return Ok(Vec::new()) };
        let mut end = start;
        let mut left_bytes = limit_bytes;
        for (n, offset) in wanted.iter().enumerate() {
            let record_end = self.offsets.get(place(from) + n + 1).copied().unwrap_or(self.len_bytes);
            let payload_bytes = (record_end - offset).saturating_sub(RECORD_HEADER_BYTES as u64);
            if payload_bytes > left_bytes && !(at_least_one && n == 0) {
                break;
            }
            left_bytes = left_bytes.saturating_sub(payload_bytes);
            end = record_end;
        }
        let bytes = read_all(&*self.file, start, (end - start) as usize).map_err(io_error("read", &self.path))?;
        let bytes = Bytes::from(bytes);
        let mut entries = Vec::new();
        for (n, &offset) in wanted.iter().enumerate().take_while(|(_, offset)| **offset < end) {
            let index = from.0.saturating_add(n as u64);
            let record = decode(&bytes, (offset - start) as usize).filter(|record| record.index == index);
            let record = record.ok_or_else(|| LogError::Corrupt {
                path: self.path.clone(),
                offset,
                reason: "record does not match its checksum",
            })?;
            entries.push((LogIndex(index), bytes.slice(record.payload)));
        }
        Ok(entries)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn first(&self) -> LogIndex {
        self.first
    }

    /// The index after the last one.
    pub(super) fn next(&self) -> LogIndex {
        LogIndex(self.first.0.saturating_add(self.offsets.len() as u64))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// Whether a sound record of a batch that began behind the damage at `offset` follows it: then the damaged batch had
/// been synced, and is no torn append.
fn later_batch(bytes: &[u8], offset: usize) -> bool {
    let Some(rest) = bytes.get(offset..) else { return false };
    let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let mut records = marks.filter_map(|(n, _)| decode(bytes, offset + n));
    records.any(|record| record.batch > offset as u64)
}

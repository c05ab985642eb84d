use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use flotilla_base::{
    ByteLen, codec,
    store::{Batch, Rows, Store, Table},
};
use flotilla_runtime::{Disk, File};
use serde::{Deserialize, Serialize};

use crate::{SnapshotError, types::SnapshotMeta};

const FORMAT: u8 = 1;
/// Rows gathered for one frame: with one row above it, far below what the codec reads at once.
const FRAME_BYTES: usize = 1 << 20;
const FRAME_LIMIT: ByteLen = ByteLen::mib(8);
/// Rows asked of the store at once. Their values are small but a few, so it is less than a page may hold.
const PAGE_ROWS: usize = 256;
const HASH_BYTES: u64 = 32;

#[derive(Serialize, Deserialize)]
enum Frame {
    Head(SnapshotMeta),
    Rows(Vec<(u8, Bytes, Bytes)>),
    End { rows: u64 },
}

/// Writes all of `rows` to a new file at `path`, synced; its name is the caller's to make durable.
pub(super) fn dump(
    disk: &dyn Disk,
    path: &Path,
    meta: &SnapshotMeta,
    rows: &dyn Rows,
) -> Result<Arc<dyn File>, SnapshotError> {
    let io = |operation| move |source| SnapshotError::Io { operation, path: path.to_owned(), source };
    let file = disk.create(path).map_err(io("create"))?;
    let mut out = Out { file: &*file, path, offset: 0, hash: blake3::Hasher::new() };
    out.frame(&Frame::Head(meta.clone()))?;
    let mut count = 0u64;
    let mut gathered = Vec::new();
    let mut gathered_bytes = 0;
    for table in 0..=u8::MAX {
        let mut from = Vec::new();
        loop {
            let page = rows.page(Table(table), &from, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { break };
            from = last.to_vec();
            from.push(0);
            for (key, value) in page {
                count += 1;
                gathered_bytes += key.len() + value.len();
                gathered.push((table, key, value));
                if gathered_bytes >= FRAME_BYTES {
                    out.frame(&Frame::Rows(std::mem::take(&mut gathered)))?;
                    gathered_bytes = 0;
                }
            }
        }
    }
    out.frame(&Frame::Rows(gathered))?;
    out.frame(&Frame::End { rows: count })?;
    let hash = out.hash.finalize();
    file.write_at(out.offset, hash.as_bytes()).map_err(io("write"))?;
    file.sync().map_err(io("sync"))?;
    Ok(file)
}

struct Out<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: u64,
    hash: blake3::Hasher,
}

impl Out<'_> {
    fn frame(&mut self, frame: &Frame) -> Result<(), SnapshotError> {
        let record = codec::encode(FORMAT, frame)?;
        let len = u32::try_from(record.len()).map_err(|_| SnapshotError::Damaged("a row is too long"))?;
        let mut bytes = Vec::with_capacity(record.len() + 4);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&record);
        self.hash.update(&bytes);
        self.file.write_at(self.offset, &bytes).map_err(|source| SnapshotError::Io {
            operation: "write",
            path: self.path.to_owned(),
            source,
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Puts all rows of a snapshot into `store`, which is empty, and makes them durable. On an error the store is void.
pub(crate) fn load(file: &dyn File, store: &dyn Store) -> Result<SnapshotMeta, SnapshotError> {
    let mut frames = Frames::over(file)?;
    let meta = frames.head()?;
    let mut count = 0u64;
    loop {
        match frames.next()? {
            Frame::Rows(rows) => {
                count += rows.len() as u64;
                let mut batch = Batch::default();
                for (table, key, value) in rows {
                    batch.put(Table(table), key, value);
                }
                store.write(batch)?;
            }
            Frame::End { rows } if rows == count => break,
            Frame::End { .. } => return Err(SnapshotError::Damaged("rows are missing")),
            Frame::Head(_) => return Err(SnapshotError::Damaged("it has two heads")),
        }
    }
    frames.finish()?;
    store.durable()?;
    Ok(meta)
}

/// What the head says; the rest is not looked at.
pub(super) fn head(file: &dyn File) -> Result<SnapshotMeta, SnapshotError> {
    Frames::over(file)?.head()
}

struct Frames<'a> {
    file: &'a dyn File,
    offset: u64,
    /// Where the hash begins.
    end: u64,
    hash: blake3::Hasher,
}

impl<'a> Frames<'a> {
    fn over(file: &'a dyn File) -> Result<Self, SnapshotError> {
        let end = file.len().map_err(read_error)?.checked_sub(HASH_BYTES);
        let end = end.ok_or(SnapshotError::Damaged("it is too short"))?;
        Ok(Self { file, offset: 0, end, hash: blake3::Hasher::new() })
    }

    fn bytes(&mut self, len: u64, limit: u64) -> Result<Vec<u8>, SnapshotError> {
        let end = self.offset.checked_add(len).filter(|end| *end <= limit && len <= FRAME_LIMIT.0);
        let end = end.ok_or(SnapshotError::Damaged("a frame is longer than the file"))?;
        // At most `FRAME_LIMIT`, which a `usize` holds.
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(self.offset + filled as u64, rest).map_err(read_error)? {
                0 => return Err(SnapshotError::Damaged("it is cut short")),
                read => filled += read,
            }
        }
        self.offset = end;
        Ok(bytes)
    }

    fn next(&mut self) -> Result<Frame, SnapshotError> {
        let head = self.bytes(4, self.end)?;
        self.hash.update(&head);
        let len = head.try_into().map_or(0, u32::from_le_bytes);
        let record = self.bytes(len.into(), self.end)?;
        self.hash.update(&record);
        Ok(codec::decode_version(FORMAT, FRAME_LIMIT, &record)?)
    }

    fn head(&mut self) -> Result<SnapshotMeta, SnapshotError> {
        match self.next()? {
            Frame::Head(meta) => Ok(meta),
            _ => Err(SnapshotError::Damaged("it has no head")),
        }
    }

    fn finish(mut self) -> Result<(), SnapshotError> {
        let ends_here = self.offset == self.end;
        let found = self.bytes(HASH_BYTES, u64::MAX)?;
        if !ends_here || found != self.hash.finalize().as_bytes() {
            return Err(SnapshotError::Damaged("its bytes are not those that were written"));
        }
        Ok(())
    }
}

fn read_error(source: std::io::Error) -> SnapshotError {
    SnapshotError::Io { operation: "read", path: PathBuf::from("the snapshot"), source }
}

//! Rewriting a store of which little lives: sled's log grows to many times its content and never shrinks by itself.
//!
//! Order: the copy is written whole and synced, then the store is renamed aside, then the copy takes its name, then the
//! folder is synced, then the old one goes. A crash before the second rename leaves the old store under its own name or
//! aside, where [`settle`] takes it back; after it, the copy is the store.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_base::store::StoreError;
use sled::{Batch, Db, IVec};

use super::{io_error, open_db, sled_error};

/// When a rewrite pays (measured: 475 MiB on disk for 30 MiB alive, rewritten in 0.7 s).
#[derive(Clone, Copy)]
pub(super) struct Threshold {
    pub(super) disk_bytes: u64,
    pub(super) times_live: u64,
}

impl Default for Threshold {
    fn default() -> Self {
        Self { disk_bytes: 256 << 20, times_live: 4 }
    }
}

/// Rows per batch of the copy: bounds its memory at 16 MiB.
const COPY_ROWS: usize = 1_000;

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = dir.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync the store's folder"))
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove an old store")(error)),
        _ => Ok(()),
    }
}

/// Ends a rewrite that a crash cut.
#[expect(clippy::disallowed_methods, reason = "sled owns its folder and knows no Disk")]
pub(super) fn settle(dir: &Path) -> Result<(), StoreError> {
    let old = beside(dir, ".old");
    let exists = |path: &Path| path.try_exists().map_err(io_error("examine the store's folder"));
    if !exists(dir)? && exists(&old)? {
        fs::rename(&old, dir).map_err(io_error("take back the store"))?;
    }
    remove(&beside(dir, ".new"))?;
    remove(&old)
}

fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { disk_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

/// The sum of `rows`; `None` as soon as it is `enough_bytes`, as a start must not read a store that it then leaves alone.
fn live_bytes(
    mut rows: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
    enough_bytes: u64,
) -> Result<Option<u64>, StoreError> {
    let mut sum = 0u64;
    while sum < enough_bytes {
        let Some(row) = rows.next() else { return Ok(Some(sum)) };
        let (key, value) = row.map_err(sled_error("measure the store"))?;
        sum = sum.saturating_add((key.len() + value.len()) as u64);
    }
    Ok(None)
}

/// The store in `dir`, rewritten when `threshold` says so.
pub(super) fn compact(dir: &Path, db: Db, threshold: Threshold) -> Result<Db, StoreError> {
    let on_disk = disk_bytes(dir).map_err(io_error("measure the store"))?;
    if on_disk <= threshold.disk_bytes {
        return Ok(db);
    }
    let Some(live) = live_bytes(db.iter(), on_disk.div_ceil(threshold.times_live.max(1)))? else { return Ok(db) };
    let (new, old) = (beside(dir, ".new"), beside(dir, ".old"));
    let copied = copy(&db, &new);
    drop(db);
    copied?;
    #[expect(clippy::disallowed_methods, reason = "sled owns its folder and knows no Disk")]
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(io_error("rename the store"));
    rename(dir, &old)?;
    rename(&new, dir)?;
    if let Some(folder) = dir.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        sync_dir(folder)?;
    }
    remove(&old)?;
    tracing::info!(disk_bytes = on_disk, live_bytes = live, "store rewritten");
    open_db(dir)
}

fn copy(from: &Db, dir: &Path) -> Result<(), StoreError> {
    let to = open_db(dir)?;
    let mut rows = from.iter().peekable();
    while rows.peek().is_some() {
        let mut batch = Batch::default();
        for row in rows.by_ref().take(COPY_ROWS) {
            let (key, value) = row.map_err(sled_error("copy the store"))?;
            batch.insert(key, value);
        }
        to.apply_batch(batch).map_err(sled_error("copy the store"))?;
    }
    to.flush().map_err(sled_error("flush the copy of the store"))?;
    drop(to);
    // sled's own flush does not reach a disk with a volatile cache.
    for entry in fs::read_dir(dir).map_err(io_error("sync the copy of the store"))? {
        let path = entry.map_err(io_error("sync the copy of the store"))?.path();
        fs::File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync the copy of the store"))?;
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_rows_are_read_than_decide() {
        let mut read = 0;
        let rows = std::iter::repeat_with(|| {
            read += 1;
            Ok((IVec::from(&[0; 10]), IVec::from(vec![0; 90])))
        });
        assert_eq!(live_bytes(rows.take(1_000), 250).unwrap(), None);
        assert_eq!(read, 3);
        let few = (0..2).map(|_| Ok((IVec::from(&[0; 10]), IVec::from(vec![0; 90]))));
        assert_eq!(live_bytes(few, 250).unwrap(), Some(200));
    }
}

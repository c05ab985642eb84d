//! `base::store` over sled 0.34, for state that can be rebuilt.
//!
//! What sled leaves to us, and where it is done:
//! - it has no snapshot reads, and a scan can see half a batch: reads hold the read side of one lock, a write its write
//!   side, and a frozen view keeps the old value of each key that is overwritten while it lives (`frozen`);
//! - its `flush` ends in `sync_file_range`, which no volatile disk cache obeys: [`Sled::durable`] adds `fdatasync` on a
//!   descriptor of its own;
//! - values above 128 KiB go to files that are never reclaimed: rows are split at 16 KiB (`rows`);
//! - its log hardly shrinks: it is rewritten at open when too little of it lives (`compact`);
//! - a damaged log may panic at open: that becomes an error, and the owner rebuilds the state.
//!
//! Lock order: the tree's lock, then a view's images.

mod compact;
mod frozen;
mod rows;

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use bytes::Bytes;
use compact::Threshold;
use flotilla_base::store::{Batch, Row, Rows, Store, StoreError, Table};
use frozen::{Frozen, Images};

/// Pages that sled keeps in memory. The replicated state's hot part is smaller, the page cache holds the rest.
const CACHE_BYTES: u64 = 48 << 20;
/// Before-images kept for one frozen view (`protocols.md` §2.4).
const FROZEN_BYTES: usize = 64 << 20;

/// The store on disk. Blocks; called where disk work may run.
pub struct Sled(Arc<Inner>);

struct Inner {
    // Dropped first: the log is closed before the second descriptor.
    db: sled::Db,
    log: fs::File,
    guarded: RwLock<Guarded>,
    frozen_bytes: usize,
}

/// What the lock guards beside the tree: the views that a write must serve first.
#[derive(Default)]
struct Guarded {
    views: Vec<Weak<Images>>,
}

fn io_error(operation: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { operation, source }
}

fn sled_error(operation: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |error| StoreError::Io { operation, source: error.into() }
}

fn open_db(dir: &Path) -> Result<sled::Db, StoreError> {
    caught(|| sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).open())
}

/// sled panics on some damaged logs. Nothing of ours is shared with it yet, so nothing is torn by that.
fn caught(open: impl FnOnce() -> sled::Result<sled::Db>) -> Result<sled::Db, StoreError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(sled_error("open the store")),
        Err(_) => Err(StoreError::Io { operation: "open the store", source: io::Error::other("sled panicked") }),
    }
}

impl Sled {
    /// Opens or creates the store in `dir`. May rewrite it, which takes about a second per 100 MiB.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened; a damaged store is never repaired by dropping rows.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Threshold::default(), FROZEN_BYTES)
    }

    fn open_with(dir: &Path, threshold: Threshold, frozen_bytes: usize) -> Result<Self, StoreError> {
        compact::settle(dir)?;
        fs::create_dir_all(dir).map_err(io_error("create the store's folder"))?;
        let db = compact::compact(dir, open_db(dir)?, threshold)?;
        let log = fs::File::open(dir.join("db")).map_err(io_error("open the store's log"))?;
        for folder in [Some(dir), dir.parent()].into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()) {
            compact::sync_dir(folder)?;
        }
        Ok(Self(Arc::new(Inner { db, log, guarded: RwLock::default(), frozen_bytes })))
    }
}

impl Inner {
    // A panic while the lock was held leaves whole rows: sled applies a batch in one call.
    fn read(&self) -> RwLockReadGuard<'_, Guarded> {
        self.guarded.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Guarded> {
        self.guarded.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for Sled {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let _guard = self.0.read();
        rows::get(&self.0.db, table, key)
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let _guard = self.0.read();
        rows::page(&self.0.db, table, from, limit)
    }
}

impl Store for Sled {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut guarded = self.0.write();
        guarded.views.retain(|view| view.strong_count() > 0);
        for view in guarded.views.iter().filter_map(Weak::upgrade) {
            view.keep(&self.0.db, &batch, self.0.frozen_bytes)?;
        }
        let mut changes = sled::Batch::default();
        for ((table, key), value) in &batch.0 {
            rows::change(&self.0.db, &mut changes, *table, key, value.as_ref())?;
        }
        self.0.db.apply_batch(changes).map_err(sled_error("write to the store"))
    }

    fn durable(&self) -> Result<(), StoreError> {
        self.0.db.flush().map_err(sled_error("flush the store"))?;
        self.0.log.sync_data().map_err(io_error("sync the store"))
    }

    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError> {
        let images = Arc::new(Images::default());
        self.0.write().views.push(Arc::downgrade(&images));
        Ok(Box::new(Frozen { inner: self.0.clone(), images }))
    }
}

#[cfg(test)]
mod tests;

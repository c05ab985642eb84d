//! Ordered bytes: the contract that the replicated state and the blob index stand on. `storage::Sled` keeps it on disk,
//! [`Memory`] in tests and simulation; one contract suite ([`check_contract`]) judges both.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;

/// A key space within one store. Each owner of a store numbers its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

pub type Row = (Bytes, Bytes);

/// Most rows that one [`Rows::page`] returns: a reader of sled holds a lock for that long (`protocols.md` §2.4).
pub const PAGE_ROWS: usize = 1_000;
/// A page with keys and values of this length is full: values of megabytes must not add up in memory and under a lock.
pub const PAGE_BYTES: usize = 1 << 20;

pub trait Rows: Send + Sync {
    /// # Errors
    /// [`StoreError`] when the medium fails or a row is damaged.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows of `table` with `key >= from`, in key order, at most `limit`, never more than [`PAGE_ROWS`], and none behind
    /// the one that makes it [`PAGE_BYTES`] long: only an empty page tells that there is nothing more. One page is one
    /// consistent read; a walk over several pages carries the last key, and may see writes between pages.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError>;
}

pub trait Store: Rows + 'static {
    /// All of `batch` or nothing; readable on return, not yet durable.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch is readable.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// On return every earlier write survives loss of power.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing written since the last success may be counted on.
    fn durable(&self) -> Result<(), StoreError>;

    /// A view that later writes do not change. Cheap to take, dear to keep: dropped soon.
    ///
    /// # Errors
    /// As [`Rows::get`]. Reading it fails with [`StoreError::FrozenTooLong`] when more before-images than the store's
    /// budget had to be kept for it: its reader then starts again.
    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError>;
}

/// Writes that happen together. The last write of a key wins; `None` removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(pub BTreeMap<(Table, Vec<u8>), Option<Bytes>>);

impl Batch {
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.0.insert((table, key.into()), Some(value.into()));
    }

    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.0.insert((table, key.into()), None);
    }
}

/// What [`Rows::page`] returns, as it is gathered.
#[derive(Debug)]
pub struct Page {
    rows: Vec<Row>,
    limit: usize,
    bytes: usize,
}

impl Page {
    /// Of at most `limit` rows, and the bounds of every page.
    pub fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), limit: limit.min(PAGE_ROWS), bytes: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    /// Nothing when it is full.
    pub fn push(&mut self, key: Bytes, value: Bytes) {
        if !self.is_full() {
            self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
            self.rows.push((key, value));
        }
    }

    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {operation}")]
    Io { operation: &'static str, source: std::io::Error },
    #[error("corrupt row in table {}: {reason}", table.0)]
    Corrupt { table: Table, reason: String },
    /// Written by a newer program: not damage, and no other store can help.
    #[error("a row in table {} has format {found}, this program knows {known}: start a newer one", table.0)]
    UnknownVersion { table: Table, found: u8, known: u8 },
    #[error("frozen view is too old to be read")]
    FrozenTooLong,
}

/// Rows in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<RwLock<Map>>);

type Map = BTreeMap<(Table, Vec<u8>), Bytes>;

impl Memory {
    // A panic while the lock was held cannot leave the map torn: each write is one call of `insert` or `remove`.
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Map> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Rows for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read().get(&(table, key.to_vec())).cloned())
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let map = self.read();
        let mut page = Page::new(limit);
        for ((_, key), value) in map.range((table, from.to_vec())..).take_while(|((t, _), _)| *t == table) {
            if page.is_full() {
                break;
            }
            page.push(Bytes::copy_from_slice(key), value.clone());
        }
        Ok(page.into_rows())
    }
}

impl Store for Memory {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut map = self.lock();
        for (key, value) in batch.0 {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn durable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError> {
        Ok(Box::new(Self(Arc::new(RwLock::new(self.read().clone())))))
    }
}

/// The contract of [`Store`] as a test: panics when `store`, which must be empty, breaks it.
///
/// # Errors
/// Whatever the store itself fails with.
pub fn check_contract(store: &dyn Store) -> Result<(), StoreError> {
    const T: Table = Table(7);
    let mut batch = Batch::default();
    for n in 0u8..100 {
        batch.put(T, vec![n], vec![n; usize::from(n) * 700]);
    }
    batch.put(Table(6), *b"z", "below");
    batch.put(Table(8), *b"a", "above");
    store.write(batch)?;
    store.durable()?;
    assert_eq!(store.get(T, &[99])?.map(|v| v.len()), Some(99 * 700), "a large value comes back whole");
    assert_eq!(store.get(T, &[0])?, Some(Bytes::new()), "an empty value is not an absent one");
    assert_eq!(store.get(T, &[100])?, None);

    let page = store.page(T, &[98], 10)?;
    assert_eq!(page.iter().map(|(k, _)| k[0]).collect::<Vec<_>>(), [98, 99], "a page ends with its table");
    assert_eq!(page[1].1, vec![99u8; 99 * 700]);
    assert_eq!(store.page(T, &[], 3)?.len(), 3);

    let frozen = store.freeze()?;
    let mut batch = Batch::default();
    batch.put(T, [5], "new");
    batch.remove(T, [6]);
    batch.put(T, [200], "added");
    store.write(batch)?;
    assert_eq!(store.get(T, &[5])?, Some(Bytes::from("new")));
    assert_eq!(store.get(T, &[6])?, None);
    assert_eq!(frozen.get(T, &[5])?.map(|v| v.len()), Some(3500), "a frozen view keeps what was overwritten");
    let keys: Vec<u8> = check_walk(&*frozen, T)?.iter().map(|(k, _)| k[0]).collect();
    assert_eq!(keys, (0..100).collect::<Vec<u8>>(), "a frozen view keeps what was removed and lacks what was added");
    assert_eq!(frozen.get(T, &[200])?, None);

    const LONG: Table = Table(9);
    let mut batch = Batch::default();
    for n in 0u8..20 {
        batch.put(LONG, [n], vec![n; if n == 10 { 2 * PAGE_BYTES } else { PAGE_BYTES / 4 }]);
    }
    store.write(batch.clone())?;
    assert_eq!(store.page(LONG, &[10], PAGE_ROWS)?.len(), 1, "a long row comes, and comes alone");
    assert_eq!(check_walk(store, LONG)?.len(), 20);
    let frozen = store.freeze()?;
    store.write(batch)?;
    assert_eq!(check_walk(&*frozen, LONG)?.len(), 20);

    let mut batch = Batch::default();
    for n in 0u8..=200 {
        batch.remove(T, [n]);
        batch.remove(LONG, [n]);
    }
    store.write(batch)?;
    assert!(store.page(T, &[], 10)?.is_empty(), "rows of large values go whole");
    Ok(())
}

/// All rows of `table`, page by page; panics when a page is longer than it may be.
fn check_walk(rows: &dyn Rows, table: Table) -> Result<Vec<Row>, StoreError> {
    let mut all = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = rows.page(table, &from, PAGE_ROWS)?;
        let Some(((last, _), others)) = page.split_last() else { return Ok(all) };
        let bytes: usize = others.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes < PAGE_BYTES, "a page of {bytes} bytes goes on");
        from = [last, [0].as_slice()].concat();
        all.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_the_contract() {
        check_contract(&Memory::default()).unwrap();
    }
}

use std::ops::Bound;

use bytes::Bytes;
use flotilla_base::{
    LogIndex,
    store::{Batch, Page, Row, Rows, StoreError, Table},
};
use serde::Serialize;

use crate::{
    StateHash, Tables,
    format::{self, BOOKKEEPING, CACHE_RULES, KEY_APPLIED, KEY_CONSENSUS, KEY_HASH, RULE_OPTIONS, SETTINGS, TEMPLATES},
};

/// Reads its own writes over a base that does not change: what a run of commands sees before it is written as one
/// batch, together with what consensus has to remember.
pub struct Overlay<'a> {
    base: &'a dyn Rows,
    batch: Batch,
    changes: Changes,
    hash: StateHash,
}

/// Which parsed parts of the view a batch has touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub rules: bool,
    pub templates: bool,
    pub settings: bool,
}

impl<'a> Overlay<'a> {
    /// # Errors
    /// When the state's hash cannot be read.
    pub fn over(base: &'a dyn Rows) -> Result<Self, StoreError> {
        let hash = Tables::of(base).hash()?;
        Ok(Self { base, batch: Batch::default(), changes: Changes::default(), hash })
    }

    /// The writes with `applied` recorded among them, and which parts of the view they touch. `extra` is what consensus
    /// keeps in the same batch (membership), under its own key; see [`crate::Tables::consensus_record`].
    pub fn finish(self, applied: LogIndex, extra: Option<Bytes>) -> (Batch, Changes, StateHash) {
        let Self { mut batch, changes, hash, .. } = self;
        batch.put(BOOKKEEPING, KEY_APPLIED, format::encode_row(&applied));
        batch.put(BOOKKEEPING, KEY_HASH, format::encode_row(&hash));
        if let Some(record) = extra {
            batch.put(BOOKKEEPING, KEY_CONSENSUS, format::encode_verbatim(&record));
        }
        (batch, changes, hash)
    }

    pub(crate) fn tables(&self) -> Tables<'_> {
        Tables::of(self)
    }

    pub(crate) fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, record: &T) -> Result<(), StoreError> {
        self.write(table, key, Some(format::encode_row(record)))
    }

    pub(crate) fn remove(&mut self, table: Table, key: Vec<u8>) -> Result<(), StoreError> {
        self.write(table, key, None)
    }

    /// The one way into the batch: keeps the hash and the changes true.
    pub(crate) fn write(&mut self, table: Table, key: Vec<u8>, value: Option<Bytes>) -> Result<(), StoreError> {
        let old = self.get(table, &key)?;
        if old == value {
            return Ok(());
        }
        self.hash.replace(table, &key, old.as_deref(), value.as_deref());
        match table {
            CACHE_RULES | RULE_OPTIONS => self.changes.rules = true,
            TEMPLATES => self.changes.templates = true,
            SETTINGS => self.changes.settings = true,
            _ => {}
        }
        self.batch.0.insert((table, key), value);
        Ok(())
    }
}

impl Rows for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.batch.0.get(&(table, key.to_vec())) {
            Some(written) => Ok(written.clone()),
            None => self.base.get(table, key),
        }
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let end = match table.0.checked_add(1) {
            Some(next) => Bound::Excluded((Table(next), Vec::new())),
            None => Bound::Unbounded,
        };
        let mut writes = self.batch.0.range((Bound::Included((table, from.to_vec())), end)).peekable();
        let mut out = Page::new(limit);
        let mut from = from.to_vec();
        // Writes that remove rows can empty a whole page of the base: read on until the page is full or the base ends.
        while !out.is_full() {
            let page = self.base.page(table, &from, limit)?;
            let Some((last, _)) = page.last() else {
                for ((_, key), new) in writes {
                    put(&mut out, key, new);
                }
                break;
            };
            from = successor(last);
            for (key, value) in page {
                while let Some(((_, written), new)) = writes.next_if(|((_, written), _)| written.as_slice() < &*key) {
                    put(&mut out, written, new);
                }
                match writes.next_if(|((_, written), _)| written.as_slice() == &*key) {
                    Some((_, new)) => put(&mut out, &key, new),
                    None => out.push(key, value),
                }
            }
        }
        Ok(out.into_rows())
    }
}

/// A written row, unless it is removed.
fn put(page: &mut Page, key: &[u8], new: &Option<Bytes>) {
    if let Some(new) = new
        && !page.is_full()
    {
        page.push(Bytes::copy_from_slice(key), new.clone());
    }
}

/// The least key above `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

//! Frozen views: the tree as it is, with the old values of what changed since laid over it. Taking one costs nothing;
//! each write pays for the keys it touches first.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flotilla_base::store::{Batch, Page, Row, Rows, StoreError, Table};
use sled::Db;

use super::{Inner, rows};

/// Before-images of one view; `None` for a key that did not exist.
#[derive(Default)]
pub(super) struct Images(Mutex<State>);

#[derive(Default)]
struct State {
    rows: BTreeMap<(Table, Vec<u8>), Option<Bytes>>,
    bytes: usize,
    /// More would have had to be kept than the budget allows; what was kept is gone.
    spent: bool,
}

/// What an image costs beside its key and value: the map's node and its two allocations, roughly.
const IMAGE_OVERHEAD_BYTES: usize = 128;

impl Images {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what `batch` is about to change. Under the write side of the tree's lock.
    pub(super) fn keep(&self, db: &Db, batch: &Batch, budget_bytes: usize) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (table, key) in batch.0.keys() {
            if state.spent {
                break;
            }
            let Entry::Vacant(free) = state.rows.entry((*table, key.clone())) else { continue };
            let old = rows::get(db, *table, key)?;
            let cost = key.len() + old.as_ref().map_or(0, Bytes::len) + IMAGE_OVERHEAD_BYTES;
            free.insert(old);
            state.bytes += cost;
            if state.bytes > budget_bytes {
                *state = State { spent: true, ..State::default() };
            }
        }
        Ok(())
    }
}

/// The reading end of a view.
pub(super) struct Frozen {
    pub(super) inner: Arc<Inner>,
    pub(super) images: Arc<Images>,
}

impl Frozen {
    /// Under the read side of the tree's lock.
    fn images(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.images.lock();
        if state.spent { Err(StoreError::FrozenTooLong) } else { Ok(state) }
    }
}

impl Rows for Frozen {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let _guard = self.inner.read();
        if let Some(image) = self.images()?.rows.get(&(table, key.to_vec())) {
            return Ok(image.clone());
        }
        rows::get(&self.inner.db, table, key)
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let _guard = self.inner.read();
        let state = self.images()?;
        let images = state.rows.range((table, from.to_vec())..).take_while(|((of, _), _)| *of == table);
        let mut images = images.map(|((_, key), value)| (key, value)).peekable();
        let mut tree = rows::walk(&self.inner.db, table, from).peekable();
        let mut page = Page::new(limit);
        while !page.is_full() {
            // A merge of two ordered sequences in which the image hides the tree's row of the same key.
            let image_first = match (images.peek(), tree.peek()) {
                (Some((image, _)), Some(Ok((row, _)))) if image.as_slice() == row.as_ref() => {
                    tree.next();
                    true
                }
                (Some((image, _)), Some(Ok((row, _)))) => image.as_slice() < row.as_ref(),
                (_, Some(_)) => false,
                (Some(_), None) => true,
                (None, None) => break,
            };
            if image_first {
                if let Some((key, Some(value))) = images.next() {
                    page.push(Bytes::copy_from_slice(key), value.clone());
                }
            } else if let Some(row) = tree.next() {
                let (key, head) = row?;
                let value = rows::value(&self.inner.db, table, &key, &head)?;
                page.push(key, value);
            }
        }
        Ok(page.into_rows())
    }
}

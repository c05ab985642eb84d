use std::path::Path;

use bytes::Bytes;
use flotilla_base::store::{Batch, Row, Rows, Store, StoreError, Table};

/// `base::store` over sled.
pub struct Sled(());

impl Sled {
    pub fn open(_dir: &Path) -> Result<Self, StoreError> {
        todo!()
    }
}

impl Rows for Sled {
    fn get(&self, _table: Table, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }
    fn page(&self, _table: Table, _from: &[u8], _limit: usize) -> Result<Vec<Row>, StoreError> {
        todo!()
    }
}

impl Store for Sled {
    fn write(&self, _batch: Batch) -> Result<(), StoreError> {
        todo!()
    }
    fn durable(&self) -> Result<(), StoreError> {
        todo!()
    }
    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError> {
        todo!()
    }
}

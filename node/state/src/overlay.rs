use bytes::Bytes;
use flotilla_base::{
    LogIndex,
    store::{Batch, Row, Rows, StoreError, Table},
};

use crate::StateHash;

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
        todo!()
    }

    /// The writes with `applied` recorded among them, and which parts of the view they touch. `extra` is what consensus
    /// keeps in the same batch (membership), under its own key; see [`crate::Tables::consensus_record`].
    pub fn finish(self, applied: LogIndex, extra: Option<Bytes>) -> (Batch, Changes, StateHash) {
        todo!()
    }
}

impl Rows for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        todo!()
    }
}

use bytes::Bytes;
use flotilla_base::{
    ByteLen,
    codec::{self, CodecError},
    store::{Rows, StoreError},
};
use flotilla_state::{BOOKKEEPING, Tables, unreadable};
use serde::{Deserialize, Serialize};

use crate::types::{LogId, Members, SnapshotMeta};

const FORMAT: u8 = 1;
/// Of a membership of hundreds of nodes.
const LIMIT: ByteLen = ByteLen::kib(64);

/// What consensus keeps in the state, written with each batch of it: how far the log is applied, and who was a member then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub applied: Option<LogId>,
    pub members: Members,
}

impl Record {
    /// The default when nothing was ever applied.
    pub(crate) fn load(rows: &dyn Rows) -> Result<Self, StoreError> {
        match Tables::of(rows).consensus_record()? {
            Some(bytes) => codec::decode_version(FORMAT, LIMIT, &bytes).map_err(|error| unreadable(BOOKKEEPING, error)),
            None => Ok(Self::default()),
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, CodecError> {
        codec::encode(FORMAT, self).map(Bytes::from)
    }

    pub(crate) fn snapshot_meta(&self) -> SnapshotMeta {
        let id = self.applied.map_or_else(String::new, |id| {
            format!("{:016x}-{}-{:016x}", id.leader_id.term, id.leader_id.node_id, id.index)
        });
        SnapshotMeta { last_log_id: self.applied, last_membership: self.members.clone(), snapshot_id: id }
    }
}

use std::{io, path::PathBuf, time::Duration};

use flotilla_base::{ByteLen, LogIndex, codec::CodecError, store::StoreError};
use flotilla_registry::Refusal;
use flotilla_storage::LogError;

/// Why a node cannot take up the group where it left it. Nothing was lost by trying.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} cannot be read", path.display())]
    Record { path: PathBuf, source: CodecError },
    #[error("cannot open the log")]
    Log(#[from] LogError),
    #[error("an entry of the log cannot be read")]
    LogRecord(#[source] CodecError),
    #[error("cannot open the state")]
    State(#[from] StoreError),
    #[error(
        "the state in {} is lost: the snapshot reaches to entry {snapshot:?} and the log begins after entry {purged:?}; \
         restore the node's folder from a backup, or move it away and let the node join again as a new one",
        dir.display()
    )]
    StateLost { dir: PathBuf, snapshot: Option<LogIndex>, purged: LogIndex },
    #[error(
        "the log in {} ends at entry {last:?} but entry {applied:?} has been applied: the log was lost, and with it a \
         vote this node may have given; restore the folder from a backup, or move the node's folder away and let it \
         join again as a new node",
        dir.display()
    )]
    LogLost { dir: PathBuf, last: Option<LogIndex>, applied: LogIndex },
    #[error("the state was written at cluster version {state}, this program speaks {program}: start a newer one")]
    Downgrade { state: u16, program: u16 },
    #[error("cannot write a snapshot")]
    Snapshot(#[source] SnapshotError),
    #[error("Raft cannot be started: {0}")]
    Raft(String),
    /// This node is the whole group, and it did not come to lead itself.
    #[error("the log was not replayed within {0:?}")]
    Slow(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the operation takes {len}, at most {limit} are allowed")]
    TooLarge { len: ByteLen, limit: ByteLen },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It is stopping, or had to stop; [`crate::Status`] says why.
    #[error("this node takes no more changes")]
    Stopped,
}

/// No leader or no quorum now, or too much waits already. After a proposal the outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no agreement was reached; the outcome is unknown, retry")]
pub struct Unavailable {
    pub retry_after: Duration,
}

/// A snapshot that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the state's store failed")]
    Store(#[from] StoreError),
    #[error("a record of a snapshot cannot be encoded or decoded")]
    Record(#[from] CodecError),
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

impl SnapshotError {
    /// Whether the file is not what was written; trying again cannot help. A newer program's file is whole.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Record(error) => !matches!(error, CodecError::Version { found, known } if found > known),
            Self::Io { .. } | Self::Store(_) => false,
        }
    }
}

//! One arm per operation; each family in a file of its own (`apply/rules.rs`, …).

use flotilla_base::store::StoreError;

use crate::{CommandBatch, Overlay, Reply};

/// What stops the node. A refusal is no such thing: it is an answer, the same on every node.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the state's store failed")]
    Store(#[from] StoreError),
    #[error("the log holds a command of version {0}, which this program does not know: upgrade it")]
    Unknown(u8),
    #[error("a committed command cannot be read: upgrade this program, or restore this node from the others")]
    Undecodable(#[source] flotilla_base::codec::CodecError),
}

/// Applies one log entry (as encoded by [`CommandBatch::encode`]); one reply per command, in order. Never panics,
/// whatever the bytes are.
///
/// # Errors
/// [`ApplyError`]: the node must stop applying. The overlay is then void.
pub fn apply(overlay: &mut Overlay<'_>, entry: &[u8]) -> Result<Vec<Reply>, ApplyError> {
    todo!()
}

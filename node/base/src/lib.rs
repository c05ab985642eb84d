//! What every floor names and none acts on: ids, instants, sizes, secrets, the record codec, and the ordered
//! key-value contract. Pure: no clock, no I/O, no tokio.

pub mod codec;
mod id;
mod secret;
mod size;
pub mod store;
mod time;

pub use id::{BootId, ClusterId, Epoch, LogIndex, NodeId, OpId, RequestId};
pub use secret::Secret;
pub use size::{ByteLen, ByteRange};
pub use time::Timestamp;

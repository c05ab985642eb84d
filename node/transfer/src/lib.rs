//! Where bytes are and how they come here: open, fill once, follow. Knows digests, origins and nodes; knows no
//! repository, no permission, no HTTP. Every pull of a blob ends here.

#![allow(clippy::todo, dead_code, unused_variables, unused_imports)]

mod metrics;
mod origins;
mod transfer;

pub use origins::{OriginError, Origins, Resolved};
pub use transfer::{Blob, Parts, Proof, Transfer, TransferError, Wanted};

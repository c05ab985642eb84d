//! What lies on this node's disk: the ordered store over sled, vote and log of Raft in segment files, blobs by digest,
//! and the keys that open sealed secrets.
//!
//! Invariant: what a caller was told is durable survives loss of power; what is damaged is named, never skipped in
//! silence; memory grows with open readers and writers, never with what is stored.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests stand in for the world around a node"))]

pub mod blob;
mod keyring;
mod metrics;
pub mod segment_log;
mod sled;

pub use blob::{
    BlobConfig, BlobReader, BlobStore, BlobUsage, Everything, Evictable, Found, PartialWriter, StorageError,
};
pub use keyring::{Keyring, KeyringError, OpenError};
pub use segment_log::{LogError, SegmentLog, SegmentLogConfig, Slot};
pub use sled::Sled;

#[cfg(test)]
mod test_disk;

//! Where bytes are and how they come here: open, fill once, follow. Knows digests, origins and nodes; knows no
//! repository, no permission, no HTTP. Every pull of a blob ends here.
//!
//! Invariants: at most one fill per digest (1); nothing is published, and no last byte leaves, before the digest has
//! matched (2); what is opened without a proof consists of its own origin's bytes (6); memory is bounded by the number
//! of fills and readers (12); "nowhere" is said only when the asker's own origin said so (13); no upstream takes the
//! places of all.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests stand in for the world around a node"))]

mod core;
mod credentials;
mod drive;
mod error;
mod failures;
mod fetch;
mod fill;
mod have;
mod lease;
mod metrics;
mod origins;
mod pump;
mod reader;
mod refetch;
mod shares;
#[cfg(test)]
mod tests;
mod transfer;
mod verified;
mod want;

pub use credentials::CredentialError;
pub use error::TransferError;
pub use have::{Have, LocalOnly};
pub use lease::{AlwaysGranted, HeldBy, Lease, LeaseGuard, LeaseKey};
pub use origins::{OriginError, Origins, Resolved};
pub use reader::{Reader, Sealing};
pub use refetch::Refetch;
pub use transfer::{Blob, Delivered, Parts, Presence, Proof, Transfer, Wanted};
pub use want::{NobodyElse, Want};

//! One Raft group (openraft) over the replicated state. Nothing of openraft shows outside: the face is [`Consensus`], and
//! reading needs no consensus at all (`state::View`).
//!
//! Invariants: vote and entries are durable before anyone hears of them; what was acknowledged is applied here and survives
//! loss of power (3); a committed entry is never skipped: one that cannot be applied stops the node (18); no entry
//! exceeds `state::COMMAND_LIMIT`; the log is cut only below a durable snapshot.

#![expect(clippy::todo, unused_variables, dead_code, reason = "faces first; bodies follow")]

mod config;
mod consensus;
mod error;

pub use config::{ConsensusConfig, Profile};
pub use consensus::{Consensus, Health, Parts, Status};
pub use error::{ProposeError, SnapshotError, StartError, Unavailable};

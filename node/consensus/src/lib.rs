//! One Raft group (openraft) over the replicated state. Nothing of openraft shows outside: the face is [`Consensus`], and
//! reading needs no consensus at all (`state::View`).
//!
//! A proposal's way: [`Consensus::propose`] → `collector` (one entry of many) → openraft → `log_store` (durable) →
//! `state_machine` (applied, published) → its answer.
//!
//! Invariants: vote and entries are durable before anyone hears of them; what was acknowledged is applied here and survives
//! loss of power (3); a committed entry is never skipped: one that cannot be applied stops the node (18); no entry
//! exceeds `state::COMMAND_LIMIT`; the log is cut only below a durable snapshot.

mod barrier;
mod boot;
mod builder;
mod collector;
mod config;
mod consensus;
mod error;
mod halt;
mod home;
mod keeper;
mod log_store;
mod marks;
mod metrics;
mod network;
mod recent;
mod record;
mod recover;
mod snapshot;
mod start;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;

pub use config::{ConsensusConfig, Profile};
pub use consensus::{Consensus, Health, Parts, Status};
pub use error::{ProposeError, SnapshotError, StartError, Unavailable};

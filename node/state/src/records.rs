use bytes::Bytes;
use flotilla_base::{BootId, ByteLen, NodeId, Timestamp};
use flotilla_oci::{Digest, MediaType};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    pub digest: Digest,
    /// Set from a counter on every move or delete, so that A→B→A is three versions (`protocols.md` §3.4).
    pub version: u64,
    pub moved_at: Timestamp,
    /// When upstream last confirmed this version; its own clock, not the pull's.
    pub validated_at: Timestamp,
}

/// A manifest, stored once by digest; images of repositories point at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    pub media_type: MediaType,
    pub len: ByteLen,
    /// Images that point at it.
    pub references: u64,
}

/// What is known about a blob beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// `None` until a link or the bytes told; what a manifest says is only a claim.
    pub size: Option<ByteLen>,
    /// Repositories that it is linked to.
    pub links: u64,
    /// Images that name it, by how they came here.
    pub cached_references: u64,
    pub pushed_references: u64,
    /// Regions that promised to keep it.
    pub homes: Vec<String>,
    pub unreferenced_since: Option<Timestamp>,
    pub condemned: bool,
    pub placement: Placement,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Evictable content: presence is asked, not recorded.
    Cached,
    /// Where it was acknowledged, until its owners have it.
    Copies(Vec<NodeId>),
    Placed,
}

/// A blob's membership in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    pub size: ByteLen,
    pub linked_at: Timestamp,
}

/// A piece of a manifest that waits for its import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedPart {
    pub(crate) arrived_at: Timestamp,
    pub(crate) bytes: Bytes,
}

/// The latest process of a node, as far as its operations tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) boot: BootId,
    /// Operations below it are answered or forgotten.
    pub(crate) floor: u64,
    /// Replies that are kept.
    pub(crate) kept: u64,
    pub(crate) last_at: Timestamp,
}

/// The success that a client's mark got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptOutcome {
    pub(crate) at: Timestamp,
    pub(crate) outcome: Outcome,
}

impl BlobRecord {
    /// Nothing is known of it yet, and nothing holds it.
    pub(crate) fn unknown() -> Self {
        Self {
            size: None,
            links: 0,
            cached_references: 0,
            pushed_references: 0,
            homes: Vec::new(),
            unreferenced_since: None,
            condemned: false,
            placement: Placement::Cached,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.links > 0 || self.cached_references > 0 || self.pushed_references > 0
    }
}

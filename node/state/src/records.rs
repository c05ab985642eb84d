use flotilla_base::{ByteLen, NodeId, Timestamp};
use flotilla_oci::{Digest, MediaType};
use serde::{Deserialize, Serialize};

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

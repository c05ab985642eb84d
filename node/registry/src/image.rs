//! Images: a manifest's membership in a repository, and what is recorded about it.

use flotilla_base::{ByteLen, Timestamp};
use flotilla_oci::{Digest, MediaType, Tag};
use serde::{Deserialize, Serialize};

/// A manifest's link to a repository, and the facts that the AWS API shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub digest: Digest,
    pub media_type: MediaType,
    pub artifact_type: Option<MediaType>,
    /// Config and layers; for an index the largest of the children that are here.
    pub size: ByteLen,
    /// When it came into the repository; ECR's `imagePushedAt`.
    pub pushed_at: Timestamp,
    /// Recorded in batches: at most one write per node and minute.
    pub last_pulled_at: Option<Timestamp>,
    pub subject: Option<Digest>,
    pub provenance: Provenance,
}

/// How content came here; decides whether it may be evicted or revalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Provenance {
    Cached,
    Pushed,
}

/// What one call wants deleted; at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageId {
    pub digest: Option<Digest>,
    pub tag: Option<Tag>,
}

//! Pull and pull through: from a mapped name to bytes.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, MediaType, Name, Reference, Tag};
use flotilla_registry::cache_rule::Target;
use flotilla_transfer::Blob;
use prometheus_client::registry::Registry;
use serde::Deserialize;

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

/// `[pull]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullConfig {
    /// Seconds after which a tag is validated against its upstream again, unless its rule says otherwise. Spread by
    /// ±10 % per tag, so that a fleet's tags do not fall due together.
    pub revalidate_after_seconds: u64,
    /// Longest wait for an upstream's answer about a tag that is held; then the held image is served and the check ends
    /// in the background.
    pub revalidate_wait_seconds: u64,
    /// How long "not found upstream" is remembered.
    pub negative_seconds: u64,
}

impl Default for PullConfig {
    fn default() -> Self {
        Self { revalidate_after_seconds: 24 * 3600, revalidate_wait_seconds: 2, negative_seconds: 5 }
    }
}

pub struct Pull {}

/// A manifest that is linked to the repository, as its upstream wrote it.
#[derive(Clone, Debug)]
pub struct ServedManifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
    pub freshness: Freshness,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Held, and validated within its time.
    Hit,
    /// Fetched or confirmed upstream for this request.
    Miss,
    /// Held, and upstream could not be asked.
    Stale,
    /// Served without being kept.
    Passthrough,
}

/// Where the bytes come from; the log's and the metrics' `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Local,
    Upstream,
    Passthrough,
}

pub struct ServedBlob {
    pub blob: Blob,
    pub len: ByteLen,
    pub source: Source,
    pub freshness: Freshness,
}

/// What a forced refresh found.
#[derive(Clone, Debug)]
pub struct Refreshed {
    pub tag: Tag,
    pub digest: Option<Digest>,
    pub previous: Option<Digest>,
    pub validation: Validation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    Unchanged,
    Moved,
    Frozen,
    MissingUpstream,
    UpstreamFailed(String),
}

impl Pull {
    pub(crate) fn new(parts: &Parts, config: PullConfig, proposer: Proposer, registry: &mut Registry) -> Arc<Self> {
        todo!()
    }

    /// Maps a name to exactly one repository. The only function that does; no handler sees the raw name afterwards.
    pub fn target(&self, name: &Name) -> Target {
        todo!()
    }

    /// # Errors
    /// `NoManifest` only when every source of this repository said so (13); upstream trouble never fails what is held
    /// (4).
    pub async fn manifest(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        reference: &Reference,
    ) -> Result<ServedManifest, ServiceError> {
        todo!()
    }

    /// Returns as soon as the length is known; the bytes follow.
    pub async fn blob(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
    ) -> Result<ServedBlob, ServiceError> {
        todo!()
    }

    /// The length of a blob, without fetching it.
    pub async fn blob_len(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
    ) -> Result<ByteLen, ServiceError> {
        todo!()
    }

    /// Index of the manifests that refer to `digest`: upstream's on a cached repository, else what is here.
    pub async fn referrers(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Bytes, ServiceError> {
        todo!()
    }

    /// Validates one tag, or every tag of the repository, against upstream now.
    pub async fn refresh(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        tag: Option<&Tag>,
    ) -> Result<Vec<Refreshed>, ServiceError> {
        todo!()
    }
}

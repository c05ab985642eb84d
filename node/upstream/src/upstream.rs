use std::sync::Arc;

use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, MediaType, Name, Reference};
use flotilla_runtime::ByteStream;

use crate::UpstreamError;

/// One upstream registry under one account. All calls are cancel safe: dropping one closes its connection.
pub struct Upstream {
    host: Arc<str>,
}

/// What a HEAD of a manifest tells; each part only if the upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    pub digest: Option<Digest>,
    pub media_type: Option<MediaType>,
    pub len: Option<ByteLen>,
}

/// A manifest whose bytes match `digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest that was asked for, else the sha256 of `bytes`.
    pub digest: Digest,
    /// The `Content-Type` without parameters.
    pub media_type: Option<MediaType>,
    /// Verbatim, at most [`flotilla_oci::MANIFEST_LIMIT`].
    pub bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// `None` when neither the upstream nor the host it redirects to tells.
    pub len: Option<ByteLen>,
    pub redirected: bool,
}

/// A body that resumes itself over cuts and stalls, and ends with an error when the upstream is exhausted. Its bytes are
/// not checked against the digest: that is the fill's work. Dropping it closes the connection.
pub struct Download {
    /// Of the whole blob, wherever the body starts.
    pub len: ByteLen,
    /// From the asked offset to the end. Errors carry an [`UpstreamError`].
    pub body: ByteStream,
}

/// The upstream is a registry and accepts us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It asked for no authentication.
    Open,
    /// It asked for authentication and lets anonymous clients have a token.
    Anonymous,
    /// It asked for authentication and accepted our credential.
    Authenticated,
}

impl Upstream {
    pub(crate) fn new(host: &str) -> Self {
        Self { host: host.into() }
    }

    fn nothing_yet<T>(&self) -> Result<T, UpstreamError> {
        Err(UpstreamError::Status { host: self.host.clone(), status: 501 })
    }

    /// Asks for a manifest without its bytes.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn head(&self, _name: &Name, _reference: &Reference) -> Result<ManifestHead, UpstreamError> {
        self.nothing_yet()
    }

    /// Fetches a manifest and checks its bytes against the asked digest, and against `Docker-Content-Digest`.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn manifest(&self, _name: &Name, _reference: &Reference) -> Result<FetchedManifest, UpstreamError> {
        self.nothing_yet()
    }

    /// Asks whether the repository `name` has a blob. Success proves it, also with a redirect.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob_head(&self, _name: &Name, _digest: &Digest) -> Result<BlobHead, UpstreamError> {
        self.nothing_yet()
    }

    /// Opens a blob at byte `from`. Returns with the head of the response; the body follows as it arrives.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob(&self, _name: &Name, _digest: &Digest, _from: u64) -> Result<Download, UpstreamError> {
        self.nothing_yet()
    }

    /// The index of what refers to `digest`, verbatim and at most 4 MiB; `None` when the upstream has no referrers API.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn referrers(
        &self,
        _name: &Name,
        _digest: &Digest,
        _artifact_type: Option<&MediaType>,
    ) -> Result<Option<Bytes>, UpstreamError> {
        self.nothing_yet()
    }

    /// Asks whether this is a registry, and whether it accepts us.
    ///
    /// # Errors
    /// [`UpstreamError`]: `NotARegistry` and `Unauthorized` are the verdicts, others say that there is none.
    pub async fn probe(&self) -> Result<Probe, UpstreamError> {
        self.nothing_yet()
    }
}

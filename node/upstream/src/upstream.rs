use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Algorithm, Digest, InvalidDigest, MANIFEST_LIMIT, MediaType, Name, Reference};
use flotilla_runtime::ByteStream;
use http::{HeaderMap, Method};

use crate::{
    Class, Turn, UpstreamError, download,
    exchange::{Answer, Ask},
    gate::Permit,
    headers, probe,
    session::Session,
};

/// One upstream registry under one account, asked for somebody. All calls are cancel safe: dropping one closes its
/// connection.
pub struct Upstream {
    session: Arc<Session>,
    turn: Turn,
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

/// What we take for a manifest; never `*/*`, for which some registries convert, and never Docker's schema 1.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Of an index of referrers, as of any manifest.
const REFERRERS_LIMIT: ByteLen = MANIFEST_LIMIT;

impl Upstream {
    pub(crate) fn new(session: Session) -> Self {
        Self { session: Arc::new(session), turn: Class::default().into() }
    }

    /// The same upstream and account, asked for those of `turn`.
    #[must_use]
    pub fn on_behalf_of(&self, turn: impl Into<Turn>) -> Self {
        Self { session: self.session.clone(), turn: turn.into() }
    }

    /// Under which its tokens are kept.
    pub(crate) fn account(&self) -> u64 {
        self.session.number()
    }

    pub(crate) fn is_refused_at(&self, host: &str) -> bool {
        self.session.is_refused() && *self.session.site.name == *host
    }

    /// What the limit of `host` leaves to this account.
    pub(crate) fn remaining_at(&self, host: &str) -> Option<u64> {
        self.session.quota.remaining().filter(|_| *self.session.site.name == *host)
    }

    /// Asks for a manifest without its bytes.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn head(&self, name: &Name, reference: &Reference) -> Result<ManifestHead, UpstreamError> {
        let _permit = self.enter().await?;
        let ask = manifest(Method::HEAD, name, reference);
        let Answer { headers, .. } = self.session.retrying(|| self.ask(&ask)).await?;
        let digest = self.content_digest(&headers)?;
        if let (Reference::Digest(asked), Some(digest)) = (reference, &digest)
            && asked.algorithm() == digest.algorithm()
            && asked != digest
        {
            return Err(self.mismatch("another digest than was asked for"));
        }
        Ok(ManifestHead { digest, media_type: headers::media_type(&headers), len: headers::content_length(&headers) })
    }

    /// Fetches a manifest and checks its bytes against the asked digest, and against `Docker-Content-Digest`.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn manifest(&self, name: &Name, reference: &Reference) -> Result<FetchedManifest, UpstreamError> {
        let _permit = self.enter().await?;
        // Asked when it is our turn: what the one before us heard counts, and so does who joined meanwhile.
        if self.turn.class() == Class::Anonymous
            && let Some(retry_after) = self.session.quota.kept()
        {
            return Err(UpstreamError::Reserved { host: self.session.site.name.clone(), retry_after });
        }
        let ask = manifest(Method::GET, name, reference);
        let (headers, bytes) = self.session.retrying(|| self.ask_whole(&ask, MANIFEST_LIMIT)).await?;
        if let Some(promised) = self.content_digest(&headers)?
            && hash(promised.algorithm(), &bytes) != Some(promised)
        {
            return Err(self.mismatch("bytes that do not match their Docker-Content-Digest"));
        }
        let algorithm = match reference {
            Reference::Digest(asked) => asked.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = hash(algorithm, &bytes).ok_or_else(|| self.mismatch("bytes that cannot be hashed"))?;
        if let Reference::Digest(asked) = reference
            && *asked != digest
        {
            return Err(self.mismatch("bytes that do not match the digest asked for"));
        }
        Ok(FetchedManifest { digest, media_type: headers::media_type(&headers), bytes })
    }

    /// Asks whether the repository `name` has a blob. Success proves it, also with a redirect.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob_head(&self, name: &Name, digest: &Digest) -> Result<BlobHead, UpstreamError> {
        let _permit = self.enter().await?;
        let (len, redirected) = download::head(&self.session, name, digest).await?;
        Ok(BlobHead { len, redirected })
    }

    /// Opens a blob at byte `from`, which is at most its length. Returns with the head of the response; the body follows
    /// as it arrives.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob(&self, name: &Name, digest: &Digest, from: u64) -> Result<Download, UpstreamError> {
        let site = &self.session.site;
        let permit = site.gate.enter_blob(&self.turn).await;
        let permit = permit.ok_or_else(|| UpstreamError::Busy { host: site.name.clone() })?;
        download::open(&self.session, permit, name, digest, from).await
    }

    /// The index of what refers to `digest`, verbatim and at most 4 MiB; `None` when the upstream has no referrers API.
    /// With `artifact_type` the upstream may filter by it, or not.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn referrers(
        &self,
        name: &Name,
        digest: &Digest,
        artifact_type: Option<&MediaType>,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let _permit = self.enter().await?;
        let mut path = format!("/v2/{name}/referrers/{digest}");
        if let Some(MediaType(artifact_type)) = artifact_type {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            path = format!("{path}?{}", query.append_pair("artifactType", artifact_type).finish());
        }
        let ask = Ask { name: Some(name.clone()), accept: Some(INDEX_TYPE), ..Ask::new(Method::GET, path) };
        match self.session.retrying(|| self.ask_whole(&ask, REFERRERS_LIMIT)).await {
            Ok((_, bytes)) => Ok(Some(bytes)),
            // The spec has registries answer 200 with an empty index for a digest that nothing refers to.
            Err(UpstreamError::NotFound { .. } | UpstreamError::Status { .. } | UpstreamError::NotARegistry { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Bodies of blobs that may be under way at once, of all accounts together.
    pub fn blobs_at_once(&self) -> usize {
        self.session.site.gate.blobs_at_once()
    }

    /// Asks whether this is a registry, and whether it accepts us; with new tokens, never with held ones.
    ///
    /// # Errors
    /// [`UpstreamError`]: `NotARegistry` and `Unauthorized` are the verdicts, others say that there is none.
    pub async fn probe(&self) -> Result<Probe, UpstreamError> {
        let _permit = self.enter().await?;
        probe::probe(&self.session).await
    }

    async fn enter(&self) -> Result<Permit, UpstreamError> {
        let site = &self.session.site;
        site.gate.enter(&self.turn).await.ok_or_else(|| UpstreamError::Busy { host: site.name.clone() })
    }

    async fn ask(&self, ask: &Ask) -> Result<Answer, UpstreamError> {
        self.session.accept(self.session.exchange(ask).await?).await
    }

    async fn ask_whole(&self, ask: &Ask, limit: ByteLen) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let Answer { headers, mut body, .. } = self.ask(ask).await?;
        if headers::content_length(&headers).is_some_and(|len| len > limit) {
            return Err(UpstreamError::TooLarge { host: self.session.site.name.clone(), limit });
        }
        let bytes = self.session.whole(&mut body, limit).await?;
        Ok((headers, bytes))
    }

    fn content_digest(&self, headers: &HeaderMap) -> Result<Option<Digest>, UpstreamError> {
        headers::content_digest(headers).map_err(|InvalidDigest| UpstreamError::Malformed {
            host: self.session.site.name.clone(),
            reason: "a Docker-Content-Digest that is no digest",
        })
    }

    fn mismatch(&self, reason: &'static str) -> UpstreamError {
        UpstreamError::Mismatch { host: self.session.site.name.clone(), reason }
    }
}

fn manifest(method: Method, name: &Name, reference: &Reference) -> Ask {
    let path = format!("/v2/{name}/manifests/{reference}");
    Ask { name: Some(name.clone()), accept: Some(MANIFEST_TYPES), ..Ask::new(method, path) }
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Option<Digest> {
    let with = match algorithm {
        Algorithm::Sha256 => &digest::SHA256,
        Algorithm::Sha512 => &digest::SHA512,
    };
    Digest::from_hash(algorithm, digest::digest(with, bytes).as_ref()).ok()
}

use flotilla_base::ByteLen;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// Largest manifest that is accepted (distribution spec 1.1: registries should accept up to 4 MiB).
pub const MANIFEST_LIMIT: ByteLen = ByteLen::mib(4);

/// A media type as written, without parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaType(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub media_type: MediaType,
    pub digest: Digest,
    pub size: ByteLen,
}

/// What a manifest names. Its bytes are kept verbatim beside it, never written from this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub media_type: MediaType,
    /// `artifactType`, or the config's media type of an image manifest.
    pub artifact_type: Option<MediaType>,
    pub subject: Option<Descriptor>,
    /// Config and layers, in the order of the manifest; without foreign layers (those with `urls`).
    pub blobs: Vec<Descriptor>,
    /// Manifests that an index or a list names.
    pub children: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    #[error("manifest is longer than {MANIFEST_LIMIT}")]
    TooLong,
    #[error("manifest is not JSON of the image spec: {0}")]
    Syntax(String),
    #[error("media type '{0}' is not one of a manifest")]
    MediaType(String),
    #[error("Content-Type '{header}' disagrees with the manifest's own '{body}'")]
    Disagrees { header: String, body: String },
    #[error("a manifest has either layers or manifests, not both")]
    Ambiguous,
}

impl Manifest {
    /// Reads a manifest of one of the allowed media types: OCI image manifest and index, Docker schema 2 manifest and
    /// list. The media type is the body's own; without one it is `content_type`, and without both the one that the
    /// members imply. A manifest with both `layers` and `manifests` is refused (`requirements.md` A).
    ///
    /// # Errors
    /// [`InvalidManifest`].
    pub fn parse(_content_type: Option<&str>, _bytes: &[u8]) -> Result<Self, InvalidManifest> {
        Err(InvalidManifest::Ambiguous)
    }
}

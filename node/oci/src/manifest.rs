use flotilla_base::ByteLen;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// Largest manifest that is accepted (distribution spec 1.1: registries should accept up to 4 MiB).
pub const MANIFEST_LIMIT: ByteLen = ByteLen::mib(4);

/// Longest media type: RFC 6838 allows 127 characters on each side of the slash.
const MEDIA_TYPE_MAX: usize = 255;
/// As much of what an author wrote as an error repeats: errors go into logs and replies.
const SHOWN_CHARS: usize = 255;

/// A media type as written, without parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaType(pub String);

impl MediaType {
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";

    /// Whether it is that of an index or a list: a manifest of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self.0.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }
}

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

/// The members that decide anything. Absent and `null` are one, as Go's encoders write both.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    /// Schema 1 has these instead of layers.
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    urls: Option<Vec<serde::de::IgnoredAny>>,
}

impl Manifest {
    /// Reads a manifest of one of the allowed media types: OCI image manifest and index, Docker schema 2 manifest and
    /// list. The media type is the body's own; without one it is `content_type` (its parameters do not count), and
    /// without both the one that the members imply. A manifest with both `layers` and `manifests` is refused
    /// (`requirements.md` A). What it names depends on `bytes` alone.
    ///
    /// # Errors
    /// [`InvalidManifest`].
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, InvalidManifest> {
        if bytes.len() as u64 > MANIFEST_LIMIT.0 {
            return Err(InvalidManifest::TooLong);
        }
        let raw: RawManifest = serde_json::from_slice(bytes).map_err(|error| syntax(error.to_string()))?;
        if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
            return Err(InvalidManifest::MediaType(MediaType::DOCKER_SCHEMA_1.into()));
        }
        if raw.schema_version.is_some_and(|version| version != 2) {
            return Err(syntax("schemaVersion is not 2"));
        }
        let media_type = raw.agreed_media_type(content_type)?;
        let subject = raw.subject.map(Descriptor::try_from).transpose()?;
        let artifact_type = raw.artifact_type.filter(|text| !text.is_empty()).map(checked).transpose()?;
        match (raw.config, raw.layers, raw.manifests) {
            (None, None, Some(children)) => {
                let children = children.into_iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
                Ok(Self { media_type, artifact_type, subject, blobs: Vec::new(), children })
            }
            (Some(config), layers, None) => {
                let config = Descriptor::try_from(config)?;
                let of_config = Some(config.media_type.clone()).filter(|media_type| !media_type.0.is_empty());
                let layers = layers.unwrap_or_default().into_iter().filter(|layer| !layer.is_foreign());
                let blobs = [Ok(config)].into_iter().chain(layers.map(Descriptor::try_from));
                let blobs = blobs.collect::<Result<_, _>>()?;
                let artifact_type = artifact_type.or(of_config);
                Ok(Self { media_type, artifact_type, subject, blobs, children: Vec::new() })
            }
            (None, Some(_), None) => Err(syntax("config is missing")),
            (None, None, None) => Err(syntax("neither layers nor manifests")),
            (_, _, Some(_)) => Err(InvalidManifest::Ambiguous),
        }
    }
}

impl RawManifest {
    /// The one media type that body, header and members agree on.
    fn agreed_media_type(&self, content_type: Option<&str>) -> Result<MediaType, InvalidManifest> {
        let header = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let header = header.filter(|text| !text.is_empty());
        let own = self.media_type.as_deref().filter(|text| !text.is_empty());
        let written = match (own, header) {
            (Some(body), Some(header)) if body != header => {
                return Err(InvalidManifest::Disagrees { header: shown(header), body: shown(body) });
            }
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) if self.manifests.is_some() => MediaType::OCI_INDEX,
            (None, None) => MediaType::OCI_MANIFEST,
        };
        let is_index = match written {
            MediaType::OCI_INDEX | MediaType::DOCKER_LIST => true,
            MediaType::OCI_MANIFEST | MediaType::DOCKER_MANIFEST => false,
            other => return Err(InvalidManifest::MediaType(shown(other))),
        };
        let has_layers = self.config.is_some() || self.layers.is_some();
        match (is_index, has_layers, self.manifests.is_some()) {
            (_, true, true) => Err(InvalidManifest::Ambiguous),
            (true, true, false) => Err(syntax("an index with layers")),
            (false, false, true) => Err(syntax("an image manifest with manifests")),
            _ => Ok(MediaType(written.to_owned())),
        }
    }
}

impl RawDescriptor {
    /// Its bytes are somewhere else, and no registry is asked for them.
    fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

impl TryFrom<RawDescriptor> for Descriptor {
    type Error = InvalidManifest;

    fn try_from(raw: RawDescriptor) -> Result<Self, InvalidManifest> {
        let digest = raw.digest.parse().map_err(|error| syntax(format!("'{}': {error}", shown(&raw.digest))))?;
        let media_type = checked(raw.media_type.unwrap_or_default())?;
        Ok(Self { media_type, digest, size: ByteLen(raw.size) })
    }
}

/// Media types go into records, replies and headers: short, and nothing that a header cannot hold.
fn checked(text: String) -> Result<MediaType, InvalidManifest> {
    let fits = text.len() <= MEDIA_TYPE_MAX && text.bytes().all(|c| (b' '..=b'~').contains(&c));
    if fits { Ok(MediaType(text)) } else { Err(syntax("a media type is too long or not text")) }
}

/// What the parser quotes it has escaped, but not shortened.
fn syntax(reason: impl AsRef<str>) -> InvalidManifest {
    InvalidManifest::Syntax(reason.as_ref().chars().take(SHOWN_CHARS).collect())
}

/// What an author wrote, fit for one line of a log.
fn shown(text: &str) -> String {
    text.escape_debug().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

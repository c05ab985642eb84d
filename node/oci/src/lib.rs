//! The OCI formats: digests, names, tags, manifests, media types, error codes. Pure.

mod digest;
mod error_code;
mod manifest;
mod reference;

pub use digest::{Algorithm, Digest, InvalidDigest};
pub use error_code::ErrorCode;
pub use manifest::{Descriptor, InvalidManifest, MANIFEST_LIMIT, Manifest, MediaType};
pub use reference::{InvalidReference, Name, Reference, Tag};

//! The only way out of the node: registries that we pull through. Tokens, redirects, resumption, concurrency limits and
//! the circuit breaker live here; which upstream, whose credentials and which name is said by the caller.
//!
//! Invariant: a credential or token goes to the upstream's own origin and to a realm that is allowed for it, and to
//! nobody else. No query string of a redirect is logged or part of an error.

mod account;
mod config;
mod error;
mod upstream;
mod upstreams;

pub use account::{Account, Credential};
pub use config::{HostConfig, UpstreamConfig, UpstreamConfigError};
pub use error::{HttpError, UpstreamError};
pub use upstream::{BlobHead, Download, FetchedManifest, ManifestHead, Probe, Upstream};
pub use upstreams::Upstreams;

//! The only way out of the node: registries that we pull through. Tokens, redirects, resumption, concurrency limits and
//! the circuit breaker live here; which upstream, whose credentials and which name is said by the caller.
//!
//! Invariant: a credential or token goes to the upstream's own origin and to a realm that is allowed for it, and to
//! nobody else. No query string of a redirect is logged or part of an error.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests stand in for the world around a node"))]

mod account;
mod address;
mod blocked;
mod bounded;
mod breaker;
mod challenge;
mod class;
mod config;
mod connector;
mod destinations;
mod download;
mod ecr;
mod error;
mod exchange;
mod gate;
mod headers;
mod metrics;
mod origin;
mod pauses;
mod pool;
mod probe;
mod proxy;
mod quota;
mod realm;
mod resolver;
mod session;
mod tls;
mod tokens;
mod tunnel;
mod upstream;
mod upstreams;
mod wire;

#[cfg(test)]
mod tests;

pub use account::{Account, Credential};
pub use blocked::{AddressKind, BlockReason};
pub use class::{Class, Turn};
pub use config::{HostConfig, UpstreamConfig, UpstreamConfigError};
pub use error::{HttpError, Refusal, UpstreamError};
pub use flotilla_aws::sigv4::Credentials as AwsKeys;
pub use resolver::Resolver;
pub use upstream::{BlobHead, Download, FetchedManifest, ManifestHead, Probe, Upstream};
pub use upstreams::Upstreams;

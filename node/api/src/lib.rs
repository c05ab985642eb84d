//! The doors: OCI, AWS, operations. Each decodes, asks `service::Access`, calls one use case, encodes. `oci` and `aws`
//! do not know each other; what they share is [`Door`].
//!
//! Invariants: no handler runs before its permission was asked, and each door has one table of permissions; each door
//! has one table from what went wrong to its own codes; a response that is cut never looks complete (2); every request
//! has one line in the log, without credentials.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests stand in for the world around a node"))]

mod aws;
mod door;
mod http;
mod metrics;
mod oci;
mod operations;
#[cfg(test)]
mod tests;

pub use door::Door;
pub use http::{AdminConfig, BindError, Bound, DoorsConfig, HttpConfig, InvalidHost, MirrorConfig, Server, TlsConfig};
pub use metrics::ApiMetrics;

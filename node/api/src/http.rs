//! HTTP below the doors: listeners, TLS, connections, bodies, limits, one log line per request.

pub(crate) mod body;
mod config;
mod connection;
mod listener;
pub(crate) mod multipart;
pub(crate) mod observe;
mod origin;
pub(crate) mod request_body;
mod server;
#[cfg(test)]
pub(crate) mod test_client;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;

use flotilla_base::RequestId;

pub(crate) use body::Body;
pub use config::{HttpConfig, TlsConfig};
pub use listener::{BindError, Bound};
pub use origin::{InvalidHost, Origin};
pub(crate) use server::Answer;
pub use server::Server;

/// One request, before anybody knows who sent it.
pub(crate) struct Arrival {
    pub(crate) client: IpAddr,
    /// Nobody between the client and us can read along: TLS, or loopback.
    pub(crate) private: bool,
    pub(crate) request: RequestId,
    /// This node, as replies to this client name it.
    pub(crate) origin: Origin,
    pub(crate) record: observe::Record,
}

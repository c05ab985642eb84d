//! HTTP below the doors: listeners, TLS, connections, bodies, limits, one log line per request.

pub(crate) mod body;
mod config;
mod connection;
mod expiry;
mod forwarded;
mod gate;
mod listener;
mod live;
pub(crate) mod multipart;
mod ns;
pub(crate) mod observe;
mod origin;
mod places;
mod proxy_protocol;
pub(crate) mod request_body;
mod respond;
mod server;
#[cfg(test)]
pub(crate) mod test_client;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;

use flotilla_base::RequestId;

pub(crate) use body::Body;
pub use config::{AdminConfig, DoorsConfig, HttpConfig, MirrorConfig, TlsConfig};
pub use listener::{BindError, Bound};
pub(crate) use ns::Ns;
pub use origin::{InvalidHost, Origin};
pub(crate) use server::Answer;
pub use server::Server;

/// Which door a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Everything: repositories by their names, the AWS API, and what `[admin]` has not taken away.
    Registry,
    /// The stand-in for one upstream registry: names are that registry's.
    Mirror,
    /// Only for those who run the node.
    Admin,
}

/// One request, before anybody knows who sent it.
pub(crate) struct Arrival {
    pub(crate) entrance: Entrance,
    /// A Host means the mirror, whatever the listener.
    pub(crate) has_mirror_hosts: bool,
    /// The registry that the client believes it speaks to.
    pub(crate) ns: Ns,
    pub(crate) client: IpAddr,
    /// Nobody between the client and us can read along: TLS, or loopback.
    pub(crate) private: bool,
    pub(crate) request: RequestId,
    /// This node, as replies to this client name it.
    pub(crate) origin: Origin,
    pub(crate) record: observe::Record,
}

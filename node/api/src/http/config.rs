use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;
use tokio::sync::Semaphore;

/// `[http]` of the configuration. 0 stands for "unlimited" nowhere; where nothing works without it, it is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Addresses to listen on, IPv4 or IPv6 in brackets, each with its port; port 0 takes a free one.
    /// Default: `["127.0.0.1:5000"]`.
    pub listen: Vec<SocketAddr>,
    /// Serves TLS on every address of `listen`. Default: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// How clients reach this node, `https://registry.example.com[:port]`; what replies name as realm, `proxyEndpoint`
    /// and `repositoryUri`. Default: the Host of the request where it is a listed one, a loopback name or the address that
    /// the request came to, else that address. A node behind address translation needs it, or its outer address in
    /// `allowed_hosts`.
    pub public_url: Option<String>,
    /// Further names that clients use in Host, as `name` or `name:port`. On loopback listeners any other name is
    /// refused. Default: none.
    pub allowed_hosts: Vec<String>,
    /// Connections at once; further ones wait in the listen queue. More than there are addresses in `listen`.
    /// Default: 4096.
    pub max_connections: NonZeroU32,
    /// Bytes of a request's head. Default: 32 KiB.
    pub max_header_bytes: usize,
    /// Headers of a request. Default: 100.
    pub max_headers: usize,
    /// Longest wait for a request's head once its first byte is there, and for a TLS handshake. Default: 10.
    pub header_read_timeout_seconds: NonZeroU64,
    /// After which a connection without a request is closed. Default: 60.
    pub idle_timeout_seconds: NonZeroU64,
    /// After which a connection whose client takes nothing of a response is cut. Default: 60.
    pub write_stall_timeout_seconds: NonZeroU64,
    /// Connections at once of one client address (IPv6: of its /64), but for loopback and `trusted_proxies`; further
    /// ones are closed. Default: 1024.
    pub max_connections_per_client: NonZeroU32,
    /// Bytes of a request's target. Default: 8 KiB.
    pub max_uri_bytes: usize,
    /// Networks of the proxies that are believed in `Forwarded`, `X-Forwarded-For` and `X-Forwarded-Proto`, and with
    /// `proxy_protocol`. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections to `listen` and `mirror.listen` begin with a PROXY header of version 2 and come from
    /// `trusted_proxies`; others are closed. Default: false.
    pub proxy_protocol: bool,
    /// Accept credentials over plain HTTP on addresses that are not loopback. Default: false.
    pub allow_plaintext: bool,
    /// How long a stopping node still accepts while `/readyz` already says no, so that load balancers turn away.
    /// Default: 5.
    pub drain_delay_seconds: u64,
    /// Longest wait for responses under way when a node stops; the rest is cut. Default: 30.
    pub drain_timeout_seconds: u64,
}

/// `[mirror]`: plain image names, as docker's `registry-mirrors` asks for them: no host is named, and none of the node's
/// own repositories exist.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MirrorConfig {
    /// Addresses on which all requests are for the mirror. Served with `http.tls` as those of `http.listen` are.
    /// Default: none.
    pub listen: Vec<SocketAddr>,
    /// Names in Host that mean the mirror on the addresses of `http.listen`, as `name` or `name:port`. Default: none.
    pub hosts: Vec<String>,
    /// The registry that the mirror stands for. Default: `docker.io`.
    pub upstream: String,
}

/// `[admin]`: what those who run the node ask.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Addresses for `/metrics`, `/healthz` and `/readyz?verbose`, without TLS and without a registry. When there is one,
    /// other listeners no longer tell metrics and details. Default: none.
    pub listen: Vec<SocketAddr>,
}

/// What the doors are opened with.
#[derive(Clone, Debug, Default)]
pub struct DoorsConfig {
    pub http: HttpConfig,
    pub mirror: MirrorConfig,
    pub admin: AdminConfig,
}

/// Files are PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those between it and the root, in this order.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

const MAX_CONNECTIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
/// More than a fleet behind one address translation opens: each host has a few.
const MAX_CONNECTIONS_PER_CLIENT: NonZeroU32 = NonZeroU32::new(1024).expect("it is not zero");
const WRITE_STALL_TIMEOUT: NonZeroU64 = NonZeroU64::new(60).expect("it is not zero");
const HEADER_READ_TIMEOUT: NonZeroU64 = NonZeroU64::new(10).expect("it is not zero");
const IDLE_TIMEOUT: NonZeroU64 = NonZeroU64::new(60).expect("it is not zero");

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5000))],
            tls: None,
            public_url: None,
            allowed_hosts: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            header_read_timeout_seconds: HEADER_READ_TIMEOUT,
            idle_timeout_seconds: IDLE_TIMEOUT,
            write_stall_timeout_seconds: WRITE_STALL_TIMEOUT,
            max_connections_per_client: MAX_CONNECTIONS_PER_CLIENT,
            max_uri_bytes: 8 << 10,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            allow_plaintext: false,
            drain_delay_seconds: 5,
            drain_timeout_seconds: 30,
        }
    }
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self { listen: Vec::new(), hosts: Vec::new(), upstream: "docker.io".to_owned() }
    }
}

impl HttpConfig {
    pub(crate) fn max_connections(&self) -> usize {
        usize::try_from(self.max_connections.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay_seconds)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds)
    }
}

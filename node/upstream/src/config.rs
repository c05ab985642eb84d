use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de};
use url::Url;

/// How the node reaches upstream registries: the `[upstream]` table of `flotilla.toml`. Times are in seconds, with a
/// fraction where wanted, greater than 0 and at most 3600.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// What differs for single upstreams, by host (with a port when it is not the scheme's own).
    pub hosts: BTreeMap<String, HostConfig>,
    /// `connect_timeout_seconds`: resolving a name, connecting and the TLS handshake together. Default 5.
    #[serde(rename = "connect_timeout_seconds", deserialize_with = "seconds")]
    pub connect_timeout: Duration,
    /// `head_timeout_seconds`: from a request to the head of its response; also how long a request for a manifest
    /// waits for its turn, and how long it is repeated. Default 10.
    #[serde(rename = "head_timeout_seconds", deserialize_with = "seconds")]
    pub head_timeout: Duration,
    /// `progress_timeout_seconds`: how long a body may stay without a single byte before it is cut and resumed.
    /// Default 10.
    #[serde(rename = "progress_timeout_seconds", deserialize_with = "seconds")]
    pub progress_timeout: Duration,
    /// `queue_timeout_seconds`: how long a blob waits for its turn at an upstream. Default 300.
    #[serde(rename = "queue_timeout_seconds", deserialize_with = "seconds")]
    pub queue_timeout: Duration,
    /// Requests and bodies under way at once, per upstream host; a quarter of them is kept for manifests. At least 1.
    /// Default 32.
    pub concurrency: usize,
    /// Further hosts (`host` or `host:port`) that may give tokens for any upstream, beside those known to belong to one.
    pub realm_allow: Vec<String>,
    /// The `User-Agent` header. Default `flotilla/` and the version.
    pub user_agent: String,
    /// Sent as `flotilla-hop`: the cluster's id, by which chained caches notice a loop. Set at assembly, not a key of
    /// the file; nothing is sent while it is empty.
    #[serde(skip)]
    pub hop_header_id: String,
}

/// What differs for one upstream host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Where requests for this host go instead of `https://HOST`; may be `http://`, and may have a path that is put
    /// before `/v2/`. The host's name stays the upstream's identity.
    #[serde(deserialize_with = "url")]
    pub base_url: Option<Url>,
    /// PEM file with certificate authorities that are trusted for this upstream, beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Replaces `concurrency` for this host.
    pub concurrency: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    #[error("hosts: '{host}' is not a host name with an optional port")]
    Host { host: String },
    #[error("hosts: '{host}' is named twice, under two spellings")]
    Duplicate { host: String },
    #[error("hosts.{host}.base_url: '{url}' {reason}")]
    BaseUrl { host: String, url: String, reason: &'static str },
    #[error("{key}: must be at least 1")]
    Concurrency { key: String },
    #[error("{key}: must be more than 0 seconds and at most 3600")]
    Timeout { key: &'static str },
    #[error("realm_allow: '{host}' is not a host name with an optional port")]
    Realm { host: String },
    #[error("{key}: not a legal value of an HTTP header")]
    Header { key: &'static str },
    #[error("hosts.{host}.ca_file: cannot read {path}")]
    ReadCa {
        host: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("hosts.{host}.ca_file: {path} holds no PEM certificate that can be used")]
    ParseCa { host: String, path: PathBuf },
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(10),
            queue_timeout: Duration::from_secs(300),
            concurrency: 32,
            realm_allow: Vec::new(),
            user_agent: concat!("flotilla/", env!("CARGO_PKG_VERSION")).to_owned(),
            hop_header_id: String::new(),
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds > 0.0 && seconds <= 3600.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(de::Error::custom("must be more than 0 seconds and at most 3600"))
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text).map(Some).map_err(|error| de::Error::custom(format_args!("'{text}' is not a URL: {error}")))
}

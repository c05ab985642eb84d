use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use flotilla_base::Secret;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use url::Url;

use crate::{
    Resolver,
    destinations::Destinations,
    origin::{Origin, authority},
    proxy::Proxies,
};

/// A longer wait is a mistake in the unit.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

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
    /// Hosts (`host` or `host:port`) that redirects and realms may name although their addresses are private, of this
    /// machine or otherwise not of the public internet.
    pub allow_hosts: Vec<String>,
    /// Networks that redirects and realms may lead into although they are not of the public internet.
    pub allow_networks: Vec<IpNet>,
    /// PEM file with certificate authorities that are trusted for all upstreams, token services, redirects and proxies,
    /// beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// URL of the proxy for https origins, `http://` or `https://`, with a user and password if it wants one. `None`:
    /// none, or at assembly that of the environment; empty: none.
    #[serde(deserialize_with = "secret")]
    pub https_proxy: Option<Secret>,
    /// The same for origins without TLS.
    #[serde(deserialize_with = "secret")]
    pub http_proxy: Option<Secret>,
    /// What is reached without a proxy: names with those below them, `host:port`, addresses, networks, or `*`.
    pub no_proxy: Option<Vec<String>>,
    /// The `User-Agent` header. Default `flotilla/` and the version.
    pub user_agent: String,
    /// Sent as `flotilla-hop`: the cluster's id, by which chained caches notice a loop. Set at assembly, not a key of
    /// the file; nothing is sent while it is empty.
    #[serde(skip)]
    pub hop_header_id: String,
    /// The addresses of this node's own listeners, to which nothing may lead. Set at assembly, as the next one.
    #[serde(skip)]
    pub own_addresses: Vec<SocketAddr>,
    #[serde(skip)]
    pub resolver: Resolver,
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
    /// Where an Amazon ECR registry's passwords come from instead of `https://api.ecr.REGION.amazonaws.com`; makes any
    /// host a registry that takes AWS keys.
    #[serde(deserialize_with = "url")]
    pub ecr_endpoint: Option<Url>,
    /// Replaces `concurrency` for this host.
    pub concurrency: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    #[error("hosts: '{host}' is not a host name with an optional port")]
    Host { host: String },
    #[error("hosts: '{host}' is named twice, under two spellings")]
    Duplicate { host: String },
    #[error("hosts.{host}.{key}: '{url}' {reason}")]
    Url { host: String, key: &'static str, url: String, reason: &'static str },
    #[error("{key}: must be at least 1")]
    Concurrency { key: String },
    #[error("{key}: must be more than 0 seconds and at most 3600")]
    Timeout { key: &'static str },
    #[error("{key}: '{host}' is not a host name with an optional port")]
    Listed { key: &'static str, host: String },
    #[error("{key}: {reason}")]
    Proxy { key: &'static str, reason: &'static str },
    #[error("{key}: not a legal value of an HTTP header")]
    Header { key: &'static str },
    #[error("{key}: cannot read {path}")]
    ReadCa {
        key: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{key}: {path} holds no PEM certificate that can be used")]
    ParseCa { key: String, path: PathBuf },
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
            allow_hosts: Vec::new(),
            allow_networks: Vec::new(),
            ca_file: None,
            https_proxy: None,
            http_proxy: None,
            no_proxy: None,
            user_agent: concat!("flotilla/", env!("CARGO_PKG_VERSION")).to_owned(),
            hop_header_id: String::new(),
            own_addresses: Vec::new(),
            resolver: Resolver::System,
        }
    }
}

impl UpstreamConfig {
    /// What types alone do not say; CA files are not read.
    ///
    /// # Errors
    /// [`UpstreamConfigError`], which names the key.
    pub fn check(&self) -> Result<(), UpstreamConfigError> {
        self.clone().checked().map(drop)
    }

    /// The configuration with canonical hosts, if it makes sense.
    pub(crate) fn checked(mut self) -> Result<Self, UpstreamConfigError> {
        for (key, timeout) in [
            ("connect_timeout_seconds", self.connect_timeout),
            ("head_timeout_seconds", self.head_timeout),
            ("progress_timeout_seconds", self.progress_timeout),
            ("queue_timeout_seconds", self.queue_timeout),
        ] {
            if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
                return Err(UpstreamConfigError::Timeout { key });
            }
        }
        if self.concurrency == 0 {
            return Err(UpstreamConfigError::Concurrency { key: "concurrency".to_owned() });
        }
        if let Some(host) = self.realm_allow.iter().find(|host| authority(host).is_none()) {
            return Err(UpstreamConfigError::Listed { key: "realm_allow", host: host.clone() });
        }
        Destinations::new(&self)?;
        Proxies::new(&self)?;
        let mut hosts = BTreeMap::new();
        for (name, host) in std::mem::take(&mut self.hosts) {
            if authority(&name).is_none() {
                return Err(UpstreamConfigError::Host { host: name });
            }
            host.check(&name)?;
            if hosts.insert(canonical(&name), host).is_some() {
                return Err(UpstreamConfigError::Duplicate { host: name });
            }
        }
        self.hosts = hosts;
        Ok(self)
    }
}

impl HostConfig {
    fn check(&self, name: &str) -> Result<(), UpstreamConfigError> {
        if self.concurrency == Some(0) {
            return Err(UpstreamConfigError::Concurrency { key: format!("hosts.{name}.concurrency") });
        }
        for (key, url) in [("base_url", &self.base_url), ("ecr_endpoint", &self.ecr_endpoint)] {
            if let Some(url) = url {
                check_url(name, key, url)?;
            }
        }
        Ok(())
    }
}

fn check_url(name: &str, key: &'static str, url: &Url) -> Result<(), UpstreamConfigError> {
    let reason = if Origin::of(url).is_none() {
        "must begin with https:// or http:// and name a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "must not hold a credential: that is a rule's business"
    } else if url.query().is_some() || url.fragment().is_some() {
        "must not have a query or a fragment"
    } else {
        return Ok(());
    };
    // Without what must not be printed.
    let mut shown = url.clone();
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.set_query(None);
    Err(UpstreamConfigError::Url { host: name.to_owned(), key, url: shown.to_string(), reason })
}

/// One spelling per upstream: lower case, and one of Docker Hub's several names.
pub(crate) fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase() {
        hub if hub == "docker.io" || hub == "index.docker.io" => "registry-1.docker.io".to_owned(),
        host => host,
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds > 0.0 && seconds <= LONGEST_TIMEOUT.as_secs_f64() {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(de::Error::custom("must be more than 0 seconds and at most 3600"))
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(Secret::from(text)))
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text).map(Some).map_err(|error| de::Error::custom(format_args!("'{text}' is not a URL: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<UpstreamConfig, String> {
        let config: UpstreamConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.checked().map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_is_read_and_its_hosts_are_canonical() {
        let config = read(
            r#"
            connect_timeout_seconds = 2
            progress_timeout_seconds = 0.5
            realm_allow = ["auth.example:8443"]
            hosts."Docker.io" = { base_url = "http://127.0.0.1:15000", concurrency = 4 }
            hosts."registry.example:5000" = { ca_file = "/etc/ca.pem" }
            "#,
        )
        .unwrap();
        assert_eq!(
            (config.connect_timeout, config.progress_timeout),
            (Duration::from_secs(2), Duration::from_millis(500))
        );
        assert_eq!((config.head_timeout, config.concurrency), (Duration::from_secs(10), 32));
        assert_eq!(config.hosts["registry-1.docker.io"].concurrency, Some(4));
        assert!(config.hosts.contains_key("registry.example:5000"));
    }

    #[test]
    fn a_bad_configuration_is_refused_by_the_name_of_its_key() {
        for (text, key) in [
            ("concurency = 1", "concurency"),
            ("hop_header_id = 'x'", "hop_header_id"),
            ("concurrency = 0", "concurrency"),
            ("connect_timeout_seconds = 0", "more than 0"),
            ("head_timeout_seconds = 3601", "at most 3600"),
            ("head_timeout_seconds = nan", "at most 3600"),
            ("realm_allow = ['https://x/']", "realm_allow"),
            ("own_addresses = []", "own_addresses"),
            ("allow_networks = ['10.0.0.0/33']", "allow_networks"),
            ("allow_hosts = ['https://x/']", "allow_hosts"),
            ("no_proxy = ['a b']", "no_proxy"),
            ("https_proxy = 'socks5://x:1080'", "https_proxy"),
            ("hosts.'a b' = {}", "a b"),
            ("hosts.'a/b' = {}", "a/b"),
            ("hosts.'user@a' = {}", "user@a"),
            ("hosts.a = { base_url = 'ftp://x' }", "hosts.a.base_url"),
            ("hosts.a = { base_url = 'x' }", "'x'"),
            ("hosts.a = { base_url = 'https://x/?y' }", "hosts.a.base_url"),
            ("hosts.a = { concurrency = 0 }", "hosts.a.concurrency"),
            ("hosts.a = { port = 1 }", "port"),
            ("hosts.'docker.io' = {}\nhosts.'index.docker.io' = {}", "docker.io"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
        let error = read("hosts.a = { base_url = 'https://user:hunter2@x/' }").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

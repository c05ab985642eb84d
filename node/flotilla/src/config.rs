//! `flotilla.toml`. Each crate owns its table; this one owns the file. Unknown keys are errors.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use flotilla_api::{AdminConfig, DoorsConfig, HttpConfig, MirrorConfig};
use flotilla_base::ByteLen;
use flotilla_consensus::ConsensusConfig;
use flotilla_registry::upstream;
use flotilla_service::{AccessConfig, LimitsConfig, PullConfig, RulesConfig};
use flotilla_upstream::UpstreamConfig;
use serde::{Deserialize, Deserializer, de};

use crate::{reload::Keys, toml_error};

/// What `flotilla config default` prints. A test holds it against the defaults in code.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Longest configuration file that is read.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: NodeConfig,
    #[serde(default)]
    pub cluster: ClusterConfig,
    #[serde(default)]
    pub http: HttpConfig,
    #[serde(default)]
    pub mirror: MirrorConfig,
    #[serde(default)]
    pub admin: AdminConfig,
    #[serde(default)]
    pub storage: StorageConfig,
    #[serde(default)]
    pub raft: ConsensusConfig,
    #[serde(default)]
    pub upstream: UpstreamConfig,
    #[serde(default)]
    pub rules: RulesConfig,
    #[serde(default)]
    pub pull: PullConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub access: AccessConfig,
    #[serde(default)]
    pub log: LogConfig,
}

/// `[node]`: who this node is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Folder for all that this node keeps.
    pub data_dir: PathBuf,
    /// How people call the node. Default `n1`.
    #[serde(default = "default_name")]
    pub name: String,
    /// Default `us-east-1`.
    #[serde(default = "default_region")]
    pub region: String,
    /// What fails together: a rack, a data centre. Default `a`.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Lets the system write the process's memory, with every secret in it, to a file when it crashes. Default `false`.
    #[serde(default)]
    pub core_dumps: bool,
}

/// `[cluster]`: read once, when the cluster is founded; afterwards the cluster's own state counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// 12 digits; appears in ARNs.
    pub account_id: String,
}

/// `[storage]`: what blobs may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Most bytes of blobs. Absent: 80 % of what is free when the node first starts, kept from then on.
    #[serde(deserialize_with = "optional_size")]
    pub max_bytes: Option<ByteLen>,
    /// Free space of the file system that fills leave to metadata. Absent: the larger of 5 % and 4 GiB.
    #[serde(deserialize_with = "optional_size")]
    pub reserve: Option<ByteLen>,
    /// Seconds for which a verified piece of a blob is trusted without being hashed again.
    pub verify_interval_seconds: u64,
    /// Pulls of a blob within this many seconds count as one. A blob that is pulled again after them is not displaced by
    /// blobs that are pulled once.
    pub reuse_after_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives as `info,flotilla_upstream=debug`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Parse { path: PathBuf, reason: String },
    #[error("{key}: {reason}")]
    Value { key: &'static str, reason: String },
}

fn default_name() -> String {
    "n1".to_owned()
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_zone() -> String {
    "a".to_owned()
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { account_id: "000000000000".to_owned() }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { max_bytes: None, reserve: None, verify_interval_seconds: 24 * 3600, reuse_after_seconds: 60 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl StorageConfig {
    pub fn verify_interval(&self) -> Duration {
        Duration::from_secs(self.verify_interval_seconds)
    }

    pub fn reuse_after(&self) -> Duration {
        Duration::from_secs(self.reuse_after_seconds)
    }
}

impl Config {
    /// What `flotilla dev` starts from.
    pub fn for_folder(data_dir: PathBuf) -> Self {
        Self {
            node: NodeConfig {
                data_dir,
                name: default_name(),
                region: default_region(),
                zone: default_zone(),
                core_dumps: false,
            },
            cluster: ClusterConfig::default(),
            http: HttpConfig::default(),
            mirror: MirrorConfig::default(),
            admin: AdminConfig::default(),
            storage: StorageConfig::default(),
            raft: ConsensusConfig::default(),
            upstream: UpstreamConfig::default(),
            rules: RulesConfig::default(),
            pull: PullConfig::default(),
            limits: LimitsConfig::default(),
            access: AccessConfig::default(),
            log: LogConfig::default(),
        }
    }

    /// # Errors
    /// [`ConfigError`] with the file, the key and the reason; no port is bound and no folder touched.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with_keys(path).map(|(config, _)| config)
    }

    /// As [`Config::read`], with what tells the file from a later one.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_with_keys(path: &Path) -> Result<(Self, Keys), ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let len_bytes = std::fs::metadata(path).map_err(read)?.len();
        if len_bytes > FILE_LIMIT_BYTES {
            return Err(ConfigError::Parse { path: path.to_owned(), reason: "longer than 1 MiB".to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let parse = |reason: String| ConfigError::Parse { path: path.to_owned(), reason };
        let unreadable = |error| parse(toml_error::explain(&text, &error));
        let config: Self = toml::from_str(&text).map_err(unreadable)?;
        config.check().map_err(|error| parse(error.to_string()))?;
        let keys = Keys::of(&text).map_err(unreadable)?;
        Ok((config, keys))
    }

    pub fn doors(&self) -> DoorsConfig {
        DoorsConfig { http: self.http.clone(), mirror: self.mirror.clone(), admin: self.admin.clone() }
    }

    /// What types alone do not say.
    fn check(&self) -> Result<(), ConfigError> {
        let value = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        if let Err(error) = self.upstream.check() {
            return value("upstream", &error.to_string());
        }
        let account = &self.cluster.account_id;
        if account.len() != 12 || !account.bytes().all(|c| c.is_ascii_digit()) {
            return value("cluster.account_id", "must be 12 digits");
        }
        for (key, text) in
            [("node.name", &self.node.name), ("node.region", &self.node.region), ("node.zone", &self.node.zone)]
        {
            let fits = (1..=64).contains(&text.len())
                && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
            if !fits {
                return value(key, "must be 1 to 64 letters, digits, '-', '.' or '_'");
            }
        }
        for entry in &self.rules.allowed_upstreams {
            if upstream::parse_url(entry).is_err() {
                return value("rules.allowed_upstreams", &format!("'{entry}' is not a registry host"));
            }
        }
        if upstream::parse_host(&self.mirror.upstream).is_none() {
            return value("mirror.upstream", "is not a registry host");
        }
        if self.storage.verify_interval_seconds == 0 {
            return value("storage.verify_interval_seconds", "must be at least 1");
        }
        crate::telemetry::check(&self.log).map_err(|reason| ConfigError::Value { key: "log.level", reason })
    }
}

fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteLen>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(Some(ByteLen(bytes))),
        Size::Text(text) => text.parse().map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flotilla.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_printed_file_holds_the_defaults_and_every_key() {
        let printed = parsed(DEFAULT_FILE).unwrap();
        let default = Config::for_folder(printed.node.data_dir.clone());
        assert_eq!(format!("{printed:?}"), format!("{default:?}"));

        // With the comment signs of optional keys removed it must parse too: those keys exist.
        let all: String = DEFAULT_FILE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        parsed(&all).unwrap();
    }

    #[test]
    fn the_document_shows_the_printed_file() {
        assert!(include_str!("../../../docs/configuration.md").contains(DEFAULT_FILE));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let node = "[node]\ndata_dir = \"/x\"\n";
        for (text, named) in [
            ("", "node"),
            ("[node]\ndata_dir = \"/x\"\nnom = 1\n", "nom"),
            (&format!("{node}[cluster]\naccount_id = \"12\"\n"), "cluster.account_id"),
            (&format!("{node}[storage]\nmax_bytes = \"much\"\n"), "much"),
            (&format!("{node}[log]\nlevel = \"loud,,=\"\n"), "log.level"),
            (&format!("{node}[rules]\nallowed_upstreams = [\"a b\"]\n"), "a b"),
            (&format!("{node}[mirror]\nupstream = \"a b\"\n"), "mirror.upstream"),
            (&format!("{node}[upstream]\nhttp_proxy = \"ftp://x\"\n"), "http_proxy"),
            (&format!("{node}[upstream]\nrealm_allow = [\"https://x/\"]\n"), "realm_allow"),
            (&format!("{node}[nonsense]\n"), "nonsense"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(named) && error.contains("flotilla.toml"), "{text}: {error}");
        }
    }
}

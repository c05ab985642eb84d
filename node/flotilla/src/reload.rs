//! SIGHUP: the configuration file is read again, and what can change in a running node changes. A file that cannot be
//! used changes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use flotilla_api::{BindError, Server};
use flotilla_runtime::Host;
use toml::{Table, Value};

use crate::{
    Config, ConfigError,
    config::DEFAULT_FILE,
    telemetry::{LogLevel, UnusableLevel},
};

/// What a running node takes over. The rest needs a restart.
pub const LIVE_KEYS: [&str; 12] = [
    "http.allowed_hosts",
    "http.header_read_timeout_seconds",
    "http.idle_timeout_seconds",
    "http.max_connections_per_client",
    "http.max_uri_bytes",
    "http.public_url",
    "http.tls.cert_file",
    "http.tls.key_file",
    "http.trusted_proxies",
    "http.write_stall_timeout_seconds",
    "log.level",
    "mirror.hosts",
];

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("[http]")]
    Http(#[from] BindError),
    #[error("log.level")]
    Level(#[from] UnusableLevel),
}

/// Every key with the value that counts, by its whole name.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// Of a file that [`Config`] has accepted.
    pub fn of(text: &str) -> Result<Self, toml::de::Error> {
        let mut keys = BTreeMap::new();
        for text in [DEFAULT_FILE, text] {
            flatten(&mut keys, "", text.parse()?);
        }
        Ok(Self(keys))
    }

    /// The names of the keys that differ, in order.
    fn changed(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

fn flatten(keys: &mut BTreeMap<String, Value>, above: &str, table: Table) {
    for (name, value) in table {
        let name = if above.is_empty() { name } else { format!("{above}.{name}") };
        match value {
            Value::Table(table) => flatten(keys, &name, table),
            value => {
                keys.insert(name, value);
            }
        }
    }
}

/// A file, and what of it the node runs with.
pub struct Reloader {
    path: PathBuf,
    running: Keys,
}

/// What came of reading the file again.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    applied: Vec<String>,
    needs_restart: Vec<String>,
}

impl Reloader {
    pub fn new(path: &Path, running: Keys) -> Self {
        Self { path: path.to_owned(), running }
    }

    /// Reads the file and applies it, or says why not.
    pub async fn reload(&mut self, host: &Host, server: &Server, level: &LogLevel) {
        match self.apply(host, server, level).await {
            Ok(Outcome { applied, needs_restart }) => {
                tracing::info!(applied = ?applied, "configuration was read again");
                if !needs_restart.is_empty() {
                    tracing::warn!(keys = ?needs_restart, "needs a restart: the node goes on with the former values");
                }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let causes: Vec<String> =
                    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
                tracing::warn!(error = causes.join(": "), "configuration cannot be used: nothing was changed");
            }
        }
    }

    async fn apply(&mut self, host: &Host, server: &Server, level: &LogLevel) -> Result<Outcome, ReloadError> {
        let path = self.path.clone();
        let (config, keys) = host.blocking.run(move || Config::read_with_keys(&path)).await?;
        server.reload(&config.doors()).await?;
        level.set(&config.log.level)?;
        Ok(self.take_over(keys))
    }

    fn take_over(&mut self, new: Keys) -> Outcome {
        let (applied, needs_restart) =
            self.running.changed(&new).into_iter().partition(|key| LIVE_KEYS.contains(&key.as_str()));
        let Keys(mut new) = new;
        for name in &applied {
            let name: &String = name;
            match new.remove(name) {
                Some(value) => self.running.0.insert(name.clone(), value),
                None => self.running.0.remove(name),
            };
        }
        Outcome { applied, needs_restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "[node]\ndata_dir = \"/x\"\n";

    fn keys(more: &str) -> Keys {
        Keys::of(&format!("{NODE}{more}")).unwrap()
    }

    #[test]
    fn every_live_key_is_one_and_is_documented() {
        let all: String = DEFAULT_FILE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let all = Keys::of(&all).unwrap();
        let document = include_str!("../../../docs/configuration.md");
        for key in LIVE_KEYS {
            assert!(all.0.contains_key(key), "{key}");
            assert!(document.contains(&format!("`{key}`")), "{key} is not in the document");
        }
    }

    #[test]
    fn what_changed_is_applied_or_told_until_it_is_as_it_runs() {
        let mut reloader = Reloader::new(Path::new("/x"), keys("[http]\nallowed_hosts = [\"a\"]\n"));
        let outcome = |applied: &[&str], needs_restart: &[&str]| Outcome {
            applied: applied.iter().map(|&key| key.to_owned()).collect(),
            needs_restart: needs_restart.iter().map(|&key| key.to_owned()).collect(),
        };
        let both = "[http]\nallowed_hosts = [\"b\"]\nmax_headers = 7\ntls = { cert_file = \"c\", key_file = \"k\" }\n";
        let live = ["http.allowed_hosts", "http.tls.cert_file", "http.tls.key_file"];
        assert_eq!(reloader.take_over(keys(both)), outcome(&live, &["http.max_headers"]));
        assert_eq!(
            reloader.take_over(keys(both)),
            outcome(&[], &["http.max_headers"]),
            "it still runs with the former"
        );
        // A default that is written down is no change.
        let back = "[http]\nmax_headers = 100\n[log]\nlevel = \"debug\"\n[upstream.hosts.\"r:5\"]\nconcurrency = 3\n";
        let live = ["http.allowed_hosts", "http.tls.cert_file", "http.tls.key_file", "log.level"];
        assert_eq!(reloader.take_over(keys(back)), outcome(&live, &["upstream.hosts.r:5.concurrency"]));
    }
}

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flotilla_registry::Prefix;

/// `[access]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    pub anonymous: Anonymous,
}

/// What callers without credentials may do. Closed by default, and off loopback even where it is open.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anonymous {
    /// They may pull what is here and what cache rules cover, and so cause imports.
    pub pull: bool,
    /// Where they may come from. From anywhere else it is as if `pull` were false.
    pub networks: Vec<IpNet>,
    /// Prefixes of the rules that they may pull through; what none of these covers is closed to them. Absent: all.
    #[serde(deserialize_with = "prefixes")]
    pub rules: Option<Vec<Prefix>>,
    /// Whether a pull of theirs may make a repository. False: only what somebody else has pulled before, by whatever tag.
    pub create_repositories: bool,
    /// Requests to upstreams that they may cause in a minute, each source network for itself; `None`: the limit of
    /// everybody else.
    pub misses_per_minute: Option<u32>,
}

impl Default for Anonymous {
    fn default() -> Self {
        Self { pull: false, networks: loopback(), rules: None, create_repositories: true, misses_per_minute: None }
    }
}

impl Anonymous {
    /// Whether a caller at this address may go without credentials; nobody may whose address is not known.
    pub(crate) fn serves(&self, source: Option<IpAddr>) -> bool {
        // As the networks are written: an IPv4 client of a dual-stack socket is an IPv4 client.
        let source = source.map(|address| address.to_canonical());
        self.pull && source.is_some_and(|address| self.networks.iter().any(|network| network.contains(&address)))
    }
}

fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).map(IpNet::V4);
    let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).map(IpNet::V6);
    v4.into_iter().chain(v6).collect()
}

fn prefixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Prefix>>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?;
    texts.map(|texts| texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_go_without_credentials() {
        let on = Anonymous { pull: true, ..Anonymous::default() };
        let lan = Anonymous { networks: vec!["10.0.0.0/8".parse().unwrap()], ..on.clone() };
        for (config, source, served) in [
            (&on, "127.0.0.1", true),
            (&on, "127.9.9.9", true),
            (&on, "::1", true),
            (&on, "::ffff:127.0.0.1", true),
            (&on, "10.1.2.3", false),
            (&on, "::2", false),
            (&lan, "10.1.2.3", true),
            (&lan, "::ffff:10.1.2.3", true),
            (&lan, "127.0.0.1", false),
            (&Anonymous::default(), "127.0.0.1", false),
        ] {
            assert_eq!(config.serves(Some(source.parse().unwrap())), served, "{source}");
        }
        assert!(!on.serves(None));
    }
}

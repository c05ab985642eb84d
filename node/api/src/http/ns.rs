//! `?ns=`: the registry that a client believes it speaks to, as containerd tells its mirrors.

use std::net::SocketAddr;

use flotilla_registry::upstream;
use http::{Uri, uri::Authority};

use super::origin::HostPolicy;

/// Longer than a host with its port can be.
const MAX_LEN: usize = 261;

/// A key to look up, whoever sent it; nobody is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ns {
    Absent,
    /// A name that we go by ourselves.
    Own(String),
    /// Another registry, by its canonical host.
    Of(String),
    /// Given twice, or no host.
    Unreadable,
}

impl Ns {
    /// `host` is what the request calls us.
    pub(super) fn read(uri: &Uri, hosts: &HostPolicy, host: &Authority, local: SocketAddr) -> Self {
        let Some(query) = uri.query() else { return Self::Absent };
        let mut given = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "ns");
        let Some((_, text)) = given.next() else { return Self::Absent };
        if given.next().is_some() || text.len() > MAX_LEN {
            return Self::Unreadable;
        }
        let Some(named) = upstream::parse_host(&text) else { return Self::Unreadable };
        let is_ours = named.parse().is_ok_and(|authority| hosts.goes_by(&authority, host, local));
        if is_ours { Self::Own(named) } else { Self::Of(named) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HttpConfig, MirrorConfig};

    fn read(query: &str) -> Ns {
        let http = HttpConfig {
            public_url: Some("https://registry.example".into()),
            allowed_hosts: vec!["node1".into(), "node2:5000".into()],
            ..HttpConfig::default()
        };
        let mirror = MirrorConfig { hosts: vec!["mirror.example".into()], ..MirrorConfig::default() };
        let hosts = HostPolicy::new(&http, &mirror).unwrap();
        let uri = format!("http://x/v2/a/manifests/latest?{query}").parse().unwrap();
        Ns::read(&uri, &hosts, &"10.0.0.7:5000".parse().unwrap(), "10.0.0.7:5000".parse().unwrap())
    }

    #[test]
    fn other_registries_are_named_by_their_canonical_host() {
        for (query, host) in [
            ("ns=docker.io", "registry-1.docker.io"),
            ("ns=Index.Docker.IO", "registry-1.docker.io"),
            ("n=1&ns=quay.io&last=x", "quay.io"),
            ("ns=registry.example%3A5001&x", "registry.example:5001"),
            ("ns=%71uay.io", "quay.io"),
            ("ns=[%3A%3A2]:5000", "[::2]:5000"),
            ("ns=localhost:5001", "localhost:5001"),
            ("ns=node2:5001", "node2:5001"),
            ("ns=10.0.0.8:5000", "10.0.0.8:5000"),
            ("ns=mirror.example", "mirror.example"),
        ] {
            let wanted = if host == "registry.example:5001" { Ns::Own(host.into()) } else { Ns::Of(host.into()) };
            assert_eq!(read(query), wanted, "{query}");
        }
    }

    #[test]
    fn our_own_names_are_no_other_registry() {
        for host in [
            "registry.example",
            "REGISTRY.example",
            "node1",
            "node1:99",
            "node2:5000",
            "10.0.0.7:5000",
            "localhost:5000",
        ] {
            assert_eq!(read(&format!("ns={host}")), Ns::Own(host.to_ascii_lowercase()), "{host}");
        }
        assert_eq!(read("ns=127.0.0.1:5000"), Ns::Own("127.0.0.1:5000".into()));
        assert_eq!(read("ns=127.0.0.1:5001"), Ns::Of("127.0.0.1:5001".into()));
    }

    #[test]
    fn what_is_no_single_host_is_not_guessed_at() {
        for query in ["", "n=1", "NS=quay.io"] {
            assert_eq!(read(query), Ns::Absent, "{query}");
        }
        for query in [
            "ns=".to_owned(),
            "ns".to_owned(),
            "ns=quay.io&ns=quay.io".to_owned(),
            "ns=http%3A%2F%2Fquay.io".to_owned(),
            "ns=quay.io/x".to_owned(),
            "ns=user@quay.io".to_owned(),
            "ns=quay.io:".to_owned(),
            "ns=quay.io%00".to_owned(),
            "ns=quay.io%0d%0a".to_owned(),
            "ns=a+b".to_owned(),
            format!("ns={}", "a.".repeat(200)),
        ] {
            assert_eq!(read(&query), Ns::Unreadable, "{query}");
        }
    }
}

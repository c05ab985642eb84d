//! How a client names this node, and whether a name may be believed: Host comes from the client, and realms, endpoints
//! and links that replies carry are made from it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use flotilla_registry::upstream;
use http::{HeaderMap, Uri, header, uri::Authority};
use url::Url;

use super::{Entrance, HttpConfig, MirrorConfig};

/// Scheme and authority of this node, as a client reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub scheme: &'static str,
    /// Host, with its port where one is written.
    pub authority: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// A name in the configuration that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHost {
    #[error("public_url '{0}' is not http:// or https:// with a host and nothing behind it")]
    PublicUrl(String),
    #[error("'{0}' in mirror.hosts is not a host with an optional port")]
    Mirror(String),
    #[error("mirror.upstream '{0}' is not a host with an optional port")]
    MirrorUpstream(String),
    #[error("'{0}' in allowed_hosts is not a host with an optional port")]
    Allowed(String),
}

/// Why a request's Host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostRefused {
    /// Missing, given twice, or no host: 400.
    Malformed,
    /// On a loopback listener a name that we do not go by: 421. A web page whose name was made to point at 127.0.0.1
    /// must not reach a registry that believes it is alone with its machine.
    Foreign,
}

#[derive(Clone, Debug)]
pub(crate) struct HostPolicy {
    public: Option<Origin>,
    allowed: Vec<Authority>,
    /// Those that mean the mirror.
    mirror: Vec<Authority>,
}

impl HostPolicy {
    pub(crate) fn new(config: &HttpConfig, mirror: &MirrorConfig) -> Result<Self, InvalidHost> {
        if upstream::parse_host(&mirror.upstream).is_none() {
            return Err(InvalidHost::MirrorUpstream(mirror.upstream.clone()));
        }
        let public = config.public_url.as_deref().map(public_origin).transpose()?;
        let mut allowed = authorities(&config.allowed_hosts, InvalidHost::Allowed)?;
        allowed.extend(public.as_ref().and_then(|public| parse_authority(&public.authority)));
        Ok(Self { public, allowed, mirror: authorities(&mirror.hosts, InvalidHost::Mirror)? })
    }

    /// What the client calls us.
    pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, HostRefused> {
        let mut named = headers.get_all(header::HOST).iter();
        let first = named.next();
        if named.next().is_some() {
            return Err(HostRefused::Malformed);
        }
        // The target's own authority wins (RFC 9112, 3.2.2); h2 has only that one.
        if let Some(authority) = uri.authority() {
            return parse_authority(authority.as_str()).ok_or(HostRefused::Malformed);
        }
        first.and_then(|host| host.to_str().ok()).and_then(parse_authority).ok_or(HostRefused::Malformed)
    }

    pub(crate) fn admit(&self, host: &Authority, local: SocketAddr) -> Result<(), HostRefused> {
        if local.ip().to_canonical().is_loopback() && !self.is_ours(host) {
            return Err(HostRefused::Foreign);
        }
        Ok(())
    }

    /// Where a request to `host` goes that came to a listener of `listener`'s kind.
    pub(crate) fn entrance(&self, host: &Authority, listener: Entrance) -> Entrance {
        match listener {
            Entrance::Registry if lists(&self.mirror, host) => Entrance::Mirror,
            other => other,
        }
    }

    pub(crate) fn has_mirror(&self) -> bool {
        !self.mirror.is_empty()
    }

    /// What replies name as this node. `public_url` is the registry's: a mirror's clients stay where they are.
    pub(crate) fn origin(&self, host: Option<&Authority>, local: SocketAddr, tls: bool, entrance: Entrance) -> Origin {
        if let Some(public) = self.public.as_ref().filter(|_| entrance == Entrance::Registry) {
            return public.clone();
        }
        let scheme = if tls { "https" } else { "http" };
        let is_here = |host: &&Authority| match address(host) {
            // An address in Host is what the client wrote, not where it came to.
            Some(ip) => same_place(ip, local.ip()) || self.is_listed(host),
            None => self.is_ours(host),
        };
        let authority = match host.filter(is_here) {
            Some(host) => host.to_string(),
            None => local.to_string(),
        };
        Origin { scheme, authority }
    }

    /// Whether `name`, which a client uses for a registry, is one of ours: configured, what this very request calls us, or
    /// a loopback name with our port.
    pub(super) fn goes_by(&self, name: &Authority, host: &Authority, local: SocketAddr) -> bool {
        let is_host = bare_name(name).eq_ignore_ascii_case(bare_name(host)) && name.port_u16() == host.port_u16();
        let is_loopback = bare_name(name).eq_ignore_ascii_case("localhost")
            || address(name).is_some_and(|ip| ip.to_canonical().is_loopback());
        lists(&self.allowed, name) || is_host || (is_loopback && name.port_u16() == Some(local.port()))
    }

    /// A loopback name, an address (a page cannot be served under one that is not its server's), or a listed name.
    fn is_ours(&self, host: &Authority) -> bool {
        let name = bare_name(host);
        let below_localhost = name.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case("localhost"));
        address(host).is_some() || name.eq_ignore_ascii_case("localhost") || below_localhost || self.is_listed(host)
    }

    fn is_listed(&self, host: &Authority) -> bool {
        lists(&self.allowed, host) || lists(&self.mirror, host)
    }
}

fn authorities(names: &[String], invalid: fn(String) -> InvalidHost) -> Result<Vec<Authority>, InvalidHost> {
    names.iter().map(|name| parse_authority(name).ok_or_else(|| invalid(name.clone()))).collect()
}

fn lists(listed: &[Authority], host: &Authority) -> bool {
    listed.iter().any(|listed| {
        bare_name(host).eq_ignore_ascii_case(listed.host())
            && listed.port_u16().is_none_or(|port| host.port_u16() == Some(port))
    })
}

fn bare_name(host: &Authority) -> &str {
    host.host().strip_suffix('.').unwrap_or(host.host())
}

fn address(host: &Authority) -> Option<IpAddr> {
    let name = bare_name(host);
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name).parse().ok()
}

fn same_place(written: IpAddr, local: IpAddr) -> bool {
    let (written, local) = (written.to_canonical(), local.to_canonical());
    written == local || (written.is_loopback() && local.is_loopback())
}

fn public_origin(text: &str) -> Result<Origin, InvalidHost> {
    let invalid = || InvalidHost::PublicUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| invalid())?;
    let scheme = match url.scheme() {
        "http" => "http",
        "https" => "https",
        _ => return Err(invalid()),
    };
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !bare || url.path() != "/" {
        return Err(invalid());
    }
    let host = url.host_str().ok_or_else(invalid)?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(Origin { scheme, authority })
}

fn parse_authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    // `user@host` and `host:` parse too.
    let whole = authority.port_u16().map_or_else(
        || authority.host().len() == text.len(),
        |port| text.strip_prefix(authority.host()).is_some_and(|rest| rest == format!(":{port}")),
    );
    (whole && !authority.host().is_empty()).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:5000";

    fn built(public_url: Option<&str>, allowed: &[&str]) -> Result<HostPolicy, InvalidHost> {
        let allowed_hosts = allowed.iter().map(|&host| host.to_owned()).collect();
        let http = HttpConfig { public_url: public_url.map(str::to_owned), allowed_hosts, ..HttpConfig::default() };
        HostPolicy::new(&http, &MirrorConfig { hosts: vec!["mirror.example".into()], ..MirrorConfig::default() })
    }

    fn policy(public_url: Option<&str>, allowed: &[&str]) -> HostPolicy {
        built(public_url, allowed).unwrap()
    }

    #[test]
    fn on_loopback_only_our_names_are_admitted() {
        let policy = policy(Some("https://registry.example"), &["node1", "node2:5000"]);
        for (host, admitted) in [
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("localhost", true),
            ("LOCALHOST:5000", true),
            ("localhost.", true),
            ("x.localhost:1", true),
            ("10.1.2.3", true),
            ("node1:99", true),
            ("node2:5000", true),
            ("registry.example", true),
            ("node2:5001", false),
            ("node2", false),
            ("evil.example:5000", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let authority = parse_authority(host).unwrap();
            let admit = policy.admit(&authority, LOOPBACK.parse().unwrap());
            assert_eq!(admit.is_ok(), admitted, "{host}");
            for local in ["[::1]:5000", "[::ffff:127.0.0.1]:5000", "127.9.9.9:5000"] {
                assert_eq!(policy.admit(&authority, local.parse().unwrap()).is_ok(), admitted, "{host} at {local}");
            }
            assert_eq!(policy.admit(&authority, "10.0.0.1:5000".parse().unwrap()), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_foreign_host_is_never_echoed() {
        let local = "10.0.0.1:5000".parse().unwrap();
        let origin = |policy: &HostPolicy, host: &str| origin_of(policy, host, local, Entrance::Registry).to_string();
        let plain = policy(None, &["node1"]);
        assert_eq!(origin(&plain, "node1:5000"), "http://node1:5000");
        assert_eq!(origin(&plain, "evil.example"), "http://10.0.0.1:5000");
        assert_eq!(origin(&plain, "10.0.0.1:80"), "http://10.0.0.1:80");
        for elsewhere in ["203.0.113.9:5000", "127.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert_eq!(origin(&plain, elsewhere), "http://10.0.0.1:5000", "{elsewhere}");
        }
        assert_eq!(origin(&policy(None, &["192.0.2.1"]), "192.0.2.1:5000"), "http://192.0.2.1:5000");
        let loopback = origin_of(&plain, "127.0.0.2", LOOPBACK.parse().unwrap(), Entrance::Registry);
        assert_eq!(loopback.to_string(), "http://127.0.0.2");
        assert_eq!(
            plain.origin(None, "[::1]:5000".parse().unwrap(), true, Entrance::Registry).to_string(),
            "https://[::1]:5000"
        );
        assert_eq!(origin(&policy(Some("https://r.example:8443/"), &[]), "node1"), "https://r.example:8443");
    }

    fn origin_of(policy: &HostPolicy, host: &str, local: SocketAddr, entrance: Entrance) -> Origin {
        policy.origin(parse_authority(host).as_ref(), local, false, entrance)
    }

    #[test]
    fn a_mirror_is_known_by_listener_or_host_and_keeps_its_clients() {
        let policy = policy(Some("https://registry.example"), &[]);
        let local = "10.0.0.1:5000".parse().unwrap();
        for (host, listener, entrance, origin) in [
            ("mirror.example", Entrance::Registry, Entrance::Mirror, "http://mirror.example"),
            ("MIRROR.example.:5000", Entrance::Registry, Entrance::Mirror, "http://MIRROR.example.:5000"),
            ("registry.example", Entrance::Registry, Entrance::Registry, "https://registry.example"),
            ("10.0.0.1:5000", Entrance::Mirror, Entrance::Mirror, "http://10.0.0.1:5000"),
            ("mirror.example", Entrance::Admin, Entrance::Admin, "http://mirror.example"),
        ] {
            let found = policy.entrance(&parse_authority(host).unwrap(), listener);
            assert_eq!(found, entrance, "{host}");
            assert_eq!(origin_of(&policy, host, local, found).to_string(), origin);
        }
        assert!(policy.admit(&parse_authority("mirror.example").unwrap(), LOOPBACK.parse().unwrap()).is_ok());
    }

    #[test]
    fn host_is_needed_once_and_whole() {
        let host = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::HOST, value.parse().unwrap());
            }
            HostPolicy::host(&Uri::from_static("/v2/"), &headers)
        };
        assert!(host(&["localhost:5000"]).is_ok());
        for bad in [&[][..], &["a", "b"], &["user@localhost"], &["a/b"], &[""], &["localhost:"], &["a:99999"]] {
            assert_eq!(host(bad), Err(HostRefused::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn names_in_the_configuration_are_checked() {
        for bad in ["registry", "ftp://a", "https://a/b", "https://u@a", "https://a?x", "https://"] {
            assert!(built(Some(bad), &[]).is_err(), "{bad}");
        }
        assert!(built(None, &["a/b"]).is_err());
    }
}

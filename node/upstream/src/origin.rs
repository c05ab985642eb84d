use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use url::Url;

/// Scheme, host and port: what a connection goes to and a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// In lower case; an IPv6 address without its brackets.
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl Origin {
    /// `None` for anything but http and https.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = match url.host()? {
            url::Host::Domain(name) => name.into(),
            url::Host::Ipv4(address) => address.to_string().into(),
            url::Host::Ipv6(address) => address.to_string().into(),
        };
        Some(Self { https, host, port: url.port_or_known_default()? })
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn has_own_port(&self) -> bool {
        self.port != if self.https { 443 } else { 80 }
    }

    /// `host` or `host:port`, as the operator wrote it: without a port it means the scheme's own.
    pub(crate) fn is_at(&self, authority: &str) -> bool {
        self.authority().eq_ignore_ascii_case(authority)
    }

    /// The value of a `Host` header.
    pub(crate) fn authority(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.has_own_port() { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

/// Who named the host that is about to be dialled, which decides where it may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    ByOperator,
    /// In a redirect or a realm. `from_loopback`: the one who said so is itself on this machine, as in tests and
    /// development.
    ByUpstream {
        from_loopback: bool,
    },
}

/// Whether a connection may go to `address`: hosts that an upstream names must not lead into this machine, its link, or
/// the metadata service of its cloud.
pub(crate) fn permits(named: Named, address: IpAddr) -> bool {
    let Named::ByUpstream { from_loopback } = named else { return true };
    match address.to_canonical() {
        address if address.is_loopback() => from_loopback,
        // Linux takes 0.0.0.0 and :: for loopback.
        address if address.is_unspecified() || address.is_multicast() => false,
        IpAddr::V4(address) => !address.is_link_local() && !address.is_broadcast() && !METADATA_V4.contains(&address),
        IpAddr::V6(address) => !address.is_unicast_link_local() && address != METADATA_V6,
    }
}

/// Metadata services that are not on a link-local address: Alibaba, Azure.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// AWS.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        Origin::of(&Url::parse(url).unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://A.example/x?y"), origin("https://a.example:443/"));
        assert_ne!(origin("https://a.example/"), origin("http://a.example/"));
        assert_ne!(origin("https://a.example/"), origin("https://a.example:444/"));
        assert_eq!(origin("http://[::1]:5000/").unwrap().to_string(), "[::1]:5000");
        assert_eq!(origin("http://[::1]:5000/").unwrap().address(), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(origin("ftp://a.example/"), None);
    }

    #[test]
    fn what_an_upstream_names_does_not_lead_inside() {
        let foreign = Named::ByUpstream { from_loopback: false };
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "169.254.1.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
        ] {
            let address = inside.parse().unwrap();
            assert!(!permits(foreign, address), "{inside}");
            assert!(permits(Named::ByOperator, address), "{inside}");
        }
        for outside in ["1.1.1.1", "10.0.0.1", "2606:4700::1"] {
            assert!(permits(foreign, outside.parse().unwrap()), "{outside}");
        }
        let local = Named::ByUpstream { from_loopback: true };
        assert!(permits(local, "127.0.0.1".parse().unwrap()));
        assert!(!permits(local, "169.254.169.254".parse().unwrap()));
    }
}

use std::{fmt, net::IpAddr, sync::Arc};

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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

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
}

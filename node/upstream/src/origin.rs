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
        Listed::parse(authority).is_some_and(|listed| listed.is(self))
    }

    /// `host:port`, also where the port is the scheme's own: what a proxy is asked to connect to.
    pub(crate) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The value of a `Host` header.
    pub(crate) fn authority(&self) -> String {
        self.to_string()
    }
}

/// `host` or `host:port` in a list of the operator's: without a port it means the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    host: Box<str>,
    port: Option<u16>,
}

impl Listed {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Under a scheme whose own port no list names: `Url` does not tell a port that was written from the default.
        let url = Url::parse(&format!("https://{}/", authority(text)?)).ok()?;
        let plain = Url::parse(&format!("http://{text}/")).ok()?;
        let host = Origin::of(&url)?.host.as_ref().into();
        Some(Self { host, port: url.port().or(plain.port()) })
    }

    pub(crate) fn is(&self, origin: &Origin) -> bool {
        let own = if origin.https { 443 } else { 80 };
        *self.host == *origin.host && origin.port == self.port.unwrap_or(own)
    }
}

/// `host` if it is a host name or an address, with an optional port, and nothing else.
pub(crate) fn authority(host: &str) -> Option<&str> {
    let plain = host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_:[]".contains(&c));
    let parsed = Url::parse(&format!("https://{host}/")).ok()?;
    (plain && parsed.path() == "/" && parsed.host().is_some()).then_some(host)
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

    #[test]
    fn a_listed_host_without_a_port_means_the_schemes_own() {
        for (listed, url, same) in [
            ("a.example", "https://a.example/", true),
            ("a.example", "http://a.example/", true),
            ("A.example", "https://a.example:443/", true),
            ("a.example:443", "https://a.example/", true),
            ("a.example:80", "http://a.example/", true),
            ("a.example:443", "http://a.example:443/", true),
            ("[::1]:5000", "http://[::1]:5000/", true),
            ("[::1]", "https://[::1]/", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5000/", true),
            ("a.example", "https://a.example:8443/", false),
            ("a.example:80", "https://a.example/", false),
            ("a.example", "https://b.a.example/", false),
        ] {
            assert_eq!(Listed::parse(listed).unwrap().is(&origin(url).unwrap()), same, "{listed} {url}");
        }
        for bad in ["", "https://x", "a/b", "user@a", "a b"] {
            assert_eq!(Listed::parse(bad), None, "{bad}");
        }
    }
}

//! Which requests leave through a proxy, and through which.
//!
//! Invariant: a proxy's credential is in no message, and goes to that proxy only.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_base::Secret;
use http::HeaderValue;
use ipnet::IpNet;
use url::Url;

use crate::{UpstreamConfig, UpstreamConfigError, origin::Origin};

#[derive(Default)]
pub(crate) struct Proxies {
    https: Option<Arc<Proxy>>,
    http: Option<Arc<Proxy>>,
    direct: Vec<Direct>,
}

pub(crate) struct Proxy {
    pub(crate) origin: Origin,
    /// `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

/// An entry of `no_proxy`.
#[derive(Debug, PartialEq, Eq)]
enum Direct {
    All,
    Network(IpNet),
    /// A host and the names below it. In lower case, without the dot or star that some put before it.
    Host {
        name: String,
        port: Option<u16>,
    },
}

impl Proxies {
    pub(crate) fn new(config: &UpstreamConfig) -> Result<Self, UpstreamConfigError> {
        let direct = |entry: &String| {
            Direct::parse(entry).ok_or_else(|| UpstreamConfigError::Listed { key: "no_proxy", host: entry.clone() })
        };
        Ok(Self {
            https: Proxy::read("https_proxy", config.https_proxy.as_ref())?,
            http: Proxy::read("http_proxy", config.http_proxy.as_ref())?,
            direct: config.no_proxy.iter().flatten().map(direct).collect::<Result<_, _>>()?,
        })
    }

    /// `None`: directly. So is what is on this machine, where a proxy would look at itself.
    pub(crate) fn of(&self, origin: &Origin) -> Option<&Arc<Proxy>> {
        let proxy = if origin.https { self.https.as_ref() } else { self.http.as_ref() }?;
        let here = &*origin.host == "localhost"
            || origin.host.ends_with(".localhost")
            || origin.address().is_some_and(|address| address.to_canonical().is_loopback());
        let direct = here || self.direct.iter().any(|direct| direct.is(origin));
        (!direct).then_some(proxy)
    }
}

impl Proxy {
    /// An empty text turns a proxy of the environment off. `host:port` alone means `http://`, as it does for others.
    fn read(key: &'static str, text: Option<&Secret>) -> Result<Option<Arc<Self>>, UpstreamConfigError> {
        let wrong = |reason| UpstreamConfigError::Proxy { key, reason };
        let Some(text) = text else { return Ok(None) };
        let text = text.expose_str().ok_or(wrong("is not text"))?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        let url = url.map_err(|_| wrong("is not a URL"))?;
        let origin = Origin::of(&url).ok_or(wrong("must begin with http:// or https:// and name a host"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must have nothing after its host and port"));
        }
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(basic(user, password.unwrap_or_default())),
        };
        Ok(Some(Arc::new(Self { origin, authorization })))
    }
}

impl Direct {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if text.contains('/') {
            return text.parse().ok().map(Self::Network);
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address.into()));
        }
        let name = text.strip_prefix("*.").or(text.strip_prefix('.')).unwrap_or(&text);
        let (name, port) = match name.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (name, None),
        };
        // An IPv6 address with a port has its brackets.
        let name = name.trim_matches(['[', ']']);
        let plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_:".contains(&c));
        plain.then(|| Self::Host { name: name.to_owned(), port })
    }

    fn is(&self, origin: &Origin) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => origin.address().is_some_and(|address| network.contains(&address.to_canonical())),
            Self::Host { name, port } => {
                let below =
                    origin.host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == origin.port)
            }
        }
    }
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = [decoded(user), vec![b':'], decoded(password)].concat();
    let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        .expect("base64 is always a legal header value");
    header.set_sensitive(true);
    header
}

/// What a URL's percent signs stand for.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let mut digit = || ahead.next().and_then(|digit| char::from(digit).to_digit(16)).map(|digit| digit as u8);
        match (byte, digit(), digit()) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                bytes = ahead;
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::from(text.to_owned()))
    }

    fn proxies(no_proxy: &[&str]) -> Proxies {
        Proxies::new(&UpstreamConfig {
            https_proxy: secret("http://proxy.example:3128"),
            http_proxy: secret("proxy.example:3129"),
            no_proxy: Some(no_proxy.iter().map(|&entry| entry.to_owned()).collect()),
            ..UpstreamConfig::default()
        })
        .unwrap()
    }

    fn via(proxies: &Proxies, url: &str) -> Option<u16> {
        proxies.of(&Origin::of(&Url::parse(url).unwrap()).unwrap()).map(|proxy| proxy.origin.port)
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_machine_has_none() {
        let proxies = proxies(&[]);
        assert_eq!(via(&proxies, "https://a.example/"), Some(3128));
        assert_eq!(via(&proxies, "http://a.example/"), Some(3129));
        for here in ["http://localhost:5000/", "https://127.0.0.1/", "http://[::1]:5000/", "http://x.localhost/"] {
            assert_eq!(via(&proxies, here), None, "{here}");
        }
        assert_eq!(via(&Proxies::default(), "https://a.example/"), None);
    }

    #[test]
    fn no_proxy_knows_names_suffixes_ports_addresses_and_networks() {
        for (entry, direct, proxied) in [
            ("*", &["https://a.example/"][..], &[][..]),
            (
                "a.example",
                &["https://a.example/", "https://b.A.example:8443/"],
                &["https://xa.example/", "https://a.example.org/"],
            ),
            (".a.example", &["https://b.a.example/", "https://a.example/"], &["https://ba.example/"]),
            ("*.a.example", &["https://b.a.example/"], &["https://b.example/"]),
            ("a.example:8443", &["https://a.example:8443/"], &["https://a.example/"]),
            ("10.0.0.0/8", &["http://10.1.2.3:5000/"], &["http://11.0.0.1/", "http://ten.example/"]),
            ("10.0.0.1", &["http://10.0.0.1/"], &["http://10.0.0.2/"]),
            ("10.0.0.1:5000", &["http://10.0.0.1:5000/"], &["http://10.0.0.1/"]),
            ("fd00::/8", &["http://[fd00::1]/"], &["http://[fe00::1]/"]),
            ("[fd00::1]", &["http://[fd00::1]/"], &["http://[fd00::2]/"]),
            ("[fd00::1]:81", &["http://[fd00::1]:81/"], &["http://[fd00::1]/"]),
        ] {
            let proxies = proxies(&[entry]);
            for url in direct {
                assert_eq!(via(&proxies, url), None, "{entry} {url}");
            }
            for url in proxied {
                assert!(via(&proxies, url).is_some(), "{entry} {url}");
            }
        }
        for bad in ["", "10.0.0.0/33", "a/b", "a:port", "a b", ":80"] {
            assert_eq!(Direct::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_credential_is_taken_from_the_url_and_shown_nowhere() {
        let proxy =
            Proxy::read("http_proxy", secret("https://us%40er:p%3Ass@proxy.example").as_ref()).unwrap().unwrap();
        let authorization = proxy.authorization.as_ref().unwrap();
        assert_eq!(*authorization, format!("Basic {}", BASE64_STANDARD.encode("us@er:p:ss")));
        assert!(authorization.is_sensitive());
        assert_eq!((proxy.origin.port, proxy.origin.https), (443, true));
        for bad in [
            "socks5://user:hunter2@x:1080",
            "http://user:hunter2@",
            "http://user:hunter2@x/path",
            "http://user:hunter2@x y",
        ] {
            let error = Proxy::read("http_proxy", secret(bad).as_ref()).err().unwrap().to_string();
            assert!(error.contains("http_proxy") && !error.contains("hunter2"), "{error}");
        }
        assert!(Proxy::read("http_proxy", secret(" ").as_ref()).unwrap().is_none());
        assert_eq!(decoded("a%4g%%41%4"), b"a%4g%A%4");
    }
}

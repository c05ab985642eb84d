//! Which upstreams there are: AWS's table, the hosts that are allowed beside it, and how an upstream URL is read
//! (`ecr-api.md` §0 and §5.1).

use std::borrow::Cow;

use flotilla_oci::Name;

/// A registry that AWS names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRegistry {
    /// `upstreamRegistry` on the wire.
    pub id: &'static str,
    pub host: HostPattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(&'static str),
    /// One label before the suffix: `<name>.azurecr.io`.
    Below(&'static str),
    /// `<account>.dkr.ecr.<region>.amazonaws.com`.
    Ecr,
}

pub const DOCKER_HUB: &str = "registry-1.docker.io";

pub const KNOWN: [KnownRegistry; 9] = [
    KnownRegistry { id: "ecr-public", host: HostPattern::Exact("public.ecr.aws") },
    KnownRegistry { id: "quay", host: HostPattern::Exact("quay.io") },
    KnownRegistry { id: "k8s", host: HostPattern::Exact("registry.k8s.io") },
    KnownRegistry { id: "docker-hub", host: HostPattern::Exact(DOCKER_HUB) },
    KnownRegistry { id: "github-container-registry", host: HostPattern::Exact("ghcr.io") },
    KnownRegistry { id: "gitlab-container-registry", host: HostPattern::Exact("registry.gitlab.com") },
    KnownRegistry { id: "azure-container-registry", host: HostPattern::Below(".azurecr.io") },
    KnownRegistry { id: "chainguard", host: HostPattern::Exact("cgr.dev") },
    KnownRegistry { id: "ecr", host: HostPattern::Ecr },
];

/// Allowed by default beside [`KNOWN`]; AWS does not know them.
pub const ALSO_ALLOWED: [&str; 6] =
    ["mcr.microsoft.com", "registry.access.redhat.com", "registry.redhat.io", "gcr.io", "nvcr.io", "lscr.io"];

/// An upstream URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Canonical host, with its port when one is written.
    pub host: String,
    /// The URL's path: what stands before every name.
    pub prefix: Option<Name>,
    /// Written with `http://`: needs the operator's entry.
    pub plain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a registry host, nor a host with a repository path")]
pub struct InvalidUpstreamUrl(pub String);

pub fn is_docker_hub(host: &str) -> bool {
    host == DOCKER_HUB
}

/// How `host` itself calls what its users call `name`: Docker Hub's one-part names are below `library/`.
pub fn full_name<'a>(host: &str, name: &'a str) -> Cow<'a, str> {
    if is_docker_hub(host) && !name.contains('/') { format!("library/{name}").into() } else { name.into() }
}

/// Docker Hub's other spellings become the one that answers; everything else stays.
pub fn canonical_host(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// Reads `host[:port]`, in any spelling, as the host that answers for it.
pub fn parse_host(text: &str) -> Option<String> {
    let host = text.to_ascii_lowercase();
    is_host(&host).then(|| canonical_host(&host).to_owned())
}

/// Reads `host[:port][/path]`, with `https://` or `http://` before it where the operator wrote one.
///
/// # Errors
/// [`InvalidUpstreamUrl`] for user info, query, fragment, a bad port, a path that is no repository name, or no host.
pub fn parse_url(url: &str) -> Result<UpstreamUrl, InvalidUpstreamUrl> {
    let invalid = || InvalidUpstreamUrl(url.to_owned());
    let (plain, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (false, url),
    };
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) => (host, path.strip_suffix('/').unwrap_or(path)),
        None => (rest, ""),
    };
    let host = host.to_ascii_lowercase();
    if !is_host(&host) {
        return Err(invalid());
    }
    let prefix = if path.is_empty() { None } else { Some(path.parse().map_err(|_| invalid())?) };
    Ok(UpstreamUrl { host: canonical_host(&host).to_owned(), prefix, plain })
}

/// A DNS name or an IPv4 address with an optional port, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, tail)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                return tail.is_empty() || tail.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The registry that AWS knows `host` as.
pub fn known(host: &str) -> Option<KnownRegistry> {
    KNOWN.into_iter().find(|registry| registry.host.matches(host))
}

/// Whether `host` is an upstream without an entry of the operator's. Such a host is also believed when it answers HEAD
/// for a blob (`protocols.md` §2.8).
pub fn is_built_in(host: &str) -> bool {
    known(host).is_some() || ALSO_ALLOWED.contains(&host)
}

impl HostPattern {
    pub fn matches(self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(suffix) => {
                host.strip_suffix(suffix).is_some_and(|name| !name.is_empty() && !name.contains('.'))
            }
            Self::Ecr => {
                let Some(rest) = host.strip_suffix(".amazonaws.com") else { return false };
                let mut labels = rest.split('.');
                let account = labels.next().unwrap_or_default();
                let twelve_digits = account.len() == 12 && account.bytes().all(|c| c.is_ascii_digit());
                twelve_digits
                    && labels.next() == Some("dkr")
                    && labels.next() == Some("ecr")
                    && labels.next().is_some_and(|region| !region.is_empty())
                    && labels.next().is_none()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_with_an_optional_path() {
        for (url, host, prefix, plain) in [
            ("registry-1.docker.io", DOCKER_HUB, None, false),
            ("docker.io", DOCKER_HUB, None, false),
            ("Index.Docker.IO", DOCKER_HUB, None, false),
            ("public.ecr.aws/docker/library", "public.ecr.aws", Some("docker/library"), false),
            ("https://quay.io/", "quay.io", None, false),
            ("http://127.0.0.1:5001", "127.0.0.1:5001", None, true),
            ("[::1]:5000/x", "[::1]:5000", Some("x"), false),
        ] {
            let read = parse_url(url).unwrap();
            assert_eq!(read.prefix.as_ref().map(Name::as_str), prefix, "{url}");
            assert_eq!((read.host.as_str(), read.plain), (host, plain), "{url}");
        }
        for bad in [
            "",
            "http://",
            "a b",
            "user@host",
            "host:",
            "host:0",
            "host:99999",
            "host/UPPER",
            "host?x",
            "host/a?x=y",
            "ftp://host",
            "-a.b",
            "a..b",
            "[::1",
            "host/../x",
            "host#x",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn aws_names_its_registries() {
        for (host, id) in [
            ("quay.io", Some("quay")),
            ("team.azurecr.io", Some("azure-container-registry")),
            ("a.b.azurecr.io", None),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("ecr")),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("mcr.microsoft.com", None),
            ("evil.quay.io", None),
        ] {
            assert_eq!(known(host).map(|registry| registry.id), id, "{host}");
        }
        assert!(is_built_in("mcr.microsoft.com") && !is_built_in("example.com"));
    }
}

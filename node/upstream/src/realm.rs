use crate::{address::Named, origin::Origin};

/// Token services that belong to an upstream of another name. All others must be on the upstream's own host, or listed
/// in `realm_allow`.
const KNOWN: [(&str, &str); 5] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("nvcr.io", "authn.nvidia.com"),
    ("lscr.io", "ghcr.io"),
    ("docker.elastic.co", "docker-auth.elastic.co"),
];

/// Whether the token service `realm` may be asked on behalf of the upstream `host`, reached at `base`; and then how its
/// address is to be judged.
///
/// # Errors
/// Why not.
pub(crate) fn judge(
    host: &str,
    base: &Origin,
    realm: &Origin,
    allow: &[String],
    from_loopback: bool,
) -> Result<Named, &'static str> {
    if base == realm {
        return Ok(Named::ByOperator);
    }
    if base.https && !realm.https {
        return Err("the token service of an https registry must be https");
    }
    if allow.iter().any(|allowed| realm.is_at(allowed)) {
        return Ok(Named::ByOperator);
    }
    if !realm.https {
        return Err("a token service on another host, or without TLS, must be listed in realm_allow");
    }
    let known = KNOWN.iter().any(|(upstream, service)| *upstream == host && realm.is_at(service));
    // Another port of its own host is the upstream's own business: it is given our credential anyway.
    if known || realm.is_at(host) || realm.host == base.host {
        return Ok(Named::ByUpstream { from_loopback });
    }
    Err("a token service on another host must be listed in realm_allow")
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn ask(host: &str, base: &str, realm: &str, allow: &[&str]) -> Result<Named, &'static str> {
        let origin = |url| Origin::of(&Url::parse(url).unwrap()).unwrap();
        let allow: Vec<String> = allow.iter().map(|&host| host.to_owned()).collect();
        judge(host, &origin(base), &origin(realm), &allow, false)
    }

    #[test]
    fn realms_belong_to_their_upstream_or_are_listed() {
        const FOREIGN: Result<Named, &str> = Ok(Named::ByUpstream { from_loopback: false });
        let hub = "registry-1.docker.io";
        let at_hub = "https://registry-1.docker.io/";
        assert_eq!(ask(hub, at_hub, "https://auth.docker.io/token", &[]), FOREIGN);
        assert_eq!(ask("quay.io", "https://quay.io/", "https://quay.io/v2/auth", &[]), Ok(Named::ByOperator));
        assert_eq!(ask("r.example", "https://r.example/", "https://r.example:8443/t", &[]), FOREIGN);
        assert_eq!(ask("r.example", "https://r.example/", "https://t.example/", &["t.example"]), Ok(Named::ByOperator));
        assert_eq!(ask(hub, "http://127.0.0.1:15000/", "http://127.0.0.1:15000/t", &[]), Ok(Named::ByOperator));
        assert_eq!(ask(hub, "http://127.0.0.1:15000/", "https://auth.docker.io/token", &[]), FOREIGN);

        for (host, base, realm, allow) in [
            ("quay.io", "https://quay.io/", "https://auth.docker.io/token", &[][..]),
            (hub, at_hub, "https://auth.docker.io.evil.example/", &[]),
            (hub, at_hub, "https://auth.docker.io:8443/", &[]),
            (hub, at_hub, "http://auth.docker.io/token", &[]),
            (hub, at_hub, "https://169.254.169.254/", &[]),
            ("r.example", "https://r.example/", "http://r.example/t", &["r.example"]),
            ("r.example", "http://r.example:5000/", "http://r.example:5001/t", &[]),
            (hub, "http://127.0.0.1:15000/", "http://127.0.0.1:15001/t", &[]),
        ] {
            assert!(ask(host, base, realm, allow).is_err(), "{host} {realm}");
        }
    }
}

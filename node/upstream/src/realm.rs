use crate::{BlockReason, destinations::Named, origin::Origin};

/// Token services that belong to an upstream of another name. All others must be on the upstream's own host, or listed
/// in `realm_allow`.
const KNOWN: [(&str, &str); 6] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.redhat.io", "sso.redhat.com"),
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
) -> Result<Named, BlockReason> {
    if base == realm {
        return Ok(Named::ByOperator);
    }
    if base.https && !realm.https {
        return Err(BlockReason::RealmDowngrade);
    }
    if allow.iter().any(|allowed| realm.is_at(allowed)) {
        return Ok(Named::ByOperator);
    }
    if !realm.https {
        return Err(BlockReason::RealmPlain);
    }
    // Another port of its own host is the upstream's own business: it is given our credential anyway, and its host was
    // named by the operator.
    if realm.is_at(host) || realm.host == base.host {
        return Ok(Named::ByOperator);
    }
    if KNOWN.iter().any(|(upstream, service)| *upstream == host && realm.is_at(service)) {
        return Ok(Named::ByUpstream { from_loopback });
    }
    Err(BlockReason::RealmUnlisted)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn ask(host: &str, base: &str, realm: &str, allow: &[&str]) -> Result<Named, BlockReason> {
        let origin = |url| Origin::of(&Url::parse(url).unwrap()).unwrap();
        let allow: Vec<String> = allow.iter().map(|&host| host.to_owned()).collect();
        judge(host, &origin(base), &origin(realm), &allow, false)
    }

    #[test]
    fn realms_belong_to_their_upstream_or_are_listed() {
        const FOREIGN: Result<Named, BlockReason> = Ok(Named::ByUpstream { from_loopback: false });
        let hub = "registry-1.docker.io";
        let at_hub = "https://registry-1.docker.io/";
        assert_eq!(ask(hub, at_hub, "https://auth.docker.io/token", &[]), FOREIGN);
        assert_eq!(ask("quay.io", "https://quay.io/", "https://quay.io/v2/auth", &[]), Ok(Named::ByOperator));
        assert_eq!(ask("r.example", "https://r.example/", "https://r.example:8443/t", &[]), Ok(Named::ByOperator));
        assert_eq!(ask("r.example", "https://r.example/", "https://t.example/", &["t.example"]), Ok(Named::ByOperator));
        assert_eq!(ask(hub, "http://127.0.0.1:15000/", "http://127.0.0.1:15000/t", &[]), Ok(Named::ByOperator));
        assert_eq!(ask(hub, "http://127.0.0.1:15000/", "https://auth.docker.io/token", &[]), FOREIGN);

        // As these registries answer today.
        for (host, realm) in [
            ("ghcr.io", "https://ghcr.io/token"),
            ("gcr.io", "https://gcr.io/v2/token"),
            ("us-docker.pkg.dev", "https://us-docker.pkg.dev/v2/token"),
            ("public.ecr.aws", "https://public.ecr.aws/token/"),
            ("name.azurecr.io", "https://name.azurecr.io/oauth2/token"),
            ("cgr.dev", "https://cgr.dev/token"),
            ("registry.redhat.io", "https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth"),
            ("registry.redhat.io", "https://sso.redhat.com/auth/realms/rhcc/protocol/redhat-docker-v2/auth"),
            ("nvcr.io", "https://nvcr.io/proxy_auth"),
            ("nvcr.io", "https://authn.nvidia.com/token"),
            ("docker.elastic.co", "https://docker-auth.elastic.co/auth"),
            ("lscr.io", "https://ghcr.io/token"),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ] {
            assert!(ask(host, &format!("https://{host}/"), realm, &[]).is_ok(), "{host} {realm}");
        }
        for (host, base, realm, allow) in [
            ("ghcr.io", "https://ghcr.io/", "https://gitlab.com/jwt/auth", &[][..]),
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

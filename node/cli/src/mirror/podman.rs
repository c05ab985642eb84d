//! podman, buildah, skopeo and CRI-O: `registries.conf.d`. They do not say which registry they mean, so that each mirror
//! is a registry and the prefix of the rule that stands in for it.

use flotilla_aws::flotilla::CacheRuleOptions;

use super::{
    containerd::quoted,
    plan::{Content, Engine, File, MARK, Plan, Wish, host},
};
use crate::error::CliError;

/// Late in the order of the folder, where later files win.
pub(super) const FILE: &str = "90-flotilla-mirror.conf";

/// Whose names lead through which rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// Host, and what stands before every name.
    pub(super) registry: String,
    /// Empty for `ROOT`.
    pub(super) prefix: String,
}

/// Whether `--registry` says it all, so that no node has to be asked.
pub(super) fn are_routes(registries: &[String]) -> bool {
    !registries.is_empty() && registries.iter().all(|registry| registry.contains('='))
}

pub(super) fn given(registries: &[String]) -> Result<Vec<Route>, CliError> {
    let routes = registries.iter().filter_map(|registry| registry.split_once('='));
    routes
        .map(|(registry, prefix)| {
            let at = registry.split_once('/');
            host(at.map_or(registry, |(host, _)| host))?;
            let path = at.map_or("", |(_, path)| path);
            let prefix = if prefix == "ROOT" { "" } else { prefix.trim_end_matches('/') };
            if !is_path(path) || !is_path(prefix) {
                return Err(CliError::Usage(format!("'{registry}={prefix}' is not HOST=PREFIX")));
            }
            Ok(Route { registry: registry.to_owned(), prefix: prefix.to_owned() })
        })
        .collect()
}

fn is_path(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-/".contains(&c))
}

/// The rules that stand in for a host: all, or those of the registries that are given by name.
pub(super) fn of_rules(rules: &[CacheRuleOptions], registries: &[String]) -> Result<Vec<Route>, CliError> {
    if let Some(mixed) = registries.iter().find(|registry| registry.contains('=')) {
        let text = format!("give every --registry as HOST=PREFIX, as '{mixed}', or none");
        return Err(CliError::Usage(text));
    }
    let mut routes: Vec<Route> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.mirror) {
        // What people write, not where the API is.
        let named =
            if rule.upstream_host == "registry-1.docker.io" { "docker.io" } else { rule.upstream_host.as_str() };
        if !registries.is_empty() && !registries.iter().any(|registry| registry == named) {
            continue;
        }
        let registry = match &rule.upstream_prefix {
            Some(prefix) => format!("{}/{prefix}", host(named)?),
            None => host(named)?.to_owned(),
        };
        let prefix = if rule.ecr_repository_prefix == "ROOT" { "" } else { rule.ecr_repository_prefix.as_str() };
        if let Some(other) = routes.iter().find(|route| route.registry == registry) {
            let text = format!(
                "rules '{}' and '{}' both mirror {registry}: choose with --registry {registry}=PREFIX",
                other.prefix, rule.ecr_repository_prefix
            );
            return Err(CliError::Usage(text));
        }
        routes.push(Route { registry, prefix: prefix.to_owned() });
    }
    let served =
        |wanted: &str| routes.iter().any(|route| route.registry.split('/').next().is_some_and(|host| host == wanted));
    if let Some(missing) = registries.iter().find(|registry| !served(registry)) {
        return Err(CliError::Usage(format!("no cache rule mirrors '{missing}': `flotilla rule set PREFIX --mirror`")));
    }
    if routes.is_empty() {
        return Err(CliError::Usage("no cache rule is a mirror: `flotilla rule set PREFIX --mirror`".into()));
    }
    routes.sort();
    Ok(routes)
}

pub(super) fn plan(wish: &Wish, engine: Engine, routes: &[Route]) -> Plan {
    let mut text = MARK.to_owned();
    for route in routes {
        text.push_str(&registry(wish, route));
    }
    let mut notes = Vec::new();
    let hosts: Vec<&str> = wish.endpoints.iter().map(crate::Endpoint::authority).collect();
    if let Some(ca) = wish.ca() {
        let to = "/etc/containers/certs.d/HOST/ca.crt";
        notes.push(format!("the certificate authority is read as {to}: copy {ca} there for {}", hosts.join(", ")));
    }
    if wish.authorization.is_some() {
        notes.push(format!("a login is kept in auth.json: `podman login {}`", hosts.join(" ")));
    }
    if engine == Engine::Crio {
        notes.push("`systemctl reload crio` makes CRI-O read it".to_owned());
    }
    Plan { files: vec![File { name: FILE.to_owned(), content: Content::Whole(text), private: false }], notes }
}

fn registry(wish: &Wish, route: &Route) -> String {
    // `location` is whom the engine asks last.
    let (mirrors, last) = match wish.endpoints.split_last() {
        Some((last, others)) if wish.fail_closed => (others, Some(last)),
        _ => (wish.endpoints.as_slice(), None),
    };
    let at = |endpoint: &crate::Endpoint| {
        let location = format!("{}/{}", endpoint.authority(), route.prefix);
        let insecure = if endpoint.is_tls() { "" } else { "insecure = true\n" };
        format!("location = {}\n{insecure}", quoted(location.trim_end_matches('/')))
    };
    let mut text = format!("\n[[registry]]\nprefix = {}\n", quoted(&route.registry));
    match last {
        Some(last) => text.push_str(&at(last)),
        None => text.push_str(&format!("location = {}\n", quoted(&route.registry))),
    }
    for mirror in mirrors {
        text.push_str(&format!("[[registry.mirror]]\n{}", at(mirror)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::wish, *};

    fn rule(prefix: &str, host: &str, before: Option<&str>, mirror: bool) -> CacheRuleOptions {
        CacheRuleOptions {
            ecr_repository_prefix: prefix.into(),
            upstream_host: host.into(),
            upstream_prefix: before.map(str::to_owned),
            mirror,
            ..Default::default()
        }
    }

    fn routes(rules: &[CacheRuleOptions], registries: &[&str]) -> Result<Vec<(String, String)>, CliError> {
        let registries: Vec<String> = registries.iter().map(|registry| (*registry).to_owned()).collect();
        let routes = of_rules(rules, &registries)?;
        Ok(routes.into_iter().map(|route| (route.registry, route.prefix)).collect())
    }

    #[test]
    fn each_rule_that_mirrors_is_a_route() {
        let rules = [
            rule("quay", "quay.io", None, true),
            rule("team", "quay.io", Some("org/team"), true),
            rule("docker-hub", "registry-1.docker.io", None, true),
            rule("ghcr", "ghcr.io", None, false),
            rule("ROOT", "mcr.microsoft.com", None, true),
        ];
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            routes(&rules, &[]).unwrap(),
            [
                pair("docker.io", "docker-hub"),
                pair("mcr.microsoft.com", ""),
                pair("quay.io", "quay"),
                pair("quay.io/org/team", "team")
            ]
        );
        assert_eq!(routes(&rules, &["docker.io"]).unwrap(), [pair("docker.io", "docker-hub")]);
        assert!(routes(&rules, &["ghcr.io"]).is_err());
        assert!(routes(&[], &[]).is_err());
        let two = [rule("a", "quay.io", None, true), rule("b", "quay.io", None, true)];
        let error = routes(&two, &[]).unwrap_err().to_string();
        assert!(error.contains("'a'") && error.contains("'b'"), "{error}");
    }

    #[test]
    fn routes_are_given_without_a_node() {
        let registries = ["docker.io=docker-hub".to_owned(), "quay.io/org=ROOT".to_owned()];
        assert!(are_routes(&registries) && !are_routes(&[]) && !are_routes(&["docker.io".to_owned()]));
        let routes = given(&registries).unwrap();
        assert_eq!((routes[1].registry.as_str(), routes[1].prefix.as_str()), ("quay.io/org", ""));
        for bad in ["=x", "a b=x", "docker.io=UPPER", "docker.io=a\"b"] {
            assert!(given(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_names_nodes_before_the_registry_or_instead_of_it() {
        let route = [Route { registry: "docker.io".into(), prefix: "docker-hub".into() }];
        let open = plan(&wish(&["http://a:5000", "https://b:5000"]), Engine::Podman, &route).files[0].content.alone();
        assert_eq!(
            open.strip_prefix(MARK).unwrap(),
            "\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
             [[registry.mirror]]\nlocation = \"a:5000/docker-hub\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"b:5000/docker-hub\"\n"
        );
        let closed = Wish { fail_closed: true, ..wish(&["http://a:5000", "https://b:5000"]) };
        let closed = plan(&closed, Engine::Crio, &route).files[0].content.alone();
        assert_eq!(
            closed.strip_prefix(MARK).unwrap(),
            "\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"b:5000/docker-hub\"\n\
             [[registry.mirror]]\nlocation = \"a:5000/docker-hub\"\ninsecure = true\n"
        );
        toml::from_str::<toml::Table>(&closed).unwrap();
        let root = [Route { registry: "docker.io".into(), prefix: String::new() }];
        assert!(plan(&wish(&["http://a:5000"]), Engine::Podman, &root).files[0].content.alone().contains("\"a:5000\""));
    }
}

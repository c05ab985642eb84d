//! From what a client asks for to exactly one repository (`requirements.md` A, "Map, then authorize"). A client that
//! speaks of another registry by its host (`?ns=`, or the mirror's own upstream) reaches only what rules fetch from that
//! host: the host is a key to look up, never an address to dial, and own repositories do not exist behind it.

use std::collections::{BTreeMap, btree_map::Entry};

use flotilla_oci::Name;

use crate::{
    Prefix,
    cache_rule::{CacheRule, CacheRules, Target},
    upstream,
};

/// Whose name it is that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace<'a> {
    /// Ours: the name is a repository's.
    Own,
    /// That of a registry, by its canonical host.
    Of(&'a str),
}

/// Why a name leads to no repository. None of it is a reason to ask anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    #[error("no cache rule of this registry mirrors '{host}'")]
    NoRule { host: String },
    /// Which one was meant would be a guess.
    #[error("cache rules '{}' and '{}' both mirror '{name}' of '{host}'", .rules.0, .rules.1)]
    Ambiguous { host: String, name: String, rules: (Prefix, Prefix) },
    /// The name under the rule's prefix belongs to a longer rule.
    #[error("'{name}' of '{host}' would be repository '{repository}', which is not that of cache rule '{rule}'")]
    Shadowed { host: String, name: String, repository: String, rule: Prefix },
    /// A caller created a repository of that name: what is in it did not come from `host`.
    #[error(
        "'{name}' of '{host}' would be repository '{repository}', which was created here and not by cache rule '{rule}'"
    )]
    CreatedHere { host: String, name: String, repository: String, rule: Prefix },
}

/// The rules that stand in for a host, by host and by what they put before a name there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirrors(BTreeMap<String, BTreeMap<String, Candidates>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidates {
    first: Prefix,
    second: Option<Prefix>,
}

impl<'a> FromIterator<&'a CacheRule> for Mirrors {
    fn from_iter<I: IntoIterator<Item = &'a CacheRule>>(rules: I) -> Self {
        let mut mirrors = Self::default();
        for rule in rules {
            let before = rule.upstream_prefix.as_ref().map_or("", Name::as_str);
            match mirrors.0.entry(rule.upstream_host.clone()).or_default().entry(before.to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(Candidates { first: rule.prefix.clone(), second: None });
                }
                Entry::Occupied(mut entry) => {
                    entry.get_mut().second.get_or_insert_with(|| rule.prefix.clone());
                }
            }
        }
        mirrors
    }
}

impl Mirrors {
    /// The candidates with the longest prefix of `name`, and the rest of it.
    fn covering<'a>(&self, host: &str, name: &'a str) -> Option<(&Candidates, &'a str)> {
        let by_prefix = self.0.get(host)?;
        let mut end = name.rfind('/');
        while let Some(at) = end {
            if let Some(candidates) = by_prefix.get(&name[..at]) {
                return Some((candidates, &name[at + 1..]));
            }
            end = name[..at].rfind('/');
        }
        by_prefix.get("").map(|candidates| (candidates, name))
    }
}

impl CacheRules {
    /// Maps what a client asked for. The one function that does; whether a caller may have it is asked afterwards, about
    /// the repository.
    ///
    /// # Errors
    /// [`Unmapped`], never for an own name.
    pub fn map(&self, namespace: Namespace<'_>, name: &Name) -> Result<Target, Unmapped> {
        match namespace {
            Namespace::Own => Ok(self.resolve(name)),
            Namespace::Of(host) => self.map_foreign(host, name),
        }
    }

    fn map_foreign(&self, host: &str, name: &Name) -> Result<Target, Unmapped> {
        // A client that was told of the prefix (containerd's `override_path`) sends the repository's own name.
        if let Some(rule) = self.prefixed(host, name) {
            return self.only_through(host, name, rule, name.as_str());
        }
        let upstream_name = upstream::full_name(host, name.as_str());
        let Some((candidates, rest)) = self.mirrors.covering(host, &upstream_name) else {
            return Err(Unmapped::NoRule { host: host.to_owned() });
        };
        if let Some(second) = &candidates.second {
            let rules = (candidates.first.clone(), second.clone());
            return Err(Unmapped::Ambiguous { host: host.to_owned(), name: name.to_string(), rules });
        }
        match &candidates.first {
            Prefix::Root => self.only_through(host, name, &Prefix::Root, rest),
            rule @ Prefix::Below(prefix) => self.only_through(host, name, rule, &format!("{prefix}/{rest}")),
        }
    }

    /// The rule for `host` with the longest prefix that `name` begins with. `ROOT` is no prefix that a client would send.
    fn prefixed(&self, host: &str, name: &Name) -> Option<&Prefix> {
        let text = name.as_str();
        let mut end = text.rfind('/');
        while let Some(at) = end {
            if let Ok(prefix) = text[..at].parse::<Name>()
                && let Some(rule) = self.rules.get(&Prefix::Below(prefix))
                && rule.upstream_host == host
            {
                return Some(&rule.prefix);
            }
            end = text[..at].rfind('/');
        }
        None
    }

    /// The repository, if its name leads through `rule` and nothing else.
    fn only_through(&self, host: &str, name: &Name, rule: &Prefix, repository: &str) -> Result<Target, Unmapped> {
        let target = repository.parse().ok().map(|repository: Name| self.resolve(&repository));
        target.filter(|target| target.rule() == Some(rule)).ok_or_else(|| Unmapped::Shadowed {
            host: host.to_owned(),
            name: name.to_string(),
            repository: repository.to_owned(),
            rule: rule.clone(),
        })
    }
}

impl Target {
    /// The rule that covers the repository, whether it lets the name through or not.
    pub fn rule(&self) -> Option<&Prefix> {
        self.origin.as_ref().map(|origin| &origin.rule).or(self.filtered_by.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Glob,
        cache_rule::{CacheRuleOptions, tests::rule},
        upstream::DOCKER_HUB,
    };

    fn ruled(all: &[(&str, &str, Option<&str>, bool)]) -> CacheRules {
        let made: CacheRules = all.iter().map(|(prefix, host, before, _)| rule(prefix, host, *before)).collect();
        made.with_options(all.iter().map(|(prefix, _, _, mirror)| {
            (prefix.parse().unwrap(), CacheRuleOptions { mirror: *mirror, ..CacheRuleOptions::default() })
        }))
    }

    /// Repository, rule and upstream name.
    fn mapped(rules: &CacheRules, host: &str, name: &str) -> Result<(String, String, String), Unmapped> {
        let target = rules.map(Namespace::Of(host), &name.parse().unwrap())?;
        let origin = target.origin.unwrap();
        Ok((target.repository.to_string(), origin.rule.to_string(), origin.name.to_string()))
    }

    #[test]
    fn names_of_a_host_lead_through_its_rules_only() {
        let rules = ruled(&[
            ("docker-hub", DOCKER_HUB, None, true),
            ("quay", "quay.io", None, true),
            ("team", "quay.io", Some("org/team"), true),
            ("plain", "ghcr.io", None, false),
            ("at-port", "registry.example:5000", None, true),
        ]);
        for (host, name, repository, rule, upstream_name) in [
            (DOCKER_HUB, "nginx", "docker-hub/library/nginx", "docker-hub", "library/nginx"),
            (DOCKER_HUB, "library/nginx", "docker-hub/library/nginx", "docker-hub", "library/nginx"),
            (DOCKER_HUB, "org/app", "docker-hub/org/app", "docker-hub", "org/app"),
            // With the prefix, as containerd sends it with `override_path`: literally, so that it is one repository.
            (DOCKER_HUB, "docker-hub/nginx", "docker-hub/nginx", "docker-hub", "library/nginx"),
            (DOCKER_HUB, "docker-hub/org/app", "docker-hub/org/app", "docker-hub", "org/app"),
            // A prefix of another host's rule is part of the name.
            (DOCKER_HUB, "quay/app", "docker-hub/quay/app", "docker-hub", "quay/app"),
            ("quay.io", "org/app", "quay/org/app", "quay", "org/app"),
            ("quay.io", "org/team/app", "team/app", "team", "org/team/app"),
            ("quay.io", "org/teams/app", "quay/org/teams/app", "quay", "org/teams/app"),
            ("quay.io", "org/team", "quay/org/team", "quay", "org/team"),
            ("quay.io", "one", "quay/one", "quay", "one"),
            // By its prefix a rule needs no mark: it is the name that everybody may use.
            ("ghcr.io", "plain/org/app", "plain/org/app", "plain", "org/app"),
            ("registry.example:5000", "app", "at-port/app", "at-port", "app"),
        ] {
            let wanted = (repository.to_owned(), rule.to_owned(), upstream_name.to_owned());
            assert_eq!(mapped(&rules, host, name), Ok(wanted), "{host} {name}");
        }
        for (host, name) in
            [("ghcr.io", "org/app"), ("registry.example", "app"), ("unknown.example", "docker-hub/nginx"), ("", "app")]
        {
            assert_eq!(mapped(&rules, host, name), Err(Unmapped::NoRule { host: host.into() }), "{host} {name}");
        }
    }

    #[test]
    fn a_rule_for_everything_mirrors_too() {
        let rules = ruled(&[("ROOT", DOCKER_HUB, None, true), ("own-quay", "quay.io", None, true)]);
        let wanted = ("library/nginx".to_owned(), "ROOT".to_owned(), "library/nginx".to_owned());
        assert_eq!(mapped(&rules, DOCKER_HUB, "nginx"), Ok(wanted));
        // `own-quay/x` is that rule's repository here, so Docker Hub's image of this name cannot be had.
        assert!(matches!(mapped(&rules, DOCKER_HUB, "own-quay/x"), Err(Unmapped::Shadowed { .. })));
        let unmarked = ruled(&[("ROOT", DOCKER_HUB, None, false)]);
        assert!(matches!(mapped(&unmarked, DOCKER_HUB, "nginx"), Err(Unmapped::NoRule { .. })));
    }

    #[test]
    fn two_rules_that_fit_alike_are_never_guessed_between() {
        let rules = ruled(&[
            ("a", "quay.io", None, true),
            ("b", "quay.io", None, true),
            ("c", "quay.io", Some("org"), true),
            ("d", "quay.io", None, false),
        ]);
        let ambiguous = mapped(&rules, "quay.io", "x/app").unwrap_err();
        let Unmapped::Ambiguous { rules: (first, second), .. } = ambiguous else { panic!("{ambiguous:?}") };
        assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
        assert_eq!(mapped(&rules, "quay.io", "org/app").unwrap().0, "c/app", "a longer one is no guess");
        assert_eq!(mapped(&rules, "quay.io", "b/x/app").unwrap().0, "b/x/app", "nor is one that is named");
    }

    #[test]
    fn a_longer_rule_in_between_is_not_crossed() {
        let rules = ruled(&[("hub", DOCKER_HUB, None, true), ("hub/org", "quay.io", None, true)]);
        assert_eq!(mapped(&rules, DOCKER_HUB, "nginx").unwrap().0, "hub/library/nginx");
        for name in ["org/app", "hub/org/app"] {
            assert!(matches!(mapped(&rules, DOCKER_HUB, name), Err(Unmapped::Shadowed { .. })), "{name}");
        }
        let same_host = ruled(&[("hub", DOCKER_HUB, None, true), ("hub/org", DOCKER_HUB, None, false)]);
        assert!(matches!(mapped(&same_host, DOCKER_HUB, "org/app"), Err(Unmapped::Shadowed { .. })));
        assert_eq!(mapped(&same_host, DOCKER_HUB, "hub/org/app").unwrap().1, "hub/org");
    }

    #[test]
    fn an_own_name_is_a_repository_and_a_host_never_leads_to_one_without_a_rule() {
        let rules = ruled(&[("hub", DOCKER_HUB, None, true)]);
        let name: Name = "library/nginx".parse().unwrap();
        let own = rules.map(Namespace::Own, &name).unwrap();
        assert_eq!((&own.repository, own.rule()), (&name, None));
        let foreign = rules.map(Namespace::Of(DOCKER_HUB), &name).unwrap();
        assert_eq!(foreign.repository.as_str(), "hub/library/nginx");
        let long: Name = format!("{}/x", "a".repeat(252)).parse().unwrap();
        assert!(matches!(rules.map(Namespace::Of(DOCKER_HUB), &long), Err(Unmapped::Shadowed { .. })));
    }

    proptest! {
        /// Whatever rules there are: the rule is one for that host, and the repository is the rule's and no other's.
        #[test]
        fn a_host_leads_to_rules_for_that_host_only(
            made in prop::collection::vec(
                (("[ab]{1}(/[ab]){0,2}|ROOT"), 0usize..3, prop::option::of("[ab](/[ab])?"), any::<bool>()),
                0..8,
            ),
            host in 0usize..3,
            name in "[ab](/[ab]){0,4}",
        ) {
            const HOSTS: [&str; 3] = [DOCKER_HUB, "quay.io", "ghcr.io"];
            let made: Vec<_> = made.iter().map(|(p, host, before, m)| (p.as_str(), HOSTS[*host], before.as_deref(), *m)).collect();
            let rules = ruled(&made);
            let name: Name = name.parse().unwrap();
            if let Ok(target) = rules.map(Namespace::Of(HOSTS[host]), &name) {
                let rule = target.rule().and_then(|prefix| rules.get(prefix)).unwrap();
                prop_assert_eq!(rule.upstream_host.as_str(), HOSTS[host]);
                prop_assert!(rule.prefix.rest(&target.repository).is_some());
                prop_assert_eq!(&rules.resolve(&target.repository), &target);
                let upstream_name = target.origin.unwrap().name;
                let is_prefixed = target.repository == name && rule.prefix != Prefix::Root;
                prop_assert!(is_prefixed || upstream_name.as_str() == upstream::full_name(HOSTS[host], name.as_str()));
            }
        }
    }

    #[test]
    fn a_name_that_is_filtered_maps_and_has_no_origin() {
        let made: CacheRules = [rule("hub", DOCKER_HUB, None)].into_iter().collect();
        let options =
            CacheRuleOptions { mirror: true, deny: vec![Glob("org/*".into())], ..CacheRuleOptions::default() };
        let rules = made.with_options([("hub".parse().unwrap(), options)]);
        let target = rules.map(Namespace::Of(DOCKER_HUB), &"org/app".parse().unwrap()).unwrap();
        assert_eq!((target.repository.as_str(), target.origin.is_none()), ("hub/org/app", true));
        assert_eq!(target.rule().map(Prefix::as_str), Some("hub"));
    }
}

//! Pull through cache rules, and the one function that maps a repository's name to its upstream.

use std::{collections::BTreeMap, time::Duration};

use flotilla_base::Timestamp;
use flotilla_oci::Name;
use serde::{Deserialize, Serialize};

use crate::{Glob, Prefix, mapping::Mirrors, upstream};

/// A rule as the operator made it. What was sent is kept beside what it means: replies echo it letter for letter, or
/// Terraform replaces the rule at each apply (`requirements.md` A).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRule {
    pub prefix: Prefix,
    /// As sent: a host, a host with a path, or an `http://` URL that the operator allows.
    pub upstream_url: String,
    /// The host of `upstream_url` in its canonical spelling; whom we ask.
    pub upstream_host: String,
    /// What stands before the rest of the name at the upstream; from the URL's path or the upstream prefix.
    pub upstream_prefix: Option<Name>,
    /// `upstreamRepositoryPrefix` as sent; returned only when it was.
    pub upstream_prefix_sent: Option<String>,
    /// As sent, or inferred from the host where AWS names that registry.
    pub upstream_registry: Option<String>,
    pub credential_arn: Option<String>,
    pub custom_role_arn: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Rises with each change of this rule; what was read under an older one is asked again.
    pub version: u64,
    /// A tag older than this is validated against the upstream; `None` is the cluster's default.
    pub revalidate_after: Option<Duration>,
    /// Made by `flotilla dev`: a Create of the same prefix replaces it instead of failing.
    pub is_default: bool,
}

/// What no member of AWS's rule says. Kept beside the rule, and gone with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRuleOptions {
    /// Serves `?ns=` of its upstream host, and the mirror listener.
    pub mirror: bool,
    /// Anonymous callers may use it although it has a credential.
    pub anonymous_allowed: bool,
    /// Whole names at the upstream, `library/nginx` for Docker Hub's `nginx`; none means all.
    pub allow: Vec<Glob>,
    /// Wins over `allow`.
    pub deny: Vec<Glob>,
}

impl CacheRuleOptions {
    /// Whether the rule lets `name`, a name at its upstream, through. Asked before any request leaves.
    pub fn admits(&self, name: &Name) -> bool {
        let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name.as_str()));
        (self.allow.is_empty() || matches(&self.allow)) && !matches(&self.deny)
    }
}

static PLAIN: CacheRuleOptions =
    CacheRuleOptions { mirror: false, anonymous_allowed: false, allow: Vec::new(), deny: Vec::new() };

/// Where the content of a repository comes from: a rule and the name at its upstream, never an address. A peer can
/// therefore ask another to fetch, but not whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub rule: Prefix,
    pub name: Name,
}

/// What a client's name means here: exactly one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub repository: Name,
    /// `None` when no rule covers the repository, or its rule does not let the name through: only what is here can be
    /// served, and nobody who holds a target can ask upstream for it.
    pub origin: Option<Origin>,
    /// The rule that covers the repository and keeps its name from the upstream.
    pub filtered_by: Option<Prefix>,
}

/// Every rule, by prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheRules {
    pub(crate) rules: BTreeMap<Prefix, CacheRule>,
    options: BTreeMap<Prefix, CacheRuleOptions>,
    pub(crate) mirrors: Mirrors,
}

impl FromIterator<CacheRule> for CacheRules {
    fn from_iter<I: IntoIterator<Item = CacheRule>>(rules: I) -> Self {
        let rules = rules.into_iter().map(|rule| (rule.prefix.clone(), rule)).collect();
        Self { rules, options: BTreeMap::new(), mirrors: Mirrors::default() }
    }
}

impl CacheRules {
    pub fn get(&self, prefix: &Prefix) -> Option<&CacheRule> {
        self.rules.get(prefix)
    }

    /// Together with what [`CacheRules::options`] says.
    #[must_use]
    pub fn with_options(self, options: impl IntoIterator<Item = (Prefix, CacheRuleOptions)>) -> Self {
        let options: BTreeMap<_, _> = options.into_iter().collect();
        let is_mirror = |rule: &&CacheRule| options.get(&rule.prefix).is_some_and(|options| options.mirror);
        let mirrors = self.rules.values().filter(is_mirror).collect();
        Self { options, mirrors, ..self }
    }

    /// The default where none were set.
    pub fn options(&self, prefix: &Prefix) -> &CacheRuleOptions {
        self.options.get(prefix).unwrap_or(&PLAIN)
    }

    pub fn iter(&self) -> impl Iterator<Item = &CacheRule> {
        self.rules.values()
    }

    /// The rule that [`CacheRules::resolve`] takes for a repository.
    pub fn rule_of(&self, repository: &Name) -> Option<&CacheRule> {
        self.covering(repository).map(|(rule, _)| rule)
    }

    /// Maps a repository to its upstream: the longest prefix that covers it wins, `ROOT` is last. Docker Hub's one-part
    /// names get their `library/`; the repository keeps the name that was asked.
    pub fn resolve(&self, repository: &Name) -> Target {
        match self.origin_of(repository) {
            Some(origin) if !self.options(&origin.rule).admits(&origin.name) => {
                Target { repository: repository.clone(), origin: None, filtered_by: Some(origin.rule) }
            }
            origin => Target { repository: repository.clone(), origin, filtered_by: None },
        }
    }

    /// Where a repository comes from, whether its rule lets the name through or not.
    pub fn origin_of(&self, repository: &Name) -> Option<Origin> {
        let (rule, rest) = self.covering(repository)?;
        let name = match &rule.upstream_prefix {
            Some(prefix) => format!("{prefix}/{rest}"),
            None => upstream::full_name(&rule.upstream_host, rest).into_owned(),
        };
        Some(Origin { rule: rule.prefix.clone(), name: name.parse().ok()? })
    }

    fn covering<'a>(&self, repository: &'a Name) -> Option<(&CacheRule, &'a str)> {
        // From the whole name upwards, a lookup per part: names are short and rules may be ten thousand.
        let text = repository.as_str();
        let mut end = text.rfind('/');
        while let Some(at) = end {
            if let Ok(prefix) = text[..at].parse::<Name>()
                && let Some(rule) = self.rules.get(&Prefix::Below(prefix))
            {
                return Some((rule, &text[at + 1..]));
            }
            end = text[..at].rfind('/');
        }
        self.rules.get(&Prefix::Root).map(|rule| (rule, text))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rule(prefix: &str, host: &str, upstream_prefix: Option<&str>) -> CacheRule {
        CacheRule {
            prefix: prefix.parse().unwrap(),
            upstream_url: host.into(),
            upstream_host: host.into(),
            upstream_prefix: upstream_prefix.map(|p| p.parse().unwrap()),
            upstream_prefix_sent: None,
            upstream_registry: None,
            credential_arn: None,
            custom_role_arn: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            version: 1,
            revalidate_after: None,
            is_default: false,
        }
    }

    #[test]
    fn names_map_to_their_upstream() {
        let rules: CacheRules = [
            rule("docker-hub", "registry-1.docker.io", None),
            rule("docker-hub/team", "quay.io", None),
            rule("team-a", "ghcr.io", Some("team-a")),
            rule("ROOT", "mcr.microsoft.com", None),
        ]
        .into_iter()
        .collect();
        for (name, prefix, upstream_name) in [
            ("docker-hub/library/nginx", "docker-hub", "library/nginx"),
            ("docker-hub/nginx", "docker-hub", "library/nginx"),
            ("docker-hub/team/x", "docker-hub/team", "x"),
            ("docker-hub/teams/x", "docker-hub", "teams/x"),
            ("team-a/myapp/i", "team-a", "team-a/myapp/i"),
            ("dotnet/sdk", "ROOT", "dotnet/sdk"),
            ("docker-hub", "ROOT", "docker-hub"),
        ] {
            let target = rules.resolve(&name.parse().unwrap());
            let origin = target.origin.unwrap();
            assert_eq!((origin.rule.as_str(), origin.name.as_str()), (prefix, upstream_name), "{name}");
            assert_eq!(target.repository.as_str(), name);
        }
    }

    #[test]
    fn a_name_that_its_rule_does_not_admit_has_no_origin() {
        let glob = |text: &str| Glob(text.to_owned());
        let options = CacheRuleOptions {
            allow: vec![glob("library/*"), glob("team/*")],
            deny: vec![glob("team/secret*")],
            ..CacheRuleOptions::default()
        };
        let rules: CacheRules = [rule("dh", "registry-1.docker.io", None), rule("dh/x", "quay.io", None)]
            .into_iter()
            .collect::<CacheRules>()
            .with_options([("dh".parse().unwrap(), options)]);
        for (name, admitted) in [
            ("dh/nginx", true),
            ("dh/library/nginx", true),
            ("dh/team/app", true),
            ("dh/team/secret-app", false),
            ("dh/other/app", false),
            ("dh/x/other/app", true),
        ] {
            let target = rules.resolve(&name.parse().unwrap());
            assert_eq!(target.origin.is_some(), admitted, "{name}");
            assert_eq!(target.filtered_by.as_ref().map(Prefix::as_str), (!admitted).then_some("dh"), "{name}");
        }
    }

    #[test]
    fn a_name_that_no_rule_covers_has_no_origin() {
        let rules: CacheRules = [rule("quay", "quay.io", None)].into_iter().collect();
        for name in ["own/app", "quay", "quayx/y"] {
            assert_eq!(rules.resolve(&name.parse().unwrap()).origin, None, "{name}");
        }
    }
}

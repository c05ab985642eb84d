//! Repository creation templates: what a repository that nobody created explicitly is made of (`ecr-api.md` §5.2).

use std::collections::BTreeMap;

use flotilla_base::Timestamp;
use flotilla_oci::Name;
use serde::{Deserialize, Serialize};

use crate::{Prefix, Refusal, RepositoryCreation, repository::RepositorySettings};

/// Why a repository comes to be without a CreateRepository call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scenario {
    PullThroughCache,
    Replication,
    CreateOnPush,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub prefix: Prefix,
    pub description: Option<String>,
    pub settings: RepositorySettings,
    /// As sent, without repetitions.
    pub applied_for: Vec<Scenario>,
    pub custom_role_arn: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Every template, by prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<Prefix, Template>);

impl FromIterator<Template> for Templates {
    fn from_iter<I: IntoIterator<Item = Template>>(templates: I) -> Self {
        Self(templates.into_iter().map(|template| (template.prefix.clone(), template)).collect())
    }
}

impl Templates {
    pub fn get(&self, prefix: &Prefix) -> Option<&Template> {
        self.0.get(prefix)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        self.0.values()
    }

    /// The template for a repository that does not exist yet: among those applied for `scenario`, the longest prefix
    /// that covers the name, `ROOT` last.
    pub fn covering(&self, name: &Name, scenario: Scenario) -> Option<&Template> {
        let applied = self.0.values().filter(|template| template.applied_for.contains(&scenario));
        applied.filter(|template| template.prefix.rest(name).is_some()).max_by_key(|t| t.prefix.precedence())
    }

    /// What such a repository is created with.
    ///
    /// # Errors
    /// [`Refusal::NoTemplate`] when no template covers it and the scenario, or the cluster's setting, demands one.
    pub fn settings_for(
        &self,
        name: &Name,
        scenario: Scenario,
        creation: RepositoryCreation,
    ) -> Result<RepositorySettings, Refusal> {
        match (self.covering(name, scenario), scenario, creation) {
            (Some(template), _, _) => Ok(template.settings.clone()),
            (None, Scenario::CreateOnPush, _) | (None, _, RepositoryCreation::TemplateRequired) => {
                Err(Refusal::NoTemplate(name.clone()))
            }
            (None, _, RepositoryCreation::Defaults) => Ok(RepositorySettings::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Mutability;

    fn template(prefix: &str, applied_for: &[Scenario], mutability: Mutability) -> Template {
        Template {
            prefix: prefix.parse().unwrap(),
            description: None,
            settings: RepositorySettings { mutability, ..RepositorySettings::default() },
            applied_for: applied_for.to_vec(),
            custom_role_arn: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    #[test]
    fn the_longest_prefix_among_the_applied_wins() {
        use Scenario::{CreateOnPush, PullThroughCache};
        let templates: Templates = [
            template("ROOT", &[PullThroughCache], Mutability::Mutable),
            template("prod", &[PullThroughCache], Mutability::Immutable),
            template("prod/push", &[CreateOnPush], Mutability::MutableExcept(Vec::new())),
        ]
        .into_iter()
        .collect();
        for (name, scenario, prefix) in [
            ("prod/x", PullThroughCache, Some("prod")),
            ("prod/push/x", PullThroughCache, Some("prod")),
            ("prod/push/x", CreateOnPush, Some("prod/push")),
            ("production/x", PullThroughCache, Some("ROOT")),
            ("prod", PullThroughCache, Some("ROOT")),
            ("other/x", CreateOnPush, None),
        ] {
            let found = templates.covering(&name.parse().unwrap(), scenario);
            assert_eq!(found.map(|template| template.prefix.as_str()), prefix, "{name} {scenario:?}");
        }
    }

    #[test]
    fn without_a_template_pull_through_has_defaults_and_push_is_refused() {
        let name: Name = "a/b".parse().unwrap();
        let none = Templates::default();
        let settings = |scenario, creation| none.settings_for(&name, scenario, creation);
        assert!(settings(Scenario::PullThroughCache, RepositoryCreation::Defaults).is_ok());
        assert!(settings(Scenario::PullThroughCache, RepositoryCreation::TemplateRequired).is_err());
        assert!(settings(Scenario::CreateOnPush, RepositoryCreation::Defaults).is_err());
    }
}

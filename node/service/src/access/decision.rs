//! May he? A pure function of a few facts, so that every case of it fits into a table.
//!
//! Invariant: what is not listed is denied, for every kind of principal but root.

use flotilla_oci::Name;
use flotilla_registry::{
    Glob, Prefix,
    access::{Action, Resource},
};

use super::Anonymous;

/// What robots and anonymous callers may ask for.
const READS: [&str; 7] = [
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchCheckLayerAvailability",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:ListImages",
    "ecr:ListTagsForResource",
];

/// What a pull through a rule brings about. Nobody but root may ask for it by itself.
const CREATE: &str = "ecr:CreateRepository";
const IMPORTS: [&str; 2] = ["ecr:BatchImportUpstreamImage", CREATE];

/// Actions of robots that concern no repository. The list of repositories is cut to what they may see.
const OF_REGISTRY: [&str; 3] = ["ecr:GetAuthorizationToken", "sts:GetCallerIdentity", "ecr:DescribeRepositories"];

/// Why an action happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The caller asks for exactly this.
    Call,
    /// It comes with a pull.
    Pull,
}

/// Who asks, with all that a decision about him needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'a> {
    Root,
    Robot {
        repositories: &'a [Glob],
        expired: bool,
    },
    Anonymous(AnonymousFacts<'a>),
    /// A kind of principal, or a principal, that is not known here.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct AnonymousFacts<'a> {
    pub(super) config: &'a Anonymous,
    /// He comes from where anonymous callers are served.
    pub(super) is_near: bool,
    /// The rule that covers the repository in question.
    pub(super) rule: Option<RuleFacts<'a>>,
    /// Something in the repository came through a rule with a credential.
    pub(super) is_private: bool,
    pub(super) exists: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RuleFacts<'a> {
    pub(super) prefix: &'a Prefix,
    pub(super) has_credential: bool,
    pub(super) anonymous_allowed: bool,
}

/// Why not. For the node's own log, and for root who asks: other callers are told what they may not do, and not why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("no such principal")]
    Principal,
    #[error("the principal has expired")]
    Expired,
    #[error("the principal may only pull")]
    Action,
    #[error("the repository is none of the principal's")]
    Repository,
    #[error("anonymous callers are not served here")]
    NotServed,
    #[error("the repository is covered by no rule in access.anonymous.rules")]
    Rule,
    #[error("the rule of the repository has a credential")]
    Credential,
    #[error("content of the repository came through a rule with a credential")]
    Private,
    #[error("anonymous callers may not create repositories")]
    Create,
}

impl Denial {
    /// What an operator can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Principal => "`flotilla key list` names the robots; else there are `root` and `anonymous`",
            Self::Expired => "make another robot: `flotilla key create --pull-only --name NAME --expires WHEN`",
            Self::Action => "only root may do more than pull",
            Self::Repository => "none of the robot's globs matches the name: `flotilla key create --repositories GLOB`",
            Self::NotServed => {
                "access.anonymous.pull lets them in, from the addresses in access.anonymous.networks; or sign in"
            }
            Self::Rule => "add the rule's prefix to access.anonymous.rules, or sign in",
            Self::Credential => "`flotilla rule set PREFIX --anonymous` opens it to everybody; or sign in",
            Self::Private => "what a credential has fetched stays closed to anonymous callers; sign in",
            Self::Create => "access.anonymous.create_repositories lets them; or pull it once after signing in",
        }
    }
}

pub(super) fn decide(who: &Who<'_>, action: Action, cause: Cause, on: &Resource) -> Result<(), Denial> {
    match who {
        Who::Root => Ok(()),
        Who::Unknown => Err(Denial::Principal),
        Who::Robot { expired: true, .. } => Err(Denial::Expired),
        Who::Robot { repositories, .. } => match on {
            Resource::Repository(name) => {
                pulls(action, cause)?;
                admits(repositories, name)
            }
            Resource::Registry | Resource::Cluster if OF_REGISTRY.contains(&action.0) => Ok(()),
            Resource::Registry | Resource::Cluster | Resource::Secret(_) => Err(Denial::Action),
        },
        Who::Anonymous(facts) if !facts.is_near => Err(Denial::NotServed),
        Who::Anonymous(facts) => match on {
            Resource::Repository(_) => {
                pulls(action, cause)?;
                opens(facts)?;
                let may_create = facts.config.create_repositories || facts.exists;
                if action.0 == CREATE && !may_create { Err(Denial::Create) } else { Ok(()) }
            }
            Resource::Registry if action.0 == "ecr:DescribeRepositories" => Ok(()),
            Resource::Registry | Resource::Cluster | Resource::Secret(_) => Err(Denial::Action),
        },
    }
}

fn pulls(action: Action, cause: Cause) -> Result<(), Denial> {
    let is_import = cause == Cause::Pull && IMPORTS.contains(&action.0);
    if READS.contains(&action.0) || is_import { Ok(()) } else { Err(Denial::Action) }
}

fn admits(repositories: &[Glob], name: &Name) -> Result<(), Denial> {
    let is_listed = repositories.is_empty() || repositories.iter().any(|glob| glob.matches(name.as_str()));
    if is_listed { Ok(()) } else { Err(Denial::Repository) }
}

/// A credential's content is open to anonymous callers only where its rule says so; what came through a rule that is gone
/// or covers it no more asks that of the rule that does now.
fn opens(facts: &AnonymousFacts<'_>) -> Result<(), Denial> {
    if let Some(prefixes) = &facts.config.rules
        && !facts.rule.is_some_and(|rule| prefixes.contains(rule.prefix))
    {
        return Err(Denial::Rule);
    }
    match facts.rule.filter(|rule| rule.has_credential) {
        Some(rule) if rule.anonymous_allowed => Ok(()),
        Some(_) => Err(Denial::Credential),
        None if facts.is_private => Err(Denial::Private),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Resource {
        Resource::Repository(name.parse().unwrap())
    }

    /// Every action that a door asks for, and some that none does yet.
    const REST: [&str; 14] = [
        "ecr:DeleteRepository",
        "ecr:BatchDeleteImage",
        "ecr:PutImage",
        "ecr:InitiateLayerUpload",
        "ecr:PutImageTagMutability",
        "ecr:TagResource",
        "ecr:GetRepositoryPolicy",
        "ecr:DescribePullThroughCacheRules",
        "ecr:CreatePullThroughCacheRule",
        "ecr:DeletePullThroughCacheRule",
        "secretsmanager:GetSecretValue",
        "flotilla:CreateRobot",
        "flotilla:ListAccessKeys",
        "flotilla:GetStatus",
    ];

    #[test]
    fn root_may_everything_and_the_unknown_nothing() {
        for action in READS.into_iter().chain(IMPORTS).chain(REST) {
            for on in [Resource::Registry, Resource::Cluster, Resource::Secret("s".into()), repository("a/b")] {
                assert_eq!(decide(&Who::Root, Action(action), Cause::Call, &on), Ok(()));
                assert_eq!(decide(&Who::Unknown, Action(action), Cause::Pull, &on), Err(Denial::Principal));
            }
        }
    }

    #[test]
    fn a_robot_pulls_what_is_its_own_and_does_nothing_else() {
        let globs = [Glob("hub/team-*".into()), Glob("own/app".into())];
        let robot = Who::Robot { repositories: &globs, expired: false };
        let may = |action, cause, on: &Resource| decide(&robot, Action(action), cause, on);
        let (own, foreign) = (repository("hub/team-a/x"), repository("hub/other"));
        for action in READS {
            assert_eq!(may(action, Cause::Call, &own), Ok(()), "{action}");
            assert_eq!(may(action, Cause::Call, &foreign), Err(Denial::Repository), "{action}");
        }
        for action in IMPORTS {
            assert_eq!(may(action, Cause::Pull, &own), Ok(()), "{action}");
            assert_eq!(may(action, Cause::Call, &own), Err(Denial::Action), "{action} by itself");
            assert_eq!(may(action, Cause::Pull, &foreign), Err(Denial::Repository), "{action}");
            assert_eq!(may(action, Cause::Pull, &Resource::Registry), Err(Denial::Action), "{action}");
        }
        for action in REST {
            for on in [&own, &Resource::Registry, &Resource::Cluster] {
                assert_eq!(may(action, Cause::Pull, on), Err(Denial::Action), "{action}");
            }
        }
        for action in OF_REGISTRY {
            assert_eq!(may(action, Cause::Call, &Resource::Registry), Ok(()), "{action}");
        }
        assert_eq!(may("ecr:ListImages", Cause::Call, &repository("own/app")), Ok(()));
        assert_eq!(may("ecr:ListImages", Cause::Call, &repository("own/app2")), Err(Denial::Repository));
        let all = Who::Robot { repositories: &[], expired: false };
        assert_eq!(decide(&all, Action("ecr:ListImages"), Cause::Call, &foreign), Ok(()));
        let expired = Who::Robot { repositories: &[], expired: true };
        for action in READS.into_iter().chain(OF_REGISTRY) {
            assert_eq!(decide(&expired, Action(action), Cause::Call, &foreign), Err(Denial::Expired), "{action}");
        }
    }

    #[test]
    fn anonymous_callers_pull_what_is_open_from_where_they_are_served() {
        let (hub, team) = ("hub".parse().unwrap(), "team".parse().unwrap());
        let rule =
            |prefix, has_credential, anonymous_allowed| Some(RuleFacts { prefix, has_credential, anonymous_allowed });
        let open = Anonymous { pull: true, ..Anonymous::default() };
        let some = Anonymous { rules: Some(vec!["hub".parse().unwrap()]), ..open.clone() };
        let none = Anonymous { rules: Some(vec![]), ..open.clone() };
        let plain = AnonymousFacts {
            config: &open,
            is_near: true,
            rule: rule(&hub, false, false),
            is_private: false,
            exists: false,
        };
        for (facts, verdict) in [
            (plain, Ok(())),
            (AnonymousFacts { rule: None, ..plain }, Ok(())),
            (AnonymousFacts { is_near: false, ..plain }, Err(Denial::NotServed)),
            (AnonymousFacts { rule: rule(&hub, true, false), ..plain }, Err(Denial::Credential)),
            (AnonymousFacts { rule: rule(&hub, true, true), ..plain }, Ok(())),
            (AnonymousFacts { rule: rule(&hub, true, true), is_private: true, ..plain }, Ok(())),
            // The rule that sealed it is gone, replaced, or covered by a longer one.
            (AnonymousFacts { is_private: true, ..plain }, Err(Denial::Private)),
            (AnonymousFacts { rule: None, is_private: true, ..plain }, Err(Denial::Private)),
            // That anonymous callers may use a rule with a credential says nothing where it has none.
            (AnonymousFacts { rule: rule(&hub, false, true), is_private: true, ..plain }, Err(Denial::Private)),
            (AnonymousFacts { config: &some, ..plain }, Ok(())),
            (AnonymousFacts { config: &some, rule: rule(&team, false, false), ..plain }, Err(Denial::Rule)),
            (AnonymousFacts { config: &some, rule: None, ..plain }, Err(Denial::Rule)),
            (AnonymousFacts { config: &some, rule: rule(&hub, true, false), ..plain }, Err(Denial::Credential)),
            (AnonymousFacts { config: &none, ..plain }, Err(Denial::Rule)),
        ] {
            for action in READS {
                let decided = decide(&Who::Anonymous(facts), Action(action), Cause::Call, &repository("hub/a"));
                assert_eq!(decided, verdict, "{action} {facts:?}");
            }
            for action in IMPORTS {
                let decided = decide(&Who::Anonymous(facts), Action(action), Cause::Pull, &repository("hub/a"));
                assert_eq!(decided, verdict, "{action} {facts:?}");
            }
        }
        let may = |action, cause, on: &Resource| decide(&Who::Anonymous(plain), Action(action), cause, on);
        for action in REST.into_iter().chain(["ecr:GetAuthorizationToken", "sts:GetCallerIdentity"]) {
            for on in [&repository("hub/a"), &Resource::Registry, &Resource::Cluster] {
                assert_eq!(may(action, Cause::Pull, on), Err(Denial::Action), "{action}");
            }
        }
        assert_eq!(may(CREATE, Cause::Call, &repository("hub/a")), Err(Denial::Action));
        assert_eq!(may("ecr:DescribeRepositories", Cause::Call, &Resource::Registry), Ok(()));
    }

    #[test]
    fn who_may_not_create_repositories_pulls_those_that_are_there() {
        let config = Anonymous { pull: true, create_repositories: false, ..Anonymous::default() };
        let hub = "hub".parse().unwrap();
        let rule = Some(RuleFacts { prefix: &hub, has_credential: false, anonymous_allowed: false });
        for (exists, verdict) in [(true, Ok(())), (false, Err(Denial::Create))] {
            let facts = AnonymousFacts { config: &config, is_near: true, rule, is_private: false, exists };
            let decided = decide(&Who::Anonymous(facts), Action(CREATE), Cause::Pull, &repository("hub/a"));
            assert_eq!(decided, verdict);
            let import = Action("ecr:BatchImportUpstreamImage");
            assert_eq!(decide(&Who::Anonymous(facts), import, Cause::Pull, &repository("hub/a")), Ok(()));
        }
    }
}

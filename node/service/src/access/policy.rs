//! The facts of a decision, read from the view.

use std::{net::IpAddr, sync::Arc, time::Duration};

use flotilla_base::{LogIndex, store::StoreError};
use flotilla_oci::Name;
use flotilla_registry::access::{Action, PrincipalArn, Resource, Robot};
use flotilla_runtime::{Clock, Published, Recent};
use flotilla_state::View;

use super::{
    Anonymous,
    decision::{AnonymousFacts, Cause, Denial, RuleFacts, Who, decide},
};
use crate::Caller;

/// As many as there may be.
const ROBOTS: usize = 1000;

/// The state changes about once in it even where nothing happens.
const ROBOT_KNOWN: Duration = Duration::from_secs(60);

/// Shared by all who decide.
pub(crate) struct Policy {
    clock: Clock,
    view: Published<View>,
    anonymous: Anonymous,
    /// By name, with the state that each was read under: it counts under no other.
    robots: Recent<String, (LogIndex, Arc<Robot>)>,
}

/// A principal as the state knows it.
enum Known {
    Root,
    Robot(Arc<Robot>),
    Anonymous,
    Unknown,
}

/// What one caller may see of many repositories.
pub(crate) struct Viewer<'a> {
    policy: &'a Policy,
    view: Arc<View>,
    known: Known,
    source: Option<IpAddr>,
}

impl Policy {
    pub(super) fn new(clock: Clock, view: Published<View>, anonymous: Anonymous) -> Self {
        Self { clock, view, anonymous, robots: Recent::new(ROBOTS) }
    }

    pub(super) fn anonymous(&self) -> &Anonymous {
        &self.anonymous
    }

    /// Decides on all of `actions`, which are done to one thing; the first that is denied is told.
    pub(super) fn decide(
        &self,
        caller: &Caller,
        actions: &[Action],
        cause: Cause,
        on: &Resource,
    ) -> Result<Result<(), (Action, Denial)>, StoreError> {
        let viewer = self.viewer(caller)?;
        let name = if let Resource::Repository(name) = on { Some(name) } else { None };
        viewer.with(name, |who| {
            let denied = |action| decide(who, action, cause, on).err().map(|denial| (action, denial));
            actions.iter().copied().find_map(denied).map_or(Ok(()), Err)
        })
    }

    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn viewer(&self, caller: &Caller) -> Result<Viewer<'_>, StoreError> {
        let view = self.view.load();
        let known = self.known(&view, &caller.principal)?;
        Ok(Viewer { policy: self, view, known, source: caller.source_ip })
    }

    fn known(&self, view: &View, principal: &PrincipalArn) -> Result<Known, StoreError> {
        let account = &view.settings.account_id;
        if principal.is_root(account) {
            return Ok(Known::Root);
        }
        if principal.is_anonymous() {
            return Ok(Known::Anonymous);
        }
        let robot = match principal.user_of(account) {
            Some(name) => self.robot(view, name)?,
            None => None,
        };
        Ok(robot.map_or(Known::Unknown, Known::Robot))
    }

    fn robot(&self, view: &View, name: &str) -> Result<Option<Arc<Robot>>, StoreError> {
        if let Some((_, robot)) = self.robots.get(name).filter(|(under, _)| *under == view.applied) {
            return Ok(Some(robot));
        }
        let robot = view.tables().robot(name)?.map(Arc::new);
        if let Some(robot) = &robot {
            self.robots.put(name.to_owned(), (view.applied, robot.clone()), ROBOT_KNOWN);
        }
        Ok(robot)
    }

    pub(super) fn is_expired(&self, robot: &Robot) -> bool {
        robot.expires_at.is_some_and(|expires_at| expires_at <= self.clock.now())
    }
}

impl Viewer<'_> {
    pub(crate) fn sees_all(&self) -> bool {
        matches!(self.known, Known::Root)
    }

    /// Whether the caller may know of the repository.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn sees(&self, name: &Name) -> Result<bool, StoreError> {
        let action = Action("ecr:DescribeRepositories");
        let on = Resource::Repository(name.clone());
        self.with(Some(name), |who| decide(who, action, Cause::Call, &on).is_ok())
    }

    /// `about` with the caller's facts, as far as they concern `name`.
    fn with<T>(&self, name: Option<&Name>, about: impl FnOnce(&Who<'_>) -> T) -> Result<T, StoreError> {
        Ok(match &self.known {
            Known::Root => about(&Who::Root),
            Known::Unknown => about(&Who::Unknown),
            Known::Robot(robot) => {
                let expired = self.policy.is_expired(robot);
                about(&Who::Robot { repositories: &robot.repositories, expired })
            }
            Known::Anonymous => about(&Who::Anonymous(self.anonymous(name)?)),
        })
    }

    fn anonymous(&self, name: Option<&Name>) -> Result<AnonymousFacts<'_>, StoreError> {
        let config = &self.policy.anonymous;
        let is_near = config.serves(self.source);
        let facts = AnonymousFacts { config, is_near, rule: None, is_private: false, exists: true };
        let Some(name) = name.filter(|_| is_near) else { return Ok(facts) };
        let rules = &self.view.rules;
        let rule = rules.rule_of(name).map(|rule| RuleFacts {
            prefix: &rule.prefix,
            has_credential: rule.credential_arn.is_some(),
            anonymous_allowed: rules.options(&rule.prefix).anonymous_allowed,
        });
        let tables = self.view.tables();
        // Most nodes let them create: then nobody asks.
        let exists = config.create_repositories || tables.repository(name)?.is_some();
        Ok(AnonymousFacts { rule, is_private: tables.is_private(name)?, exists, ..facts })
    }
}

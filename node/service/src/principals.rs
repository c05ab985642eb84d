//! Robots, and the access keys of all.

use std::sync::Arc;

use flotilla_base::{Secret, Timestamp};
use flotilla_registry::{
    Glob, Refusal,
    access::{AccessKey, PrincipalArn, Robot},
};
use flotilla_runtime::{Clock, Entropy, Published};
use flotilla_state::{Op, Outcome, View};
use flotilla_storage::Keyring;

use crate::{ACCESS_KEY_PURPOSE, Parts, Permit, ServiceError, proposer::Proposer};

/// Both alphabets have a length that divides 256, so that letters are uniform.
const ID_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub struct Principals {
    view: Published<View>,
    keyring: Arc<Keyring>,
    entropy: Entropy,
    clock: Clock,
    proposer: Proposer,
}

/// A key with its secret, which is never told again.
pub struct NewKey {
    pub id: String,
    pub secret: Secret,
    pub principal: PrincipalArn,
}

/// A robot as lists show it.
#[derive(Clone, Debug)]
pub struct RobotView {
    pub robot: Robot,
    pub principal: PrincipalArn,
    pub is_expired: bool,
}

impl Principals {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        Self {
            view: parts.view.clone(),
            keyring: parts.keyring.clone(),
            entropy: parts.host.entropy.clone(),
            clock: parts.host.clock.clone(),
            proposer,
        }
    }

    /// A robot with its first key.
    ///
    /// # Errors
    /// `Refused(RobotExists)`, `Refused(Limit)`, `Invalid` for an end that is past.
    pub async fn create_robot(
        &self,
        permit: Permit<'_>,
        name: &str,
        repositories: Vec<Glob>,
        expires_at: Option<Timestamp>,
    ) -> Result<(Robot, NewKey), ServiceError> {
        if expires_at.is_some_and(|expires_at| expires_at <= self.clock.now()) {
            return Err(ServiceError::Invalid { member: "expiresAt", why: "must be in the future".into() });
        }
        let created_at = self.clock.now();
        let robot = Robot { name: name.to_owned(), repositories, expires_at, created_at };
        let (key, new) = self.make_key(PrincipalArn::user(&self.view.load().settings.account_id, name));
        let op = Op::CreateRobot { robot: Box::new(robot), key: Box::new(key) };
        match self.proposer.propose_unmarked(permit, op).await? {
            Outcome::Robot(robot) => Ok((*robot, new)),
            _ => Err(ServiceError::Unexpected("CreateRobot")),
        }
    }

    /// Robots after `after` in the order of their names, at most `limit`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn list_robots(
        &self,
        _: Permit<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<RobotView>, ServiceError> {
        let view = self.view.load();
        let now = self.clock.now();
        let shown = |robot: Robot| RobotView {
            principal: PrincipalArn::user(&view.settings.account_id, &robot.name),
            is_expired: robot.expires_at.is_some_and(|expires_at| expires_at <= now),
            robot,
        };
        Ok(view.tables().robots(after, limit)?.into_iter().map(shown).collect())
    }

    /// Its keys and all their tokens end at once.
    ///
    /// # Errors
    /// `Refused(NoRobot)`.
    pub async fn delete_robot(&self, permit: Permit<'_>, name: &str) -> Result<(), ServiceError> {
        self.proposer.propose(permit, Op::DeleteRobot { name: name.to_owned() }).await?;
        Ok(())
    }

    /// Keys after `after` in the order of their ids, at most `limit`. Their secrets are sealed, and stay here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn list_keys(
        &self,
        _: Permit<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<AccessKey>, ServiceError> {
        Ok(self.view.load().tables().access_keys(after, limit)?)
    }

    /// Another key of a robot, or of root.
    ///
    /// # Errors
    /// `Refused(NoRobot)`, `Refused(Limit)`.
    pub async fn create_key(&self, permit: Permit<'_>, robot: Option<&str>) -> Result<NewKey, ServiceError> {
        let account_id = self.view.load().settings.account_id.clone();
        let principal = match robot {
            Some(name) => PrincipalArn::user(&account_id, name),
            None => PrincipalArn::root(&account_id),
        };
        let (key, new) = self.make_key(principal);
        self.proposer.propose_unmarked(permit, Op::PutAccessKey(Box::new(key))).await?;
        Ok(new)
    }

    /// Tokens of before end with either change.
    ///
    /// # Errors
    /// `Refused(NoAccessKey)`, `Refused(LastRootKey)`, `Refused(Moved)` when it changed meanwhile.
    pub async fn set_key_enabled(
        &self,
        permit: Permit<'_>,
        id: &str,
        enabled: bool,
    ) -> Result<AccessKey, ServiceError> {
        let lookup = || self.view.load().tables().access_key(id);
        let mut held = lookup()?;
        if held.is_none() {
            self.proposer.barrier().await?;
            held = lookup()?;
        }
        let held = held.ok_or_else(|| Refusal::NoAccessKey(id.to_owned()))?;
        if held.enabled == enabled {
            return Ok(held);
        }
        let changed = AccessKey { enabled, generation: held.generation.saturating_add(1), ..held };
        self.proposer.propose(permit, Op::PutAccessKey(Box::new(changed.clone()))).await?;
        Ok(changed)
    }

    /// With all its tokens.
    ///
    /// # Errors
    /// `Refused(NoAccessKey)`, `Refused(LastRootKey)`.
    pub async fn delete_key(&self, permit: Permit<'_>, id: &str) -> Result<(), ServiceError> {
        self.proposer.propose(permit, Op::DeleteAccessKey { id: id.to_owned() }).await?;
        Ok(())
    }

    fn make_key(&self, principal: PrincipalArn) -> (AccessKey, NewKey) {
        let id = format!("AKIA{}", self.letters::<16>(ID_LETTERS));
        let secret = Secret::from(self.letters::<40>(SECRET_LETTERS));
        let key = AccessKey {
            id: id.clone(),
            principal: principal.clone(),
            secret: self.keyring.seal(ACCESS_KEY_PURPOSE, secret.expose()),
            generation: 1,
            enabled: true,
            // Stamped when it is applied.
            created_at: Timestamp::default(),
        };
        (key, NewKey { id, secret, principal })
    }

    fn letters<const N: usize>(&self, alphabet: &[u8]) -> String {
        let random: [u8; N] = self.entropy.bytes();
        random.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
    }
}

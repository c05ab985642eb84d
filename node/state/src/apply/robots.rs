//! Principals that may only pull, and the keys of all.

use flotilla_registry::{
    Refusal,
    access::{AccessKey, PrincipalArn, Robot},
};

use super::{Applier, Halt};
use crate::{
    Outcome,
    format::{ACCESS_KEYS, ROBOTS},
};

const ROBOTS_MAX: usize = 1000;

/// As many as AWS gives a user: the one in use, and the one that takes its place.
const ROBOT_KEYS_MAX: usize = 2;

/// Root's are used by machines of the operator's own, too.
const ROOT_KEYS_MAX: usize = 10;

/// Keys that are looked through for those of one principal: robots have one each, and root a few.
const KEYS_MAX: usize = 1000;

impl Applier<'_, '_> {
    pub(super) fn create_robot(&mut self, robot: Robot, key: AccessKey) -> Result<Outcome, Halt> {
        if self.tables().robot(&robot.name)?.is_some() {
            return Err(Refusal::RobotExists(robot.name).into());
        }
        if self.tables().robots(None, ROBOTS_MAX)?.len() >= ROBOTS_MAX {
            return Err(Refusal::Limit { what: "robots".into(), limit: ROBOTS_MAX as u64 }.into());
        }
        let robot = Robot { created_at: self.meta.time, ..robot };
        self.put_access_key(&AccessKey { created_at: self.meta.time, ..key })?;
        self.put(ROBOTS, robot.name.clone().into_bytes(), &robot)?;
        Ok(Outcome::Robot(Box::new(robot)))
    }

    /// A new key has generation 1; a change names the next one, so that a change of what is gone or was changed meanwhile
    /// brings nothing back.
    pub(super) fn change_access_key(&mut self, key: AccessKey) -> Result<Outcome, Halt> {
        let root = PrincipalArn::root(&self.tables().settings()?.account_id);
        let held = self.tables().access_key(&key.id)?;
        let created_at = match &held {
            None if key.generation > 1 => return Err(Refusal::NoAccessKey(key.id).into()),
            None => {
                self.make_room(&key.principal, &root)?;
                self.meta.time
            }
            Some(held) if held.generation.checked_add(1) != Some(key.generation) || key.principal != held.principal => {
                return Err(Refusal::Moved.into());
            }
            Some(held) => held.created_at,
        };
        if !key.enabled && key.principal == root && !self.has_another(&root, &key.id)? {
            return Err(Refusal::LastRootKey(key.id).into());
        }
        self.put_access_key(&AccessKey { created_at, ..key })
    }

    /// For a new key of `principal`, which must be root or a robot that is there.
    fn make_room(&self, principal: &PrincipalArn, root: &PrincipalArn) -> Result<(), Halt> {
        let limit = match principal.user_name() {
            Some(name) if self.tables().robot(name)?.is_none() => return Err(Refusal::NoRobot(name.to_owned()).into()),
            Some(_) => ROBOT_KEYS_MAX,
            None if principal == root => ROOT_KEYS_MAX,
            None => return Err(Refusal::NoRobot(principal.to_string()).into()),
        };
        if self.keys_of(principal)?.len() >= limit {
            return Err(Refusal::Limit { what: "access keys of one principal".into(), limit: limit as u64 }.into());
        }
        Ok(())
    }

    /// Whether `principal` could sign in without the key `id`.
    fn has_another(&self, principal: &PrincipalArn, id: &str) -> Result<bool, Halt> {
        Ok(self.keys_of(principal)?.iter().any(|other| other.id != id && other.enabled))
    }

    pub(super) fn delete_robot(&mut self, name: String) -> Result<Outcome, Halt> {
        let Some(robot) = self.tables().robot(&name)? else { return Err(Refusal::NoRobot(name).into()) };
        let account_id = self.tables().settings()?.account_id;
        for key in self.keys_of(&PrincipalArn::user(&account_id, &name))? {
            self.remove(ACCESS_KEYS, key.id.into_bytes())?;
        }
        self.remove(ROBOTS, name.into_bytes())?;
        Ok(Outcome::Robot(Box::new(robot)))
    }

    /// Never the last one that root can use: nobody could give it another.
    pub(super) fn delete_access_key(&mut self, id: String) -> Result<Outcome, Halt> {
        let Some(key) = self.tables().access_key(&id)? else { return Err(Refusal::NoAccessKey(id).into()) };
        let root = PrincipalArn::root(&self.tables().settings()?.account_id);
        if key.principal == root && !self.has_another(&root, &id)? {
            return Err(Refusal::LastRootKey(id).into());
        }
        self.remove(ACCESS_KEYS, id.into_bytes())?;
        Ok(Outcome::Done)
    }

    fn keys_of(&self, principal: &PrincipalArn) -> Result<Vec<AccessKey>, Halt> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.tables().access_keys(after.as_deref(), KEYS_MAX)?;
            let Some(last) = page.last() else { return Ok(keys) };
            after = Some(last.id.clone());
            keys.extend(page.into_iter().filter(|key| key.principal == *principal));
        }
    }
}

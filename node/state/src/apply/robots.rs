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
        if key.principal == root && !self.keys_of(&root)?.iter().any(|other| other.id != id && other.enabled) {
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

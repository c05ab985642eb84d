//! Upstream credentials. What a change means is decided where it was asked for; here it is made from the revision that
//! was read, or not at all.

use flotilla_base::store::StoreError;
use flotilla_registry::{
    Refusal,
    secret::{Secret, SecretId},
};

use super::{Applier, Halt};
use crate::{Outcome, format::SECRETS};

/// All of them are looked through at each tick.
const SECRETS_MAX: usize = 1000;

impl Applier<'_, '_> {
    pub(super) fn put_secret(&mut self, expect_revision: u64, secret: Secret) -> Result<Outcome, Halt> {
        match self.tables().secret(&secret.name)? {
            Some(existing) if expect_revision == 0 => Err(Refusal::SecretExists(existing.name).into()),
            Some(existing) if existing.revision != expect_revision || existing.suffix != secret.suffix => {
                Err(Refusal::Moved.into())
            }
            Some(existing) => {
                // Which upstream it belongs to is the rules' to say, and only once.
                let pinned_host = existing.pinned_host.clone();
                let (created_at, changed_at) = (existing.created_at, self.meta.time);
                if existing.current() != secret.current() || existing.is_deleted() != secret.is_deleted() {
                    self.renew_rules(&existing)?;
                }
                self.write_secret(Secret { pinned_host, created_at, changed_at, ..secret })
            }
            None if expect_revision != 0 => Err(Refusal::NoSecret(secret.name).into()),
            None if self.tables().secrets(None, SECRETS_MAX)?.len() >= SECRETS_MAX => {
                Err(Refusal::Limit { what: "secrets".into(), limit: SECRETS_MAX as u64 }.into())
            }
            None => {
                let now = self.meta.time;
                self.write_secret(Secret { pinned_host: None, created_at: now, changed_at: now, revision: 0, ..secret })
            }
        }
    }

    pub(super) fn delete_secret(&mut self, name: &str, expect_revision: u64) -> Result<Outcome, Halt> {
        let Some(secret) = self.tables().secret(name)? else { return Err(Refusal::NoSecret(name.to_owned()).into()) };
        if secret.revision != expect_revision {
            return Err(Refusal::Moved.into());
        }
        self.renew_rules(&secret)?;
        self.remove(SECRETS, name.as_bytes().to_vec())?;
        Ok(Outcome::Secret(Box::new(secret)))
    }

    /// A rule names a secret: it must be there, and belong to no other upstream.
    pub(super) fn pin_secret(&mut self, id: &str, host: &str) -> Result<(), Halt> {
        let Some(secret) = self.tables().secret_by_id(id)? else { return Err(Refusal::NoSecret(id.to_owned()).into()) };
        if secret.is_deleted() {
            return Err(Refusal::SecretDeleted(secret.name).into());
        }
        match &secret.pinned_host {
            Some(pinned) if pinned == host => Ok(()),
            Some(pinned) => Err(Refusal::SecretPinned { host: pinned.clone(), secret: secret.name }.into()),
            None => {
                self.write_secret(Secret { pinned_host: Some(host.to_owned()), ..secret })?;
                Ok(())
            }
        }
    }

    /// What was asked, refused or proven with the account of before is asked again.
    fn renew_rules(&mut self, secret: &Secret) -> Result<(), Halt> {
        for rule in self.tables().rules()?.iter() {
            let names = |id: &String| SecretId::readings(id).iter().any(|reading| reading.is(secret));
            if rule.credential_arn.as_ref().is_some_and(names) {
                self.renew_rule(rule.clone())?;
            }
        }
        Ok(())
    }

    /// What was deleted longer ago than its recovery window.
    pub(super) fn purge_secrets(&mut self) -> Result<(), StoreError> {
        let now = self.meta.time;
        for secret in self.tables().secrets(None, SECRETS_MAX)? {
            if secret.deletion.is_some_and(|deletion| deletion.purge_at <= now) {
                self.remove(SECRETS, secret.name.into_bytes())?;
            }
        }
        Ok(())
    }

    fn write_secret(&mut self, secret: Secret) -> Result<Outcome, Halt> {
        let secret = Secret { revision: secret.revision + 1, ..secret };
        self.put(SECRETS, secret.name.clone().into_bytes(), &secret)?;
        Ok(Outcome::Secret(Box::new(secret)))
    }
}

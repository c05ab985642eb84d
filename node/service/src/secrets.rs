//! Upstream credentials as Secrets Manager keeps them. Values are sealed before they reach the log and opened for
//! [`Secrets::value`] alone; the upstream client has its own way to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_registry::{
    Refusal,
    secret::{self, CURRENT, Deletion, Secret, SecretValue, SecretVersion},
};
use flotilla_runtime::{Clock, Entropy, Published};
use flotilla_state::{Op, Outcome, View};
use flotilla_storage::Keyring;
use subtle::ConstantTimeEq;

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

/// A change is made from the revision that was read; so often it is read again.
const ATTEMPTS: u32 = 8;
/// Secrets that are read at once for a listing: each may hold 56 KiB.
const LISTED_AT_ONCE: usize = 50;

#[derive(Clone, Debug, Default)]
pub struct NewSecret {
    pub name: String,
    pub description: Option<String>,
    pub kms_key_id: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub value: Option<SecretValue>,
    /// The version that the value becomes; a repeated call has the same one.
    pub token: Option<String>,
}

/// What is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct SecretUpdate {
    pub description: Option<String>,
    pub kms_key_id: Option<String>,
    pub value: Option<SecretValue>,
    pub token: Option<String>,
}

/// A version with its value.
pub struct OpenedSecret {
    pub secret: Secret,
    pub version: SecretVersion,
    pub value: SecretValue,
}

pub struct Secrets {
    clock: Clock,
    entropy: Entropy,
    view: Published<View>,
    keyring: Arc<Keyring>,
    proposer: Proposer,
}

impl Secrets {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        Self {
            clock: parts.host.clock.clone(),
            entropy: parts.host.entropy.clone(),
            view: parts.view.clone(),
            keyring: parts.keyring.clone(),
            proposer,
        }
    }

    /// The secret, and the version that its value became.
    ///
    /// # Errors
    /// `Refused(SecretExists)`, unless it is the same call again; `Refused(SecretDeleted)`, `Invalid`.
    pub async fn create(&self, permit: Permit<'_>, new: NewSecret) -> Result<(Secret, Option<String>), ServiceError> {
        let token = self.token(new.token);
        let now = self.clock.now();
        let mut secret = Secret {
            name: new.name,
            suffix: self.suffix(),
            description: new.description,
            kms_key_id: new.kms_key_id,
            tags: new.tags,
            versions: Vec::new(),
            created_at: now,
            changed_at: now,
            deletion: None,
            pinned_host: None,
            revision: 0,
        };
        let has_value = new.value.is_some();
        if let Some(value) = &new.value {
            self.add(&mut secret, value, &token, BTreeSet::new())?;
        }
        let (name, version) = (secret.name.clone(), has_value.then(|| token.clone()));
        let op = Op::PutSecret { expect_revision: 0, secret: Box::new(secret) };
        match self.propose(permit, op, has_value).await {
            Ok(secret) => Ok((secret, version)),
            Err(ServiceError::Refused(Refusal::SecretExists(_))) => {
                let existing = self.find(&name).await?;
                let same = match (&new.value, existing.versions.iter().find(|version| version.id == token)) {
                    (Some(value), Some(version)) => self.is(version, value)?,
                    _ => false,
                };
                match same {
                    _ if existing.is_deleted() => Err(Refusal::SecretDeleted(name).into()),
                    true => Ok((existing, version)),
                    false => Err(Refusal::SecretExists(name).into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// A new version with `stages`, `AWSCURRENT` when there are none. The id of the version comes with it.
    ///
    /// # Errors
    /// `Refused(NoSecret | SecretDeleted)`, `Invalid`, `SecretRequest` for a token that stands for another value.
    pub async fn put_value(
        &self,
        permit: Permit<'_>,
        id: &str,
        value: SecretValue,
        token: Option<String>,
        stages: BTreeSet<String>,
    ) -> Result<(Secret, String), ServiceError> {
        let token = self.token(token);
        let stages = if stages.is_empty() { [CURRENT.to_owned()].into() } else { stages };
        let change = |secret: &mut Secret| self.put(secret, &value, &token, stages.clone());
        let secret = self.change(permit, id, true, change).await?;
        Ok((secret, token))
    }

    /// # Errors
    /// As [`Secrets::put_value`].
    pub async fn update(
        &self,
        permit: Permit<'_>,
        id: &str,
        update: SecretUpdate,
    ) -> Result<(Secret, Option<String>), ServiceError> {
        let token = self.token(update.token);
        let change = |secret: &mut Secret| {
            let before = (secret.description.clone(), secret.kms_key_id.clone());
            secret.description = update.description.clone().or(secret.description.take());
            secret.kms_key_id = update.kms_key_id.clone().or(secret.kms_key_id.take());
            let described = before != (secret.description.clone(), secret.kms_key_id.clone());
            let put = match &update.value {
                Some(value) => self.put(secret, value, &token, [CURRENT.to_owned()].into())?,
                None => false,
            };
            Ok(described || put)
        };
        let secret = self.change(permit, id, update.value.is_some(), change).await?;
        Ok((secret, update.value.is_some().then_some(token)))
    }

    /// The version of this id and stage, the current one when neither is given.
    ///
    /// # Errors
    /// `Refused(NoSecret | SecretDeleted)`, `NoSecretVersion`, `Unseal`.
    pub async fn value(
        &self,
        _: Permit<'_>,
        id: &str,
        version: Option<&str>,
        stage: Option<&str>,
    ) -> Result<OpenedSecret, ServiceError> {
        let secret = self.live(id).await?;
        let stage = stage.or(version.is_none().then_some(CURRENT));
        let meant = |found: &&SecretVersion| {
            version.is_none_or(|id| id == found.id) && stage.is_none_or(|stage| found.stages.contains(stage))
        };
        let found = secret.versions.iter().find(meant).cloned();
        let Some(version) = found else {
            let of = match (version, stage) {
                (Some(id), _) => format!("VersionId: {id}"),
                (None, stage) => format!("staging label: {}", stage.unwrap_or(CURRENT)),
            };
            return Err(ServiceError::NoSecretVersion(of));
        };
        let value = self.open(&version)?;
        Ok(OpenedSecret { secret, version, value })
    }

    /// Also one that is scheduled for deletion.
    ///
    /// # Errors
    /// `Refused(NoSecret)`.
    pub async fn describe(&self, _: Permit<'_>, id: &str) -> Result<Secret, ServiceError> {
        self.find(id).await
    }

    /// In the order of their names and without their values, those that `meets`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn list(&self, _: Permit<'_>, meets: impl Fn(&Secret) -> bool) -> Result<Vec<Secret>, ServiceError> {
        let view = self.view.load();
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = view.tables().secrets(after.as_deref(), LISTED_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.name.clone());
            for mut secret in page {
                secret.versions.iter_mut().for_each(|version| version.value.bytes = Vec::new());
                if meets(&secret) {
                    all.push(secret);
                }
            }
        }
    }

    /// Schedules the deletion in `window`, or deletes at once without one. `None`: there is no such secret, which a
    /// deletion at once has no quarrel with.
    ///
    /// # Errors
    /// `Refused(NoSecret | SecretDeleted)` for a deletion with a window.
    pub async fn delete(
        &self,
        permit: Permit<'_>,
        id: &str,
        window: Option<Duration>,
    ) -> Result<Option<Secret>, ServiceError> {
        if let Some(window) = window {
            let requested_at = self.clock.now();
            let deletion = Deletion { requested_at, purge_at: requested_at.plus(window) };
            let change = |secret: &mut Secret| {
                secret.deletion = Some(deletion);
                Ok(true)
            };
            return self.change(permit, id, false, change).await.map(Some);
        }
        for _ in 0..ATTEMPTS {
            let secret = match self.find(id).await {
                Err(ServiceError::Refused(Refusal::NoSecret(_))) => return Ok(None),
                found => found?,
            };
            let op = Op::DeleteSecret { name: secret.name, expect_revision: secret.revision };
            match self.propose(permit, op, false).await {
                Err(ServiceError::Refused(Refusal::Moved | Refusal::NoSecret(_))) => self.catch_up().await?,
                deleted => return deleted.map(Some),
            }
        }
        Err(Refusal::Moved.into())
    }

    /// Takes a scheduled deletion back.
    ///
    /// # Errors
    /// `Refused(NoSecret)`.
    pub async fn restore(&self, permit: Permit<'_>, id: &str) -> Result<Secret, ServiceError> {
        let change = |secret: &mut Secret| Ok(secret.deletion.take().is_some());
        self.change_any(permit, id, false, change).await
    }

    /// # Errors
    /// `Refused(NoSecret | SecretDeleted | TooManyTags)`.
    pub async fn tag(
        &self,
        permit: Permit<'_>,
        id: &str,
        put: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<Secret, ServiceError> {
        let change = |secret: &mut Secret| {
            secret.tags.retain(|key, _| !remove.contains(key));
            secret.tags.extend(put.clone());
            if secret.tags.len() > secret::MAX_TAGS {
                return Err(Refusal::TooManyTags(secret::MAX_TAGS as u64).into());
            }
            if secret.len_bytes() > secret::MAX_BYTES { Err(too_large()) } else { Ok(true) }
        };
        self.change(permit, id, false, change).await
    }

    /// Takes `stage` from the version `from` and gives it to `to`, as far as they are given.
    ///
    /// # Errors
    /// `Refused(NoSecret | SecretDeleted)`, `NoSecretVersion`, `Invalid` where the stage is elsewhere, or `AWSCURRENT`
    /// would be nowhere.
    pub async fn move_stage(
        &self,
        permit: Permit<'_>,
        id: &str,
        stage: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Secret, ServiceError> {
        let invalid = |member, why: String| Err(ServiceError::Invalid { member, why });
        let change = |secret: &mut Secret| {
            for id in [from, to].into_iter().flatten() {
                if !secret.versions.iter().any(|version| version.id == id) {
                    return Err(ServiceError::NoSecretVersion(format!("VersionId: {id}")));
                }
            }
            let holder = secret.version(stage).map(|version| version.id.clone());
            if to.is_some() && holder.as_deref() == to {
                return Ok(false);
            }
            if let (Some(holder), true) = (&holder, holder.as_deref() != from) {
                let why = format!("staging label {stage} is currently attached to version {holder}");
                return invalid("RemoveFromVersionId", why);
            }
            match to {
                Some(to) => secret.give(stage, to),
                None if stage == CURRENT => {
                    return invalid("RemoveFromVersionId", format!("{CURRENT} can only be moved to another version"));
                }
                None => secret.versions.iter_mut().for_each(|version| {
                    version.stages.remove(stage);
                }),
            }
            Ok(true)
        };
        self.change(permit, id, false, change).await
    }

    fn put(
        &self,
        secret: &mut Secret,
        value: &SecretValue,
        token: &str,
        stages: BTreeSet<String>,
    ) -> Result<bool, ServiceError> {
        let Some(version) = secret.versions.iter().find(|version| version.id == token) else {
            self.add(secret, value, token, stages)?;
            return Ok(true);
        };
        if self.is(version, value)? {
            // The same call again. Whatever became of its stages meanwhile, it has happened.
            return Ok(false);
        }
        let text = format!("ClientRequestToken {token} is already in use for another value of secret {}", secret.name);
        Err(ServiceError::SecretRequest(text))
    }

    fn add(
        &self,
        secret: &mut Secret,
        value: &SecretValue,
        token: &str,
        stages: BTreeSet<String>,
    ) -> Result<(), ServiceError> {
        let member = match value {
            SecretValue::Text(_) => "SecretString",
            SecretValue::Binary(_) => "SecretBinary",
        };
        let max = secret::MAX_VALUE_BYTES;
        if value.bytes().expose().len() > max {
            let why = format!("must have at most {max} bytes: credentials of upstream registries are short");
            return Err(ServiceError::Invalid { member, why });
        }
        let sealed = self.keyring.seal(secret::PURPOSE, value.to_plaintext().expose());
        let created_at = self.clock.now();
        let version = SecretVersion { id: token.to_owned(), stages, value: sealed, created_at };
        if secret.add(version) { Ok(()) } else { Err(too_large()) }
    }

    fn is(&self, version: &SecretVersion, value: &SecretValue) -> Result<bool, ServiceError> {
        let (held, given) = (self.open(version)?.to_plaintext(), value.to_plaintext());
        Ok(held.expose().ct_eq(given.expose()).into())
    }

    fn open(&self, version: &SecretVersion) -> Result<SecretValue, ServiceError> {
        let opened = self.keyring.open(secret::PURPOSE, &version.value);
        let plaintext = opened.map_err(|error| ServiceError::Unseal(error.to_string()))?;
        SecretValue::from_plaintext(&plaintext).ok_or_else(|| ServiceError::Unseal("it has no known form".to_owned()))
    }

    /// Changes a secret that is not scheduled for deletion.
    async fn change(
        &self,
        permit: Permit<'_>,
        id: &str,
        has_value: bool,
        change: impl Fn(&mut Secret) -> Result<bool, ServiceError>,
    ) -> Result<Secret, ServiceError> {
        let alive = |secret: &mut Secret| {
            if secret.is_deleted() {
                return Err(Refusal::SecretDeleted(secret.name.clone()).into());
            }
            change(secret)
        };
        self.change_any(permit, id, has_value, alive).await
    }

    /// `change` says whether it did anything.
    async fn change_any(
        &self,
        permit: Permit<'_>,
        id: &str,
        has_value: bool,
        change: impl Fn(&mut Secret) -> Result<bool, ServiceError>,
    ) -> Result<Secret, ServiceError> {
        for _ in 0..ATTEMPTS {
            let mut secret = self.find(id).await?;
            if !change(&mut secret)? {
                return Ok(secret);
            }
            let op = Op::PutSecret { expect_revision: secret.revision, secret: Box::new(secret) };
            match self.propose(permit, op, has_value).await {
                Err(ServiceError::Refused(Refusal::Moved)) => self.catch_up().await?,
                changed => return changed,
            }
        }
        Err(Refusal::Moved.into())
    }

    async fn propose(&self, permit: Permit<'_>, op: Op, has_value: bool) -> Result<Secret, ServiceError> {
        // The mark of a call holds the hash of its body, and a short password can be guessed from that. A call with a
        // value has its own token against repetition.
        let proposed = if has_value {
            self.proposer.propose_unmarked(permit, op).await
        } else {
            self.proposer.propose(permit, op).await
        };
        match proposed? {
            Outcome::Secret(secret) => Ok(*secret),
            _ => Err(ServiceError::Unexpected("a change of a secret")),
        }
    }

    async fn catch_up(&self) -> Result<(), ServiceError> {
        self.proposer.barrier().await.map(|_| ())
    }

    async fn live(&self, id: &str) -> Result<Secret, ServiceError> {
        let secret = self.find(id).await?;
        if secret.is_deleted() { Err(Refusal::SecretDeleted(secret.name).into()) } else { Ok(secret) }
    }

    /// One secret; "no" only after a barrier.
    async fn find(&self, id: &str) -> Result<Secret, ServiceError> {
        find(&self.view, &self.proposer, id).await
    }

    fn token(&self, given: Option<String>) -> String {
        given.unwrap_or_else(|| {
            let hex = format!("{:032x}", self.entropy.u128());
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            parts.join("-")
        })
    }

    fn suffix(&self) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789Aa";
        let random: [u8; secret::SUFFIX_LEN] = self.entropy.bytes();
        random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
    }
}

/// The secret that a name or an ARN means.
pub(crate) async fn find(view: &Published<View>, proposer: &Proposer, id: &str) -> Result<Secret, ServiceError> {
    if let Some(secret) = view.load().tables().secret_by_id(id)? {
        return Ok(secret);
    }
    proposer.barrier().await?;
    Ok(view.load().tables().secret_by_id(id)?.ok_or_else(|| Refusal::NoSecret(id.to_owned()))?)
}

fn too_large() -> ServiceError {
    let (what, limit) = ("bytes in one secret with all its staged versions and tags".to_owned(), secret::MAX_BYTES);
    Refusal::Limit { what, limit: limit as u64 }.into()
}

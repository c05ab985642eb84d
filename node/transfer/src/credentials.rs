//! From a rule's secret to what its upstream is asked with. Opened once per revision of the secret, not once per request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_base::Secret as Bytes;
use flotilla_registry::{
    cache_rule::CacheRule,
    secret::{self, Secret, SecretId, SecretValue},
    upstream,
};
use flotilla_state::View;
use flotilla_storage::Keyring;
use flotilla_upstream::{Account, AwsKeys, Credential, Upstreams};
use serde::Deserialize;

/// The state holds no more secrets.
const MAX_OPENED: usize = 1000;

/// Why a secret is no credential for a rule's upstream. Nothing of its value is in a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("secret '{0}' does not exist")]
    Missing(String),
    #[error("secret '{0}' is scheduled for deletion")]
    Deleted(String),
    #[error("secret '{0}' has no value yet")]
    NoValue(String),
    #[error("the value of secret '{0}' cannot be opened with this node's keyring")]
    Sealed(String),
    /// Its value may not go to this upstream.
    #[error(
        "secret '{secret}' does not belong to upstream '{host}': it was made again, or given to another one first; \
         update the rule with a secret of its own"
    )]
    NotPinned { secret: String, host: String },
    #[error("the value of secret '{secret}' {why}")]
    Syntax { secret: String, why: &'static str },
    #[error(
        "upstream '{0}' is a registry of Amazon ECR, which takes no anonymous callers: give the rule a secret with AWS keys"
    )]
    Needed(String),
    #[error("the replicated state cannot be read")]
    State,
}

pub(crate) struct Credentials {
    keyring: Arc<Keyring>,
    opened: Mutex<HashMap<String, Opened>>,
}

struct Opened {
    suffix: String,
    revision: u64,
    account: Result<Account, CredentialError>,
}

impl Credentials {
    pub(crate) fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, opened: Mutex::default() }
    }

    /// Whom to ask for `rule`, and as whom. Accounts that a new value makes stale are forgotten, with their tokens.
    pub(crate) fn account(
        &self,
        view: &View,
        rule: &CacheRule,
        upstreams: &Upstreams,
    ) -> Result<Account, CredentialError> {
        let host = &rule.upstream_host;
        let Some(id) = &rule.credential_arn else {
            // Never asked as nobody: its answer would only be that it wants a password.
            return if upstream::known(host).is_some_and(|known| known.id == "ecr") {
                Err(CredentialError::Needed(host.clone()))
            } else {
                Ok(Account { host: host.clone(), credential: None })
            };
        };
        let found = view.tables().secret_by_id(id).map_err(|error| {
            tracing::error!(%error, "a secret cannot be read");
            CredentialError::State
        })?;
        // Never as anonymous instead: what that account sees is not what the operator meant.
        let Some(secret) = found else {
            self.forget(id, upstreams);
            return Err(CredentialError::Missing(id.clone()));
        };
        if secret.pinned_host.as_ref() != Some(host) {
            return Err(CredentialError::NotPinned { secret: secret.name, host: host.clone() });
        }
        let mut opened = self.lock();
        if let Some(opened) = opened.get(&secret.name)
            && opened.suffix == secret.suffix
            && opened.revision == secret.revision
        {
            return opened.account.clone();
        }
        let account = self.open(&secret).map(|credential| Account { host: host.clone(), credential: Some(credential) });
        if opened.len() >= MAX_OPENED {
            opened.clear();
        }
        let (suffix, revision) = (secret.suffix, secret.revision);
        let now = Opened { suffix, revision, account: account.clone() };
        if let Some(Opened { account: Ok(before), .. }) = opened.insert(secret.name, now)
            && !account.as_ref().is_ok_and(|account| account.is(&before))
        {
            upstreams.forget(&before);
        }
        account
    }

    /// What was opened of a secret that is gone.
    fn forget(&self, id: &str, upstreams: &Upstreams) {
        let mut opened = self.lock();
        for reading in SecretId::readings(id) {
            if let Some(Opened { account: Ok(account), .. }) = opened.remove(&reading.name) {
                upstreams.forget(&account);
            }
        }
    }

    fn open(&self, secret: &Secret) -> Result<Credential, CredentialError> {
        let name = || secret.name.clone();
        if secret.is_deleted() {
            return Err(CredentialError::Deleted(name()));
        }
        let version = secret.current().ok_or_else(|| CredentialError::NoValue(name()))?;
        let opened = self.keyring.open(secret::PURPOSE, &version.value);
        let value = opened.ok().and_then(|plaintext| SecretValue::from_plaintext(&plaintext));
        let value = value.ok_or_else(|| CredentialError::Sealed(name()))?;
        parse(value.bytes()).map_err(|why| CredentialError::Syntax { secret: name(), why })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Opened>> {
        // Whole after a panic: an entry is written as one, and a lost one is opened again.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    username: Option<String>,
    access_token: Option<String>,
    /// What people write for an upstream that has passwords.
    password: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
}

/// The object that AWS wants, `{"username", "accessToken"}`, or AWS keys. The errors of the parser stay here: they show
/// what they could not read.
fn parse(value: &Bytes) -> Result<Credential, &'static str> {
    let members: Members = serde_json::from_slice(value.expose())
        .map_err(|_| "is not a JSON object with 'username' and 'accessToken' as strings")?;
    let given = |member: Option<String>| member.filter(|text| !text.is_empty());
    if let Some(access_key_id) = given(members.access_key_id) {
        let secret_access_key = given(members.secret_access_key).ok_or("has no 'secretAccessKey'")?;
        return Ok(Credential::Aws(AwsKeys {
            access_key_id,
            secret_access_key: secret_access_key.into(),
            session_token: given(members.session_token).map(Bytes::from),
        }));
    }
    let username = given(members.username).ok_or("has no 'username'")?;
    let secret = given(members.access_token).or(given(members.password)).ok_or("has no 'accessToken'")?;
    if username.contains(':') || [&username, &secret].iter().any(|text| text.chars().any(char::is_control)) {
        return Err("has a colon in its 'username', or a control character");
    }
    Ok(Credential::Password { username, secret: secret.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Result<String, &'static str> {
        parse(&Bytes::from(value.to_owned())).map(|credential| match credential {
            Credential::Password { username, secret } => format!("{username}:{}", secret.expose_str().unwrap()),
            Credential::Aws(keys) => format!("aws {} {}", keys.access_key_id, keys.session_token.is_some()),
        })
    }

    #[test]
    fn values_are_users_with_a_token_or_aws_keys() {
        for (value, credential) in [
            (r#"{"username": "u", "accessToken": "t"}"#, "u:t"),
            (r#"{"username": "u", "password": "p", "note": [1]}"#, "u:p"),
            (r#"{"accessKeyId": "AK", "secretAccessKey": "s"}"#, "aws AK false"),
            (r#"{"accessKeyId": "AK", "secretAccessKey": "s", "sessionToken": "x"}"#, "aws AK true"),
        ] {
            assert_eq!(parsed(value).as_deref(), Ok(credential), "{value}");
        }
        for (value, named) in [
            ("hunter2", "JSON"),
            ("[]", "JSON"),
            (r#"{"username": 5}"#, "JSON"),
            ("{}", "'username'"),
            (r#"{"username": "u"}"#, "'accessToken'"),
            (r#"{"username": "", "accessToken": "t"}"#, "'username'"),
            (r#"{"username": "u:x", "accessToken": "t"}"#, "colon"),
            (r#"{"username": "u", "accessToken": "t\n"}"#, "control"),
            (r#"{"accessKeyId": "AK"}"#, "'secretAccessKey'"),
        ] {
            let why = parsed(value).unwrap_err();
            assert!(why.contains(named) && !why.contains("hunter2"), "{value}: {why}");
        }
    }
}

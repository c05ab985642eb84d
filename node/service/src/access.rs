//! Who is it, and may he? One place for every door.

use std::{sync::Arc, time::Duration};

use flotilla_base::{Secret, Timestamp};
use flotilla_registry::access::{AccessKey, Action, PrincipalArn, Resource};
use flotilla_runtime::{Clock, Published};
use flotilla_state::View;
use flotilla_storage::Keyring;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::{
    Caller, Parts, Permit, ServiceError,
    proposer::Proposer,
    token::{self, Claims, InvalidToken, Purpose},
};

/// `[access]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    pub anonymous: Anonymous,
}

/// What callers without credentials may do. Closed by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anonymous {
    /// They may pull what is here and what cache rules cover, and so cause imports.
    pub pull: bool,
}

/// The purpose under which access keys are sealed in the replicated state.
pub const ACCESS_KEY_PURPOSE: &str = "access-key";

/// ECR's `GetAuthorizationToken` (`ecr-api.md` §5.9).
const LOGIN_TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

/// `requirements.md` A, "Sign-in".
const BEARER_TOKEN_LIFE: Duration = Duration::from_secs(600);

/// The user name that docker sends with a login token.
const LOGIN_USER: &str = "AWS";

/// What an anonymous caller may do where anonymous pull is on. Everything else is root's.
const ANONYMOUS_ACTIONS: [&str; 7] = [
    "ecr:BatchGetImage",
    "ecr:DescribeRepositories",
    "ecr:ListImages",
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchCheckLayerAvailability",
    "ecr:CreateRepository",
    "ecr:BatchImportUpstreamImage",
];

/// What a door found in a request, before anybody knows whether it is true.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    None,
    /// docker's `AWS:<token>`, or `<access key id>:<secret>`.
    Basic {
        user: &'a str,
        password: &'a str,
    },
    Bearer(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// No credentials, and anonymous callers are not served.
    #[error("authentication required")]
    Required,
    #[error("wrong user name or password")]
    Wrong,
    #[error("token has expired")]
    Expired,
}

#[derive(Debug, thiserror::Error)]
pub enum SignInFailure {
    #[error(transparent)]
    Refused(#[from] SignInError),
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// A token and its life.
pub struct IssuedToken {
    pub token: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

pub struct Access {
    clock: Clock,
    view: Published<View>,
    keyring: Arc<Keyring>,
    config: AccessConfig,
    proposer: Proposer,
}

/// Who signed in, and with which key.
struct SignedIn {
    principal: PrincipalArn,
    key: Option<(String, u64)>,
}

impl SignedIn {
    fn anonymous() -> Self {
        Self { principal: PrincipalArn::anonymous(), key: None }
    }

    fn with(key: AccessKey) -> Self {
        Self { principal: key.principal, key: Some((key.id, key.generation)) }
    }
}

impl Access {
    pub(crate) fn new(parts: &Parts, config: AccessConfig, proposer: Proposer) -> Self {
        Self {
            clock: parts.host.clock.clone(),
            view: parts.view.clone(),
            keyring: parts.keyring.clone(),
            config,
            proposer,
        }
    }

    pub fn anonymous_pull(&self) -> bool {
        self.config.anonymous.pull
    }

    /// What SigV4 is verified with; `None` for an unknown or disabled key, told only after a barrier.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when "unknown" cannot be told from "not heard of yet".
    pub async fn signing_key(&self, access_key_id: &str) -> Result<Option<(PrincipalArn, Secret)>, ServiceError> {
        let Some(key) = self.enabled_key(access_key_id).await? else { return Ok(None) };
        let secret = self.open_secret(&key)?;
        Ok(Some((key.principal, secret)))
    }

    /// Who a registry client is. Wrong credentials are an error even where anonymous callers are served, or `docker
    /// login` would accept any password.
    ///
    /// # Errors
    /// [`SignInFailure::Refused`], and [`SignInFailure::Service`] when the state cannot tell.
    pub async fn sign_in(&self, credential: Credential<'_>) -> Result<PrincipalArn, SignInFailure> {
        self.identify(credential).await.map(|signed_in| signed_in.principal)
    }

    /// The password of `docker login` for the caller; contains no colon.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] for a caller without an access key.
    pub fn login_token(&self, permit: Permit<'_>) -> Result<IssuedToken, ServiceError> {
        let no_key = || ServiceError::Invalid { member: "Authorization", why: "signed by no access key".into() };
        let id = permit.caller().access_key.as_deref().ok_or_else(no_key)?;
        let key = self.view.load().tables().access_key(id)?.ok_or_else(no_key)?;
        self.issue(Purpose::Login, SignedIn::with(key), LOGIN_TOKEN_LIFE)
    }

    /// A short token for the Bearer flow. What it permits is asked at use, not now.
    ///
    /// # Errors
    /// As [`Access::sign_in`].
    pub async fn bearer_token(&self, credential: Credential<'_>) -> Result<IssuedToken, SignInFailure> {
        let signed_in = self.identify(credential).await?;
        Ok(self.issue(Purpose::Bearer, signed_in, BEARER_TOKEN_LIFE)?)
    }

    /// A yes costs no wait. Before a no this node catches up: what another node has granted and acknowledged counts.
    ///
    /// # Errors
    /// [`ServiceError::Denied`].
    pub async fn allow<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
        on: &Resource,
    ) -> Result<Permit<'a>, ServiceError> {
        let view = self.view.load();
        let principal = &caller.principal;
        let allowed = if principal.is_anonymous() {
            self.config.anonymous.pull && ANONYMOUS_ACTIONS.contains(&action.0)
        } else {
            // One account, one principal until policies are there: its root may do everything.
            *principal == PrincipalArn::root(&view.settings.account_id)
        };
        if allowed {
            return Ok(Permit { caller, action });
        }
        tracing::debug!(%principal, action = action.0, request_id = %caller.request, "denied");
        Err(ServiceError::Denied { action, resource: on.clone() })
    }

    async fn identify(&self, credential: Credential<'_>) -> Result<SignedIn, SignInFailure> {
        match credential {
            Credential::None if self.config.anonymous.pull => Ok(SignedIn::anonymous()),
            Credential::None => Err(SignInError::Required.into()),
            Credential::Bearer(token) => self.by_token(Purpose::Bearer, token).await,
            Credential::Basic { user: LOGIN_USER, password } => self.by_token(Purpose::Login, password).await,
            Credential::Basic { user, password } => {
                let key = self.enabled_key(user).await?.ok_or(SignInError::Wrong)?;
                let secret = self.open_secret(&key)?;
                if !bool::from(secret.expose().ct_eq(password.as_bytes())) {
                    return Err(SignInError::Wrong.into());
                }
                Ok(SignedIn::with(key))
            }
        }
    }

    async fn by_token(&self, purpose: Purpose, token: &str) -> Result<SignedIn, SignInFailure> {
        let cluster = self.view.load().meta.cluster.ok_or(SignInError::Wrong)?;
        let claims =
            token::open(&self.keyring, purpose, cluster, token, self.clock.now()).map_err(|error| match error {
                InvalidToken::Expired => SignInError::Expired,
                InvalidToken::Foreign => SignInError::Wrong,
            })?;
        let Some((id, generation)) = claims.key else {
            // An anonymous token is worth what no credential is worth, and dies with the setting.
            return if self.config.anonymous.pull {
                Ok(SignedIn::anonymous())
            } else {
                Err(SignInError::Required.into())
            };
        };
        let key = self.enabled_key(&id).await?.ok_or(SignInError::Wrong)?;
        if key.generation != generation || key.principal != claims.principal {
            return Err(SignInError::Wrong.into());
        }
        Ok(SignedIn::with(key))
    }

    fn issue(&self, purpose: Purpose, signed_in: SignedIn, life: Duration) -> Result<IssuedToken, ServiceError> {
        let unfounded = ServiceError::Unavailable { retry_after: Duration::from_secs(1) };
        let cluster = self.view.load().meta.cluster.ok_or(unfounded)?;
        let issued_at = self.clock.now();
        let expires_at = issued_at.plus(life);
        let SignedIn { principal, key } = signed_in;
        let claims = Claims { cluster, principal, key, issued_at, expires_at };
        let token = token::issue(&self.keyring, purpose, &claims).map_err(|_| ServiceError::Unexpected("a token"))?;
        Ok(IssuedToken { token, issued_at, expires_at })
    }

    async fn enabled_key(&self, id: &str) -> Result<Option<AccessKey>, ServiceError> {
        let lookup = || self.view.load().tables().access_key(id);
        let mut key = lookup()?;
        if key.is_none() {
            self.proposer.barrier().await?;
            key = lookup()?;
        }
        Ok(key.filter(|key| key.enabled))
    }

    fn open_secret(&self, key: &AccessKey) -> Result<Secret, ServiceError> {
        self.keyring.open(ACCESS_KEY_PURPOSE, &key.secret).map_err(|error| {
            tracing::error!(access_key = key.id, %error, "an access key cannot be opened with this node's keyring");
            ServiceError::Unexpected("opening an access key")
        })
    }
}

//! Who is it, and may he? One place for every door.

mod config;
mod decision;
mod metrics;
mod policy;
mod scope;
mod verified;

use std::{net::IpAddr, sync::Arc, time::Duration};

use flotilla_base::{Secret, Timestamp};
use flotilla_registry::access::{AccessKey, Action, PrincipalArn, Resource, Robot};
use flotilla_runtime::{Clock, Published};
use flotilla_state::View;
use flotilla_storage::Keyring;
use prometheus_client::registry::Registry;
use subtle::ConstantTimeEq;

pub(crate) use self::policy::Policy;
pub use self::{
    config::{AccessConfig, Anonymous},
    scope::{Grant, Scope, TooManyScopes, Wanted},
};
use self::{
    decision::{Cause, Denial},
    metrics::Metrics,
    verified::Verified,
};
use crate::{
    Caller, Parts, Permit, ServiceError,
    proposer::Proposer,
    token::{self, Body, Claims, InvalidToken, Purpose},
};

/// The purpose under which access keys are sealed in the replicated state.
pub const ACCESS_KEY_PURPOSE: &str = "access-key";

/// ECR's `GetAuthorizationToken` (`ecr-api.md` §5.9).
const LOGIN_TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

/// `requirements.md` A, "Sign-in".
const BEARER_TOKEN_LIFE: Duration = Duration::from_secs(600);

/// As long as AWS's (`ecr-api.md` §1.2).
const PAGE_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Lengths that an id of an access key may have, as IAM's.
const KEY_ID_CHARACTERS: std::ops::RangeInclusive<usize> = 12..=128;

/// The user name that docker sends with a login token.
const LOGIN_USER: &str = "AWS";

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
    policy: Arc<Policy>,
    proposer: Proposer,
    metrics: Metrics,
    verified: Verified,
}

/// Who signed in, with which key, and what for.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub principal: PrincipalArn,
    pub scope: Scope,
    /// Id and generation; `None` for anonymous callers.
    key: Option<(String, u64)>,
    /// When the token ends, or the principal itself, which no token of it outlives.
    ends_at: Option<Timestamp>,
}

/// A key, and how long its principal lives.
struct Holder {
    key: AccessKey,
    ends_at: Option<Timestamp>,
}

/// What an id means.
enum Lookup {
    Good(Holder),
    /// It is disabled, or its principal has ended.
    Dead,
    Absent,
}

impl SignedIn {
    fn anonymous(scope: Scope) -> Self {
        Self { principal: PrincipalArn::anonymous(), scope, key: None, ends_at: None }
    }

    fn with(Holder { key, ends_at }: Holder, scope: Scope) -> Self {
        Self { principal: key.principal, scope, key: Some((key.id, key.generation)), ends_at }
    }
}

impl Access {
    pub(crate) fn new(parts: &Parts, config: AccessConfig, proposer: Proposer, registry: &mut Registry) -> Self {
        let clock = parts.host.clock.clone();
        Self {
            policy: Arc::new(Policy::new(clock.clone(), parts.view.clone(), config.anonymous)),
            clock,
            view: parts.view.clone(),
            keyring: parts.keyring.clone(),
            proposer,
            metrics: Metrics::register(registry),
            verified: Verified::new(&parts.host.entropy),
        }
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// Whether callers at `source` may go without credentials: what clients are told to sign in with depends on it.
    pub fn serves_anonymous(&self, source: IpAddr) -> bool {
        self.policy.anonymous().serves(Some(source))
    }

    /// What SigV4 is verified with; `None` for an unknown or disabled key, told only after a barrier.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when "unknown" cannot be told from "not heard of yet".
    pub async fn signing_key(&self, access_key_id: &str) -> Result<Option<(PrincipalArn, Secret)>, ServiceError> {
        let Lookup::Good(Holder { key, .. }) = self.key(access_key_id).await? else { return Ok(None) };
        let secret = self.open_secret(&key)?;
        Ok(Some((key.principal, secret)))
    }

    /// Who a registry client is. Wrong credentials are an error even where anonymous callers are served, or `docker
    /// login` would accept any password.
    ///
    /// # Errors
    /// [`SignInFailure::Refused`], and [`SignInFailure::Service`] when the state cannot tell.
    pub async fn sign_in(&self, credential: Credential<'_>, source: Option<IpAddr>) -> Result<SignedIn, SignInFailure> {
        let signed_in = self.recall(credential, source).await;
        match &signed_in {
            Ok(SignedIn { key: None, .. }) => self.metrics.anonymous.inc(),
            Ok(SignedIn { scope: Scope::Only(_), .. }) => self.metrics.token.inc(),
            Ok(_) => self.metrics.key.inc(),
            Err(SignInFailure::Refused(SignInError::Required)) => self.metrics.required.inc(),
            Err(SignInFailure::Refused(SignInError::Wrong)) => self.metrics.wrong.inc(),
            Err(SignInFailure::Refused(SignInError::Expired)) => self.metrics.expired.inc(),
            Err(SignInFailure::Service(_)) => 0,
        };
        signed_in
    }

    /// Whether a login that came to a mirror is meant for another registry: dockerd sends every mirror what it would
    /// send to Docker Hub. The password is not looked at.
    ///
    /// # Errors
    /// As [`Access::signing_key`].
    pub async fn is_foreign(&self, user: &str) -> Result<bool, ServiceError> {
        let foreign = user != LOGIN_USER && matches!(self.key(user).await?, Lookup::Absent);
        if foreign {
            self.count_foreign();
        }
        Ok(foreign)
    }

    /// Counts a login at another registry whose form alone shows that it is none of ours.
    pub fn count_foreign(&self) {
        self.metrics.foreign.inc();
    }

    /// The password of `docker login` for the caller; contains no colon.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] for a caller without an access key.
    pub async fn login_token(&self, permit: Permit<'_>) -> Result<IssuedToken, ServiceError> {
        let no_key = || ServiceError::Invalid { member: "Authorization", why: "signed by no access key".into() };
        let id = permit.caller().access_key.as_deref().ok_or_else(no_key)?;
        let Lookup::Good(holder) = self.key(id).await? else { return Err(no_key()) };
        self.issue(Purpose::Login, SignedIn::with(holder, Scope::Everything), LOGIN_TOKEN_LIFE, Body::Login)
    }

    /// A short token for the Bearer flow, for what was asked. Whether its principal may do that is asked at use, not now.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] before a cluster is founded.
    pub fn bearer_token(&self, signed_in: SignedIn, grants: Vec<Grant>) -> Result<IssuedToken, ServiceError> {
        self.issue(Purpose::Bearer, signed_in, BEARER_TOKEN_LIFE, Body::Bearer(grants))
    }

    /// Where a listing of `caller` goes on: good on every node and after a restart, for him and this operation. What it
    /// names may be nothing that he may know of.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] before a cluster is founded.
    pub fn page_token(&self, caller: &Caller, operation: &str, after: &str) -> Result<String, ServiceError> {
        let body = Body::Page { operation: operation.to_owned(), after: after.to_owned() };
        let signed_in =
            SignedIn { principal: caller.principal.clone(), scope: Scope::Everything, key: None, ends_at: None };
        Ok(self.issue(Purpose::Page, signed_in, PAGE_TOKEN_LIFE, body)?.token)
    }

    /// What [`Access::page_token`] was given; `None` for everything else.
    pub fn open_page_token(&self, caller: &Caller, operation: &str, token: &str) -> Option<String> {
        let cluster = self.view.load().meta.cluster?;
        let claims = token::open(&self.keyring, Purpose::Page, cluster, token, self.clock.now()).ok()?;
        match claims.body {
            Body::Page { operation: of, after } if of == operation && claims.principal == caller.principal => {
                Some(after)
            }
            _ => None,
        }
    }

    /// What a caller asks for by itself.
    ///
    /// # Errors
    /// [`ServiceError::Denied`].
    pub async fn allow<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
        on: &Resource,
    ) -> Result<Permit<'a>, ServiceError> {
        self.permit(caller, &[action], Cause::Call, on)
    }

    /// All that a pull asks for and may bring about; the permit is that of the first action, which names the pull.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] with the first action that is.
    pub async fn allow_pull<'a>(
        &self,
        caller: &'a Caller,
        actions: &[Action],
        on: &Resource,
    ) -> Result<Permit<'a>, ServiceError> {
        self.permit(caller, actions, Cause::Pull, on)
    }

    /// Which of all that a pull asks for is denied to `puller`, and why: for explanations, whose callers may know.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) fn denial(
        &self,
        puller: &Caller,
        actions: &[Action],
        on: &Resource,
    ) -> Result<Option<(Action, Denial)>, ServiceError> {
        Ok(self.policy.decide(puller, actions, Cause::Pull, on)?.err())
    }

    fn permit<'a>(
        &self,
        caller: &'a Caller,
        actions: &[Action],
        cause: Cause,
        on: &Resource,
    ) -> Result<Permit<'a>, ServiceError> {
        let action = *actions.first().ok_or(ServiceError::Unexpected("a request without actions"))?;
        match self.policy.decide(caller, actions, cause, on)? {
            Ok(()) => Ok(Permit { caller, action }),
            Err((action, denial)) => {
                let Caller { principal, request, .. } = caller;
                tracing::debug!(%principal, action = action.0, request_id = %request, %denial, "denied");
                Err(ServiceError::Denied { action, resource: on.clone() })
            }
        }
    }

    async fn recall(&self, credential: Credential<'_>, source: Option<IpAddr>) -> Result<SignedIn, SignInFailure> {
        let Some(mark) = self.verified.mark(credential) else { return self.identify(credential, source).await };
        // Before anything is looked up: what is found belongs to this state or a later one.
        let under = self.view.load().applied;
        match self.verified.get(&mark, under, self.clock.now()) {
            // Where he comes from is no part of what was verified.
            Some(SignedIn { key: None, scope, .. }) => self.anonymous(source, scope),
            Some(signed_in) => Ok(signed_in),
            None => {
                let signed_in = self.identify(credential, source).await?;
                self.verified.put(mark, under, &signed_in);
                Ok(signed_in)
            }
        }
    }

    async fn identify(&self, credential: Credential<'_>, source: Option<IpAddr>) -> Result<SignedIn, SignInFailure> {
        match credential {
            Credential::None => self.anonymous(source, Scope::Everything),
            Credential::Bearer(token) => self.by_token(Purpose::Bearer, token, source).await,
            Credential::Basic { user: LOGIN_USER, password } => self.by_token(Purpose::Login, password, source).await,
            Credential::Basic { user, password } => {
                let Lookup::Good(holder) = self.key(user).await? else { return Err(SignInError::Wrong.into()) };
                let secret = self.open_secret(&holder.key)?;
                if !bool::from(secret.expose().ct_eq(password.as_bytes())) {
                    return Err(SignInError::Wrong.into());
                }
                Ok(SignedIn::with(holder, Scope::Everything))
            }
        }
    }

    fn anonymous(&self, source: Option<IpAddr>, scope: Scope) -> Result<SignedIn, SignInFailure> {
        match self.policy.anonymous().serves(source) {
            true => Ok(SignedIn::anonymous(scope)),
            false => Err(SignInError::Required.into()),
        }
    }

    async fn by_token(&self, purpose: Purpose, token: &str, source: Option<IpAddr>) -> Result<SignedIn, SignInFailure> {
        let cluster = self.view.load().meta.cluster.ok_or(SignInError::Wrong)?;
        let claims =
            token::open(&self.keyring, purpose, cluster, token, self.clock.now()).map_err(|error| match error {
                InvalidToken::Expired => SignInError::Expired,
                InvalidToken::Foreign => SignInError::Wrong,
            })?;
        let scope = match claims.body {
            Body::Login => Scope::Everything,
            Body::Bearer(grants) => Scope::Only(grants),
            Body::Page { .. } => return Err(SignInError::Wrong.into()),
        };
        // An anonymous token is worth what no credential is worth, and dies with the setting.
        let ends_at = Some(claims.expires_at);
        let Some((id, generation)) = claims.key else {
            return self.anonymous(source, scope).map(|signed_in| SignedIn { ends_at, ..signed_in });
        };
        let Lookup::Good(holder) = self.key(&id).await? else { return Err(SignInError::Wrong.into()) };
        if holder.key.generation != generation || holder.key.principal != claims.principal {
            return Err(SignInError::Wrong.into());
        }
        let ends_at = holder.ends_at.into_iter().chain(ends_at).min();
        Ok(SignedIn { ends_at, ..SignedIn::with(holder, scope) })
    }

    fn issue(
        &self,
        purpose: Purpose,
        signed_in: SignedIn,
        life: Duration,
        body: Body,
    ) -> Result<IssuedToken, ServiceError> {
        let unfounded = ServiceError::Unavailable { retry_after: Duration::from_secs(1) };
        let cluster = self.view.load().meta.cluster.ok_or(unfounded)?;
        let issued_at = self.clock.now();
        let SignedIn { principal, key, ends_at, .. } = signed_in;
        let expires_at = ends_at.into_iter().fold(issued_at.plus(life), Timestamp::min);
        let claims = Claims { cluster, principal, key, issued_at, expires_at, body };
        let token = token::issue(&self.keyring, purpose, &claims).map_err(|_| ServiceError::Unexpected("a token"))?;
        Ok(IssuedToken { token, issued_at, expires_at })
    }

    async fn key(&self, id: &str) -> Result<Lookup, ServiceError> {
        // What is no id of ours costs no barrier, and needs no quorum to be refused.
        if !KEY_ID_CHARACTERS.contains(&id.len()) || !id.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) {
            return Ok(Lookup::Absent);
        }
        let lookup = || self.view.load().tables().access_key(id);
        let mut key = lookup()?;
        if key.is_none() {
            self.proposer.barrier().await?;
            key = lookup()?;
        }
        let Some(key) = key else { return Ok(Lookup::Absent) };
        let robot = match key.principal.user_name() {
            Some(name) => match self.robot(name)? {
                Some(robot) => Some(robot),
                None => return Ok(Lookup::Dead),
            },
            None => None,
        };
        if !key.enabled || robot.as_ref().is_some_and(|robot| self.policy.is_expired(robot)) {
            return Ok(Lookup::Dead);
        }
        Ok(Lookup::Good(Holder { key, ends_at: robot.and_then(|robot| robot.expires_at) }))
    }

    /// A key comes and goes in one step with its robot, so that a robot that is missing is gone.
    fn robot(&self, name: &str) -> Result<Option<Robot>, ServiceError> {
        Ok(self.view.load().tables().robot(name)?)
    }

    fn open_secret(&self, key: &AccessKey) -> Result<Secret, ServiceError> {
        self.keyring.open(ACCESS_KEY_PURPOSE, &key.secret).map_err(|error| {
            tracing::error!(access_key = key.id, %error, "an access key cannot be opened with this node's keyring");
            ServiceError::Unexpected("opening an access key")
        })
    }
}

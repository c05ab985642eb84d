//! One account at one upstream: which credential or token goes with a request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use flotilla_base::{ByteLen, Secret};
use flotilla_oci::Name;
use flotilla_runtime::{Clock, Entropy, Host, Recent};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustls::ClientConfig;
use url::Url;

use crate::{
    BlockReason, Credential, HttpError, Refusal, UpstreamConfig, UpstreamConfigError, UpstreamError,
    bounded::BoundedMap,
    breaker::Breaker,
    challenge::Challenge,
    destinations::Named,
    ecr::Endpoint,
    gate::Gate,
    headers,
    origin::Origin,
    pauses::Pauses,
    quota::Quota,
    realm,
    tokens::{Granted, Token, TokenKey, Tokens},
    wire::{Behalf, Body, Incame, Outgoing, Wire},
};

/// Repositories whose way of asking is remembered per account; nvcr.io, for one, has several.
const MAX_CHALLENGES: usize = 1024;
/// Longest reply of a token service; the tokens of large organisations have some tens of KiB.
const TOKEN_REPLY_LIMIT: ByteLen = ByteLen::kib(256);

/// For a body that is wanted as one piece: 4 MiB at 70 kB/s.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A refusal is told to the log once in this time, however many pulls meet it.
const TOLD: Duration = Duration::from_secs(60);
const TOLD_MOST: usize = 256;

/// What all upstreams share.
pub(crate) struct Shared {
    pub(crate) wire: Wire,
    pub(crate) tokens: Tokens,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) head_timeout: Duration,
    /// How long a token may take in all, whoever fetches it.
    pub(crate) token_timeout: Duration,
    pub(crate) realm_allow: Vec<String>,
    /// Where the configuration sends upstreams: a redirect to them is as good as the operator's word.
    pub(crate) listed: Vec<Origin>,
    /// What the log was told of late.
    told: Recent<(Arc<str>, Arc<str>, &'static str), ()>,
    numbers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        host: &Host,
        config: &UpstreamConfig,
        tls: Arc<ClientConfig>,
        listed: Vec<Origin>,
    ) -> Result<Self, UpstreamConfigError> {
        Ok(Self {
            wire: Wire::new(host, config, tls)?,
            told: Recent::new(TOLD_MOST),
            tokens: Tokens::new(),
            clock: host.clock.clone(),
            entropy: host.entropy.clone(),
            head_timeout: config.head_timeout,
            token_timeout: config.connect_timeout + config.head_timeout + config.progress_timeout,
            realm_allow: config.realm_allow.clone(),
            listed,
            numbers: AtomicU64::new(0),
        })
    }

    /// A number that nothing else of this node's upstreams has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// What all accounts of one upstream share.
pub(crate) struct Site {
    /// Canonical; the upstream's identity whatever `base` says.
    pub(crate) name: Arc<str>,
    /// Where `/v2/` is, and its origin; `None` when the name is no host.
    pub(crate) base: Option<(Url, Origin)>,
    pub(crate) behalf: Behalf,
    /// Where its passwords come from, if it is a registry of Amazon ECR.
    pub(crate) ecr: Option<Endpoint>,
    pub(crate) gate: Gate,
    pub(crate) breaker: Arc<Breaker>,
}

pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) site: Arc<Site>,
    /// Under which its tokens are kept, apart from those of other accounts.
    number: u64,
    credential: Option<Credential>,
    challenges: Mutex<Challenges>,
    pub(crate) pauses: Pauses,
    /// The upstream said no to the credential itself, and nothing else since.
    refused: AtomicBool,
    pub(crate) quota: Quota,
}

struct Challenges {
    by_name: BoundedMap<Name, Learned>,
    /// For names that were not asked for yet.
    latest: Option<Learned>,
}

/// A challenge, and whether it came from this machine.
#[derive(Clone)]
pub(crate) struct Learned {
    pub(crate) challenge: Challenge,
    pub(crate) from_loopback: bool,
}

/// What goes into `Authorization`.
pub(crate) enum Authorization {
    Basic(HeaderValue),
    Token(TokenKey, Granted),
}

impl Authorization {
    pub(crate) fn header(&self) -> &HeaderValue {
        match self {
            Self::Basic(header) => header,
            Self::Token(_, granted) => &granted.token.header,
        }
    }
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, site: Arc<Site>, number: u64, credential: Option<Credential>) -> Self {
        let challenges = Challenges { by_name: BoundedMap::new(MAX_CHALLENGES), latest: None };
        Self {
            shared,
            site,
            number,
            credential,
            challenges: Mutex::new(challenges),
            pauses: Pauses::default(),
            refused: AtomicBool::new(false),
            quota: Quota::default(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the upstream takes the credential. Of a single repository, or while it is in trouble, it says nothing.
    pub(crate) fn judged(&self, accepted: bool) {
        if self.credential.is_some() && self.refused.swap(!accepted, Ordering::Relaxed) == accepted {
            let host = &self.site.name;
            if accepted {
                tracing::info!(upstream = %host, "the upstream takes our credential again");
            } else {
                tracing::warn!(upstream = %host, "the upstream refuses our credential; what is held goes on serving");
            }
        }
    }

    pub(crate) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    pub(crate) fn credential(&self) -> Option<Credential> {
        self.credential.clone()
    }

    /// How requests for `name` are probably to be authorized.
    pub(crate) fn learned(&self, name: Option<&Name>) -> Option<Learned> {
        let mut challenges = self.lock();
        let own = name.and_then(|name| challenges.by_name.get(name)).cloned();
        own.or_else(|| challenges.latest.clone())
    }

    pub(crate) fn learn(&self, name: Option<&Name>, learned: Learned) {
        let mut challenges = self.lock();
        if let Some(name) = name {
            challenges.by_name.insert(name.clone(), learned.clone());
        }
        challenges.latest = Some(learned);
    }

    pub(crate) fn forget(&self, name: Option<&Name>) {
        let mut challenges = self.lock();
        if let Some(name) = name {
            challenges.by_name.remove(name);
        }
        challenges.latest = None;
    }

    /// Answers a challenge, for pulling from `name`.
    pub(crate) async fn authorize(
        &self,
        name: Option<&Name>,
        learned: Learned,
    ) -> Result<Authorization, UpstreamError> {
        let host = self.site.name.clone();
        let (realm, service) = match learned.challenge {
            Challenge::Basic => {
                let no_password = UpstreamError::Unauthorized { host, reason: Refusal::WantsPassword };
                return self.basic().await?.ok_or(no_password);
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let (origin, named) = self.judge(&realm, learned.from_loopback)?;
        let scope = name.map(|name| format!("repository:{name}:pull"));
        let key = TokenKey { account: self.number, realm, service, scope };
        let fetch = || Box::pin(self.fetch_token(&key, &origin, named));
        let granted = self.bounded(&origin, self.shared.tokens.get(&key, fetch)).await?;
        Ok(Authorization::Token(key.clone(), granted))
    }

    /// A token, in the time that one may take.
    pub(crate) async fn bounded(
        &self,
        origin: &Origin,
        granted: impl Future<Output = Result<Granted, UpstreamError>>,
    ) -> Result<Granted, UpstreamError> {
        let late = |_| {
            let source = HttpError::HeadTimeout { target: origin.to_string().into() };
            Err(UpstreamError::Unavailable { host: self.site.name.clone(), source })
        };
        tokio::time::timeout(self.shared.token_timeout, granted).await.unwrap_or_else(late)
    }

    /// Whether the upstream may send us to `realm`.
    fn judge(&self, realm: &Url, from_loopback: bool) -> Result<(Origin, Named), UpstreamError> {
        let Some(origin) = Origin::of(realm).filter(|_| realm.username().is_empty() && realm.password().is_none())
        else {
            return Err(self.blocked("a token service".into(), BlockReason::RealmUrl));
        };
        let base = self.base()?;
        match realm::judge(&self.site.name, &base.1, &origin, &self.shared.realm_allow, from_loopback) {
            Ok(named) => Ok((origin, named)),
            Err(reason) => Err(self.blocked(origin.to_string().into(), reason)),
        }
    }

    async fn fetch_token(&self, key: &TokenKey, origin: &Origin, named: Named) -> Result<Token, UpstreamError> {
        let host = || self.site.name.clone();
        let mut url = key.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            for (name, value) in [("service", &key.service), ("scope", &key.scope)] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let basic = self.basic().await?;
        if let Some(basic) = &basic {
            headers.insert(header::AUTHORIZATION, basic.header().clone());
        }
        let outgoing = Outgoing { method: Method::GET, url: &url, origin, named, headers };
        let Incame { status, headers, mut body, .. } = self.send(outgoing).await?;
        let refused = match status {
            StatusCode::OK => {
                self.judged(true);
                let reply = self.whole(&mut body, TOKEN_REPLY_LIMIT).await?;
                let malformed = UpstreamError::Malformed { host: host(), reason: "its token service sent no token" };
                return Token::from_reply(&reply).ok_or(malformed);
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                // A password that has ended early: the next request asks for another.
                if let Some(Authorization::Token(key, granted)) = &basic {
                    self.shared.tokens.drop_refused(key, &granted.token);
                }
                // 403 may be about the repository.
                if status == StatusCode::UNAUTHORIZED {
                    self.judged(false);
                }
                UpstreamError::Unauthorized { host: host(), reason: Refusal::TokenService }
            }
            StatusCode::TOO_MANY_REQUESTS => UpstreamError::Throttled {
                host: host(),
                retry_after: headers::retry_after(&headers, self.shared.clock.now()),
            },
            status if status.is_server_error() => {
                let source = HttpError::Status { target: body.target().clone(), status: status.as_u16() };
                UpstreamError::Unavailable { host: host(), source }
            }
            _ => {
                UpstreamError::Malformed { host: host(), reason: "its token service answers with an unexpected status" }
            }
        };
        body.discard().await;
        Err(refused)
    }

    /// Sends one request on behalf of this upstream.
    pub(crate) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Incame, UpstreamError> {
        self.send_body(outgoing, Bytes::new()).await
    }

    pub(crate) async fn send_body(&self, outgoing: Outgoing<'_>, body: Bytes) -> Result<Incame, UpstreamError> {
        self.shared.wire.send(&self.site.behalf, outgoing, body).await.map_err(|error| self.failed(error))
    }

    pub(crate) fn failed(&self, error: HttpError) -> UpstreamError {
        match error {
            HttpError::Blocked { target, reason } => self.blocked(target, reason),
            source => UpstreamError::Unavailable { host: self.site.name.clone(), source },
        }
    }

    /// Counts it, and tells the operator: nobody else can do anything about it.
    pub(crate) fn blocked(&self, target: Arc<str>, reason: BlockReason) -> UpstreamError {
        let host = &self.site.name;
        self.site.behalf.metrics.blocked(reason.label());
        let told = (host.clone(), target.clone(), reason.label());
        if self.shared.told.get(&told).is_none() {
            self.shared.told.put(told, (), TOLD);
            tracing::warn!(upstream = %host, %target, %reason, "an upstream leads where this node does not go");
        }
        UpstreamError::Blocked { host: host.clone(), target, reason }
    }

    pub(crate) fn base(&self) -> Result<&(Url, Origin), UpstreamError> {
        self.site.base.as_ref().ok_or_else(|| UpstreamError::Malformed {
            host: self.site.name.clone(),
            reason: "the upstream's name is not a host with an optional port",
        })
    }

    /// The rest of a body, at most `limit`, and not for ever.
    pub(crate) async fn whole(&self, body: &mut Body, limit: ByteLen) -> Result<Bytes, UpstreamError> {
        let stalled = HttpError::Stalled { target: body.target().clone() };
        let read = tokio::time::timeout(WHOLE_TIMEOUT, self.read_whole(body, limit)).await;
        read.unwrap_or_else(|_| Err(self.failed(stalled)))
    }

    async fn read_whole(&self, body: &mut Body, limit: ByteLen) -> Result<Bytes, UpstreamError> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let limit_bytes = usize::try_from(limit.0).unwrap_or(usize::MAX);
        while let Some(chunk) = body.chunk().await {
            let chunk = chunk.map_err(|error| self.failed(error))?;
            if (first.len() + all.len()).saturating_add(chunk.len()) > limit_bytes {
                return Err(UpstreamError::TooLarge { host: self.site.name.clone(), limit });
            }
            // Most come in one chunk, which is then not copied.
            if first.is_empty() && all.is_empty() {
                first = chunk;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&chunk);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// What we are known by, as a user and a password.
    async fn basic(&self) -> Result<Option<Authorization>, UpstreamError> {
        match &self.credential {
            None => Ok(None),
            Some(Credential::Password { username, secret }) => {
                Ok(basic_header(username, secret).map(Authorization::Basic))
            }
            Some(Credential::Aws(keys)) => {
                let (key, granted) = Box::pin(self.ecr_password(keys)).await?;
                Ok(Some(Authorization::Token(key, granted)))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Challenges> {
        // Whole after a panic: an entry is replaced as one, and a lost one is only learned again.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic_header(username: &str, secret: &Secret) -> Option<HeaderValue> {
    let pair = Secret::new([username.as_bytes(), b":", secret.expose()].concat());
    // Base64 is always a legal header value.
    let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair.expose()))).ok()?;
    header.set_sensitive(true);
    Some(header)
}

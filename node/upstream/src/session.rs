//! One account at one upstream: which credential or token goes with a request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use flotilla_base::ByteLen;
use flotilla_oci::Name;
use flotilla_runtime::{Clock, Entropy, Host};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::{
    Credential, HttpError, Refusal, UpstreamConfig, UpstreamConfigError, UpstreamError,
    address::Named,
    bounded::BoundedMap,
    breaker::Breaker,
    challenge::Challenge,
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
    numbers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(host: &Host, config: &UpstreamConfig, listed: Vec<Origin>) -> Result<Self, UpstreamConfigError> {
        Ok(Self {
            wire: Wire::new(host, config)?,
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
            quota: Quota::default(),
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
                let header =
                    self.basic().ok_or(UpstreamError::Unauthorized { host, reason: Refusal::WantsPassword })?;
                return Ok(Authorization::Basic(header));
            }
            Challenge::Bearer { realm, service } => (realm, service),
        };
        let (origin, named) = self.judge(&realm, learned.from_loopback)?;
        let scope = name.map(|name| format!("repository:{name}:pull"));
        let key = TokenKey { account: self.number, realm, service, scope };
        let fetch = || self.fetch_token(&key, &origin, named);
        let granted = tokio::time::timeout(self.shared.token_timeout, self.shared.tokens.get(&key, fetch));
        match granted.await {
            Ok(granted) => Ok(Authorization::Token(key.clone(), granted?)),
            Err(_) => {
                let source = HttpError::HeadTimeout { target: origin.to_string().into() };
                Err(UpstreamError::Unavailable { host, source })
            }
        }
    }

    /// Whether the upstream may send us to `realm`.
    fn judge(&self, realm: &Url, from_loopback: bool) -> Result<(Origin, Named), UpstreamError> {
        let blocked = |target: &str, reason| UpstreamError::Blocked {
            host: self.site.name.clone(),
            target: target.into(),
            reason,
        };
        let Some(origin) = Origin::of(realm).filter(|_| realm.username().is_empty() && realm.password().is_none())
        else {
            return Err(blocked("a token service", "its realm is not a plain http or https URL"));
        };
        let base = self.base()?;
        match realm::judge(&self.site.name, &base.1, &origin, &self.shared.realm_allow, from_loopback) {
            Ok(named) => Ok((origin, named)),
            Err(reason) => Err(blocked(&origin.to_string(), reason)),
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
        if let Some(basic) = self.basic() {
            headers.insert(header::AUTHORIZATION, basic);
        }
        let outgoing = Outgoing { method: Method::GET, url: &url, origin, named, headers };
        let Incame { status, headers, mut body, .. } = self.send(outgoing).await?;
        let refused = match status {
            StatusCode::OK => {
                let reply = self.whole(&mut body, TOKEN_REPLY_LIMIT).await?;
                let malformed = UpstreamError::Malformed { host: host(), reason: "its token service sent no token" };
                return Token::from_reply(&reply).ok_or(malformed);
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
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
        self.shared.wire.send(&self.site.behalf, outgoing).await.map_err(|error| self.failed(error))
    }

    pub(crate) fn failed(&self, error: HttpError) -> UpstreamError {
        let host = self.site.name.clone();
        match error {
            HttpError::Address { target, .. } => UpstreamError::Blocked {
                host,
                target,
                reason: "its address is on this machine, its link or a metadata service",
            },
            source => UpstreamError::Unavailable { host, source },
        }
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

    fn basic(&self) -> Option<HeaderValue> {
        let Credential { username, secret } = self.credential.as_ref()?;
        let pair = [username.as_bytes(), b":", secret.expose()].concat();
        // Base64 is always a legal header value.
        let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    fn lock(&self) -> MutexGuard<'_, Challenges> {
        // Whole after a panic: an entry is replaced as one, and a lost one is only learned again.
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One request to an upstream and its answer: breaker, authorization, redirects; and the rule by which it is repeated.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use flotilla_oci::Name;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::{
    BlockReason, HttpError, Refusal, UpstreamError,
    breaker::Pass,
    challenge::Challenge,
    destinations::Named,
    headers,
    origin::Origin,
    pauses::Kind,
    session::{Authorization, Learned, Session},
    wire::{Body, Incame, Outgoing},
};

const MAX_REDIRECTS: usize = 5;
/// Unauthorized, then with a token held from before, then with a new one.
const AUTHORIZATION_ROUNDS: usize = 3;
/// Requests in all for one call that keeps failing in ways that may pass.
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// What is asked of an upstream. Always a GET or HEAD: all of this may be repeated.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// After the base: `/v2/…`, with a query if any. Made of checked names and digests.
    pub(crate) path: String,
    /// The repository that a token must be for.
    pub(crate) name: Option<Name>,
    pub(crate) accept: Option<&'static str>,
    /// Of a blob: the first byte wanted.
    pub(crate) from: u64,
    /// The breaker has heard of its failure: however often it is repeated, it is one question.
    pub(crate) failed: AtomicBool,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// It comes from where the upstream sent us.
    pub(crate) redirected: bool,
    /// The upstream was asked with a credential or a token.
    pub(crate) authorized: bool,
}

impl Ask {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, name: None, accept: None, from: 0, failed: AtomicBool::new(false) }
    }

    /// What an upstream's limit counts together: Docker Hub counts a GET of a manifest and neither HEAD nor blobs.
    fn kind(&self) -> Kind {
        match self.method {
            Method::HEAD => Kind::Head,
            _ if self.path.contains("/manifests/") => Kind::Manifest,
            _ => Kind::Other,
        }
    }

    fn count_failure(&self, pass: &mut Pass) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            pass.failure();
        }
    }

    fn headers(&self, authorization: Option<&Authorization>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(accept) = self.accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        if self.from > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.from))
        {
            headers.insert(header::RANGE, range);
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.header().clone());
        }
        headers
    }
}

impl Session {
    /// The answer with its final status, whatever that is. Cancel safe.
    pub(crate) async fn exchange(&self, ask: &Ask) -> Result<Answer, UpstreamError> {
        let host = &self.site.name;
        let open = |retry_after| UpstreamError::CircuitOpen { host: host.clone(), retry_after };
        if let Some(left) = self.pauses.left(ask.kind()) {
            return Err(UpstreamError::Throttled { host: host.clone(), retry_after: Some(left) });
        }
        let mut pass = self.site.breaker.admit().map_err(open)?;
        let (base, origin) = self.base()?;
        // Put together as text, because `base` may have a path of its own.
        let url = Url::parse(&format!("{}{}", base.as_str().trim_end_matches('/'), ask.path)).map_err(|_| {
            UpstreamError::Malformed { host: host.clone(), reason: "its base URL and our path make no URL" }
        })?;
        let (answer, authorization) = match self.ask_upstream(ask, &url, origin).await {
            Ok(answered) => answered,
            Err(error) => {
                if matches!(error, UpstreamError::Unavailable { .. }) {
                    ask.count_failure(&mut pass);
                }
                return Err(error);
            }
        };
        match answer.status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                ask.count_failure(&mut pass);
            }
            // Also a 500: it lives, and may be at odds with this one image.
            _ => pass.success(),
        }
        drop(pass);
        if let Some(remaining) = headers::rate_limit_remaining(&answer.headers) {
            self.site.behalf.metrics.remaining(remaining);
            self.quota.hear(&answer.headers);
        }
        if answer.status == StatusCode::TOO_MANY_REQUESTS
            && let Some(wait) = headers::retry_after(&answer.headers, self.shared.clock.now())
        {
            self.pauses.begin(ask.kind(), wait);
        }
        if matches!(authorization, Some(Authorization::Basic(_))) {
            match answer.status {
                StatusCode::UNAUTHORIZED => self.judged(false),
                StatusCode::NOT_FOUND => self.judged(true),
                status if status.is_success() || status.is_redirection() => self.judged(true),
                _ => {}
            }
        }
        let authorized = authorization.is_some();
        self.follow(ask, url, origin, answer, authorization).await.map(|(incame, redirected)| Answer {
            status: incame.status,
            headers: incame.headers,
            body: incame.body,
            redirected,
            authorized,
        })
    }

    async fn ask_upstream(
        &self,
        ask: &Ask,
        url: &Url,
        origin: &Origin,
    ) -> Result<(Incame, Option<Authorization>), UpstreamError> {
        let name = ask.name.as_ref();
        let mut learned = self.learned(name);
        let mut authorization = None;
        if let Some(before) = &learned {
            match self.authorize(name, before.clone()).await {
                Ok(granted) => authorization = Some(granted),
                Err(error @ (UpstreamError::Unavailable { .. } | UpstreamError::Throttled { .. })) => {
                    return Err(error);
                }
                // What was learned may be of another repository, or of another day: the upstream shall say it again.
                Err(_) => {
                    self.forget(name);
                    learned = None;
                }
            }
        }
        let mut round = 1;
        loop {
            let headers = ask.headers(authorization.as_ref());
            let outgoing = Outgoing { method: ask.method.clone(), url, origin, named: Named::ByOperator, headers };
            let incame = self.send(outgoing).await?;
            let refused = match authorization {
                None | Some(Authorization::Basic(_)) => incame.status == StatusCode::UNAUTHORIZED,
                // ECR Public answers 400 to an expired token, others 403.
                Some(Authorization::Token(..)) => {
                    matches!(incame.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                }
            };
            if !refused || round == AUTHORIZATION_ROUNDS {
                return Ok((incame, authorization));
            }
            round += 1;
            let asked = Challenge::choose(&incame.headers)
                .map(|challenge| Learned { challenge, from_loopback: incame.from_loopback });
            let changed = match (&asked, &learned) {
                (Some(asked), Some(learned)) => asked.challenge != learned.challenge,
                (asked, _) => asked.is_some(),
            };
            let cached = match &authorization {
                Some(Authorization::Token(key, granted)) => {
                    self.shared.tokens.drop_refused(key, &granted.token);
                    granted.cached
                }
                _ => false,
            };
            let Some(next) = asked.or(learned).filter(|_| changed || cached) else {
                return Ok((incame, authorization));
            };
            incame.body.discard().await;
            authorization = Some(self.authorize(name, next.clone()).await?);
            self.learn(name, next.clone());
            learned = Some(next);
        }
    }

    /// Goes where the upstream sends us. The credential stays behind with the upstream's own origin.
    async fn follow(
        &self,
        ask: &Ask,
        mut url: Url,
        home: &Origin,
        mut answer: Incame,
        mut authorization: Option<Authorization>,
    ) -> Result<(Incame, bool), UpstreamError> {
        let malformed = |reason| UpstreamError::Malformed { host: self.site.name.clone(), reason };
        let mut at = home.clone();
        for hop in 0..=MAX_REDIRECTS {
            if !is_redirect(answer.status) {
                return Ok((answer, hop > 0));
            }
            let location = answer.headers.get(header::LOCATION).ok_or(malformed("a redirect without a Location"))?;
            let location = std::str::from_utf8(location.as_bytes()).ok().and_then(|location| url.join(location).ok());
            url = location.ok_or(malformed("a redirect whose Location is not a URL"))?;
            let next = Origin::of(&url).ok_or(malformed("a redirect to something else than http or https"))?;
            let blocked = |reason| self.blocked(next.to_string().into(), reason);
            if at.https && !next.https {
                return Err(blocked(BlockReason::Downgrade));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(blocked(BlockReason::Userinfo));
            }
            // It would mean nothing here; whoever writes one means something that we do not do.
            if url.fragment().is_some() {
                return Err(blocked(BlockReason::Fragment));
            }
            if hop == MAX_REDIRECTS {
                return Err(blocked(BlockReason::TooManyRedirects));
            }
            if next != *home {
                authorization = None;
            }
            let named = if next == *home || self.shared.listed.contains(&next) {
                Named::ByOperator
            } else {
                Named::ByUpstream { from_loopback: answer.from_loopback }
            };
            answer.body.discard().await;
            let headers = ask.headers(authorization.as_ref());
            answer =
                self.send(Outgoing { method: ask.method.clone(), url: &url, origin: &next, named, headers }).await?;
            at = next;
        }
        Err(malformed("too many redirects"))
    }

    /// The answer if its status is a success; what the status means otherwise.
    pub(crate) async fn accept(&self, answer: Answer) -> Result<Answer, UpstreamError> {
        let host = || self.site.name.clone();
        let status = answer.status;
        let error = match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT if headers::is_html(&answer.headers) => {
                UpstreamError::NotARegistry { host: host(), reason: "it answers with a web page" }
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT if headers::is_encoded(&answer.headers) => {
                UpstreamError::Malformed { host: host(), reason: "a Content-Encoding that we did not ask for" }
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
            StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::NotFound { host: host() },
            StatusCode::UNAUTHORIZED => {
                let reason = if answer.authorized { Refusal::NotAccepted } else { Refusal::NoChallenge };
                UpstreamError::Unauthorized { host: host(), reason }
            }
            StatusCode::FORBIDDEN => UpstreamError::Denied { host: host() },
            StatusCode::TOO_MANY_REQUESTS => UpstreamError::Throttled {
                host: host(),
                retry_after: headers::retry_after(&answer.headers, self.shared.clock.now()),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                UpstreamError::Mismatch { host: host(), reason: "it does not have the range that was asked for" }
            }
            // Not worth another attempt, at any node of the circle: each would go round again.
            StatusCode::LOOP_DETECTED => UpstreamError::Loop { host: host() },
            status if status.is_server_error() => self.unavailable(&answer),
            status => UpstreamError::Status { host: host(), status: status.as_u16() },
        };
        answer.body.discard().await;
        Err(error)
    }

    pub(crate) fn unavailable(&self, answer: &Answer) -> UpstreamError {
        let source = HttpError::Status { target: answer.body.target().clone(), status: answer.status.as_u16() };
        UpstreamError::Unavailable { host: self.site.name.clone(), source }
    }

    /// Repeats `call` a few times over what may pass, with jitter, and only as long as one response may take: callers
    /// have something to serve meanwhile.
    pub(crate) async fn retrying<T, F>(&self, call: impl Fn() -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let begun = Instant::now();
        let mut last = match call().await {
            Err(error) => error,
            done => return done,
        };
        for attempt in 1..ATTEMPTS {
            if !last.is_transient() || begun.elapsed() >= self.shared.head_timeout {
                return Err(last);
            }
            sleep(self.backoff(attempt)).await;
            match call().await {
                // The circuit opened over our own failures, which say more.
                Err(UpstreamError::CircuitOpen { .. }) => return Err(last),
                Err(error) => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    /// 100 ms doubled with each attempt up to 5 s, half of it by chance.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let full = FIRST_BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(Duration::from_secs(5));
        full.mul_f64(0.5 + self.shared.entropy.unit() / 2.0)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

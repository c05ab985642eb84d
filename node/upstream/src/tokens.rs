//! Tokens of the Docker token service: one request per scope at a time, used until 80 % of their life, forgotten when
//! they are refused.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_runtime::{Flight, SingleFlight};
use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::{UpstreamError, bounded::BoundedMap};

/// Tokens kept in all; each has a few KiB.
const MAX_TOKENS: usize = 1024;
/// Where the service does not say (Docker token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// What is believed of a service that says more: so long a mistake may last.
const LONGEST_LIFE: Duration = Duration::from_secs(12 * 3600);

/// How long a token past its refresh is used after the service failed to give another.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    /// Whose credential it was asked with.
    pub(crate) account: u64,
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The value of `Authorization`; marked as sensitive.
    pub(crate) header: HeaderValue,
    refresh_at: Instant,
    expires_at: Instant,
}

/// Where a token came from decides whether a refusal deserves another one.
pub(crate) struct Granted {
    pub(crate) token: Token,
    pub(crate) cached: bool,
}

pub(crate) struct Tokens {
    cache: Mutex<BoundedMap<TokenKey, Token>>,
    flights: SingleFlight<TokenKey, Result<Token, UpstreamError>>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { cache: Mutex::new(BoundedMap::new(MAX_TOKENS)), flights: SingleFlight::default() }
    }

    /// The token of `key`, from `fetch` if none is fresh. `fetch` is bounded in time, and so are those who wait for it;
    /// when its caller goes away, one of them fetches. Cancel safe.
    pub(crate) async fn get<F>(&self, key: &TokenKey, fetch: impl Fn() -> F) -> Result<Granted, UpstreamError>
    where
        F: Future<Output = Result<Token, UpstreamError>>,
    {
        loop {
            let held = self.lock().get(key).filter(|token| Instant::now() < token.expires_at).cloned();
            if let Some(token) = held.clone().filter(|token| Instant::now() < token.refresh_at) {
                return Ok(Granted { token, cached: true });
            }
            match self.flights.claim(key.clone()) {
                Flight::Lead(lead) => {
                    let fetched = fetch().await;
                    if let Ok(token) = &fetched {
                        self.lock().insert(key.clone(), token.clone());
                    }
                    let granted = match (fetched, held) {
                        // The service is in trouble, but the old token has some life left. Not every request shall
                        // wait for the service to fail again.
                        (Err(UpstreamError::Unavailable { .. } | UpstreamError::Throttled { .. }), Some(token)) => {
                            let refresh_at = Instant::now() + REFRESH_PAUSE;
                            self.lock().insert(key.clone(), Token { refresh_at, ..token.clone() });
                            Ok((token, true))
                        }
                        (fetched, _) => fetched.map(|token| (token, false)),
                    };
                    lead.publish(granted.clone().map(|(token, _)| token));
                    return granted.map(|(token, cached)| Granted { token, cached });
                }
                Flight::Follow(mut flight) => {
                    if let Ok(result) = flight.wait_for(Option::is_some).await
                        && let Some(result) = &*result
                    {
                        return result.clone().map(|token| Granted { token, cached: false });
                    }
                }
            }
        }
    }

    /// Forgets every token that was asked for with the credential of `account`.
    pub(crate) fn drop_account(&self, account: u64) {
        self.lock().retain(|key| key.account != account);
    }

    /// Forgets `token`, unless another has taken its place already.
    pub(crate) fn drop_refused(&self, key: &TokenKey, token: &Token) {
        let mut cache = self.lock();
        if cache.get(key).is_some_and(|held| held.header == token.header) {
            cache.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BoundedMap<TokenKey, Token>> {
        // Whole after a panic: each holder makes one call, and a lost entry is only asked for again.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Reply {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Token {
    /// What Amazon ECR gives, a Basic credential with a life of `seconds`; `None` when it cannot be sent.
    pub(crate) fn basic(credential: &str, seconds: f64) -> Option<Self> {
        Self::living(format!("Basic {credential}"), seconds)
    }

    /// Reads the service's reply; `None` when it holds no token that can be sent.
    pub(crate) fn from_reply(reply: &[u8]) -> Option<Self> {
        let reply: Reply = serde_json::from_slice(reply).ok()?;
        let token =
            reply.token.filter(|token| !token.is_empty()).or(reply.access_token).filter(|token| !token.is_empty())?;
        Self::living(format!("Bearer {token}"), reply.expires_in.unwrap_or(DEFAULT_LIFE.as_secs_f64()))
    }

    fn living(header: String, seconds: f64) -> Option<Self> {
        // Zero and less are taken for a mistake of the service: the token is good for this request at least.
        let life = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST_LIFE);
        let mut header = HeaderValue::try_from(header).ok()?;
        header.set_sensitive(true);
        let now = Instant::now();
        Some(Self { header, refresh_at: now + life.mul_f64(0.8), expires_at: now + life })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::time::advance;

    use super::*;

    fn key() -> TokenKey {
        TokenKey { account: 1, realm: Url::parse("https://a.example/t").unwrap(), service: None, scope: None }
    }

    fn unavailable() -> UpstreamError {
        let target: Arc<str> = "a.example".into();
        UpstreamError::Unavailable { host: target.clone(), source: crate::HttpError::HeadTimeout { target } }
    }

    #[test]
    fn replies_are_read_in_both_spellings() {
        let read =
            |reply: &str| Token::from_reply(reply.as_bytes()).map(|token| token.header.to_str().unwrap().to_owned());
        assert_eq!(read(r#"{"token":"a","expires_in":300,"issued_at":"x"}"#).as_deref(), Some("Bearer a"));
        assert_eq!(read(r#"{"access_token":"b"}"#).as_deref(), Some("Bearer b"));
        assert_eq!(read(r#"{"token":"","access_token":"b"}"#).as_deref(), Some("Bearer b"));
        for bad in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#, "<html>"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for odd in ["-1", "0", "1e300"] {
            assert!(read(&format!(r#"{{"token":"a","expires_in":{odd}}}"#)).is_some(), "{odd}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_fetched_once_and_again_at_80_percent_of_its_life() {
        let tokens = Arc::new(Tokens::new());
        let fetched = Arc::new(AtomicU32::new(0));
        let get = || async {
            let fetch = || async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let number = fetched.fetch_add(1, Ordering::Relaxed);
                Token::from_reply(format!(r#"{{"token":"t{number}","expires_in":100}}"#).as_bytes())
                    .ok_or_else(unavailable)
            };
            tokens.get(&key(), fetch).await.unwrap()
        };
        let all = futures_util::future::join_all((0..20).map(|_| get())).await;
        assert!(all.iter().all(|granted| granted.token.header == "Bearer t0" && !granted.cached));
        advance(Duration::from_secs(79)).await;
        assert!(get().await.cached);
        advance(Duration::from_secs(2)).await;
        assert_eq!(get().await.token.header, "Bearer t1");

        let refused = get().await.token;
        tokens.drop_refused(&key(), &refused);
        assert_eq!(get().await.token.header, "Bearer t2");
        tokens.drop_refused(&key(), &refused);
        assert_eq!(get().await.token.header, "Bearer t2", "a late refusal of the old one drops nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_serves_while_the_service_is_in_trouble() {
        let tokens = Tokens::new();
        let good = || async { Token::from_reply(br#"{"token":"a","expires_in":100}"#).ok_or_else(unavailable) };
        let bad = || async { Err(unavailable()) };
        tokens.get(&key(), good).await.unwrap();
        advance(Duration::from_secs(90)).await;
        assert_eq!(tokens.get(&key(), bad).await.unwrap().token.header, "Bearer a");
        advance(Duration::from_secs(11)).await;
        assert!(tokens.get(&key(), bad).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_fetches_when_the_leader_goes_away() {
        let tokens = Arc::new(Tokens::new());
        let leader = {
            let tokens = tokens.clone();
            tokio::spawn(async move { tokens.get(&key(), std::future::pending).await.map(|_| ()) })
        };
        tokio::task::yield_now().await;
        let follower = {
            let tokens = tokens.clone();
            let fetch = || async { Token::from_reply(br#"{"token":"a"}"#).ok_or_else(unavailable) };
            tokio::spawn(async move { tokens.get(&key(), fetch).await.map(|granted| granted.token.header) })
        };
        tokio::task::yield_now().await;
        leader.abort();
        assert_eq!(follower.await.unwrap().unwrap(), "Bearer a");
    }
}

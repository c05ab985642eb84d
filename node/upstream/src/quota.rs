//! What an upstream's limit leaves to an account, as it last said; Docker Hub counts GETs of manifests.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::headers;

/// What is left below one in so many is kept for callers who signed in and for tags that are held.
const KEPT_ONE_IN: u64 = 10;

/// A word is believed for so long when nothing newer is heard: one more question then tells how it stands.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<Option<Told>>);

#[derive(Clone, Copy, Debug)]
struct Told {
    limit: u64,
    remaining: u64,
    until: Instant,
}

impl Quota {
    fn lock(&self) -> MutexGuard<'_, Option<Told>> {
        // Whole after a panic: each holder replaces the value as one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what a response says, if it says both how much there is and how much is left.
    pub(crate) fn hear(&self, headers: &HeaderMap) {
        let Some((limit, window)) = headers::rate_limit(headers) else { return };
        let Some(remaining) = headers::rate_limit_remaining(headers) else { return };
        let until = headers::rate_limit_reset(headers).or(window).unwrap_or(BELIEVED).min(BELIEVED);
        let remaining = u64::try_from(remaining).unwrap_or(0);
        *self.lock() = Some(Told { limit, remaining, until: Instant::now() + until });
    }

    /// What is left by the last word, as long as it is believed.
    pub(crate) fn remaining(&self) -> Option<u64> {
        (*self.lock()).filter(|told| told.until > Instant::now()).map(|told| told.remaining)
    }

    /// How long what is left is kept from anonymous callers; `None` while there is enough.
    pub(crate) fn kept(&self) -> Option<Duration> {
        let Told { limit, remaining, until } = (*self.lock())?;
        let left = until.saturating_duration_since(Instant::now());
        (remaining.saturating_mul(KEPT_ONE_IN) < limit && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn told(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_tenth_is_kept_until_the_upstream_says_otherwise_or_the_word_is_old() {
        let quota = Quota::default();
        assert_eq!(quota.kept(), None, "most upstreams tell nothing");
        quota.hear(&told(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "10;w=21600")]));
        assert_eq!(quota.remaining(), Some(10));
        assert_eq!(quota.kept(), None);
        quota.hear(&told(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "9;w=21600")]));
        assert_eq!(quota.kept(), Some(BELIEVED));
        quota.hear(&told(&[("ratelimit-remaining", "80")]));
        assert_eq!(quota.kept(), Some(BELIEVED), "of how many it does not say");
        quota.hear(&told(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "80;w=21600")]));
        assert_eq!(quota.kept(), None);
        let soon = [("ratelimit-limit", "100"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "30")];
        quota.hear(&told(&soon));
        assert_eq!(quota.kept(), Some(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(quota.kept(), None);
    }
}

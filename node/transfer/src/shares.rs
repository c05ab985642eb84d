//! What one upstream may take of what all share: fills, and bodies that pass by at their clients' pace. A stalled
//! upstream, or clients that crawl, cost those who need that upstream and nobody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use flotilla_base::ByteLen;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long a blob that passes by waits for a place: twice a window of [`Pace`], in which a crawling client is found.
const PASS_WAIT: Duration = Duration::from_secs(60);

/// What a client takes in a second at least, when others wait for its place.
const PACE: ByteLen = ByteLen::kib(64);
/// Long enough that a client that unpacks what it has is not taken for one that crawls. The first one is not judged.
const WINDOW: Duration = Duration::from_secs(30);

/// Whom an origin leads to.
pub(crate) struct Site {
    /// The upstream's canonical host.
    pub host: String,
    /// Bodies that may pass by at once.
    pub passes: usize,
}

/// Fills by upstream.
pub(crate) struct Shares {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One fill's place.
pub(crate) struct Share {
    shares: Arc<Shares>,
    host: String,
}

impl Shares {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when the upstream has its share.
    pub(crate) fn take(self: &Arc<Self>, host: String) -> Option<Share> {
        let mut taken = self.lock();
        let count = taken.entry(host.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), host })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(count) = taken.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.host);
            }
        }
    }
}

/// Bodies that pass by, by upstream. Fewer than its gate lets in, so that fills always find a place there.
#[derive(Default)]
pub(crate) struct Passes(Mutex<HashMap<String, Weak<Semaphore>>>);

/// Held while a body passes by.
pub(crate) struct Place(OwnedSemaphorePermit);

impl Passes {
    fn of(&self, site: &Site) -> Arc<Semaphore> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = hosts.get(&site.host).and_then(Weak::upgrade) {
            return places;
        }
        hosts.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(site.passes.clamp(1, Semaphore::MAX_PERMITS)));
        hosts.insert(site.host.clone(), Arc::downgrade(&places));
        places
    }

    pub(crate) fn try_enter(&self, site: &Site) -> Option<Place> {
        self.of(site).try_acquire_owned().ok().map(Place)
    }

    /// `None` when none became free in time. Cancel safe.
    pub(crate) async fn enter(&self, site: &Site) -> Option<Place> {
        let places = self.of(site);
        tokio::time::timeout(PASS_WAIT, places.acquire_owned()).await.ok()?.ok().map(Place)
    }
}

impl Place {
    fn is_contended(&self) -> bool {
        self.0.semaphore().available_permits() == 0
    }
}

/// How fast a client takes what passes by. Only its own time counts, not that of the upstream.
pub(crate) struct Pace {
    place: Place,
    handed: Option<Instant>,
    waited: Duration,
    taken: u64,
    judges: bool,
}

impl Pace {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, handed: None, waited: Duration::ZERO, taken: 0, judges: false }
    }

    /// Bytes leave for the client.
    pub(crate) fn hands(&mut self, len: usize) {
        self.taken = self.taken.saturating_add(len as u64);
        self.handed = Some(Instant::now());
    }

    /// The client asks for more; whether it has to give its place to others. A client that asks for nothing at all is
    /// cut at the door.
    pub(crate) fn is_too_slow(&mut self) -> bool {
        let Some(handed) = self.handed.take() else { return false };
        self.waited = self.waited.saturating_add(handed.elapsed());
        if self.waited < WINDOW {
            return false;
        }
        let least = PACE.0.saturating_mul(self.waited.as_secs());
        let slow = self.judges && self.taken < least && self.place.is_contended();
        (self.waited, self.taken, self.judges) = (Duration::ZERO, 0, true);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(host: &str) -> Site {
        Site { host: host.to_owned(), passes: 2 }
    }

    #[test]
    fn an_upstream_takes_no_more_than_its_share_and_leaves_no_trace() {
        let shares = Shares::new(2);
        let held: Vec<Share> = (0..2).map(|_| shares.take("a".to_owned()).unwrap()).collect();
        assert!(shares.take("a".to_owned()).is_none());
        assert!(shares.take("b".to_owned()).is_some());
        drop(held);
        assert!(shares.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_and_not_for_ever() {
        let passes = Passes::default();
        let first = passes.enter(&site("a")).await.unwrap();
        let second = passes.try_enter(&site("a")).unwrap();
        assert!(passes.try_enter(&site("a")).is_none() && passes.try_enter(&site("b")).is_some());
        assert!(passes.enter(&site("a")).await.is_none());
        drop(first);
        assert!(passes.enter(&site("a")).await.is_some());
        drop(second);
        drop(passes.try_enter(&site("c")));
        assert_eq!(passes.0.lock().unwrap().len(), 1, "hosts that nothing passes from are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_client_that_crawls_while_others_wait_is_too_slow() {
        let passes = Passes::default();
        let mut pace = Pace::new(passes.try_enter(&site("a")).unwrap());
        let mut takes = async |bytes: usize, seconds: u64| {
            let mut slow = false;
            for _ in 0..seconds {
                pace.hands(bytes);
                tokio::time::advance(Duration::from_secs(1)).await;
                slow |= pace.is_too_slow();
            }
            slow
        };
        assert!(!takes(1, 90).await, "nobody waits");
        let other = passes.try_enter(&site("a")).unwrap();
        assert!(!takes(64 << 10, 90).await, "fast enough");
        assert!(takes(63 << 10, 30).await);
        drop(other);
        assert!(!takes(1, 90).await);
        let mut patient = Pace::new(passes.try_enter(&site("a")).unwrap());
        let _other = passes.try_enter(&site("a"));
        for _ in 0..10 {
            patient.hands(1);
            assert!(!patient.is_too_slow());
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert!(!patient.is_too_slow(), "the upstream's time is not the client's");
    }
}

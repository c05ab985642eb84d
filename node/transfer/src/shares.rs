//! What one upstream may take of what all share: fills, and bodies that pass by at their clients' pace. A stalled
//! upstream, or clients that crawl, cost those who need that upstream and nobody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use flotilla_base::ByteLen;
use flotilla_upstream::Class;
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
    /// Of these, those that may run when an anonymous caller begins one.
    anonymous: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One fill's place.
pub(crate) struct Share {
    shares: Arc<Shares>,
    host: String,
}

impl Shares {
    pub(crate) fn new(most: usize, anonymous: usize) -> Arc<Self> {
        Arc::new(Self { most, anonymous, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when the upstream has its share.
    pub(crate) fn take(self: &Arc<Self>, host: String, class: Class) -> Option<Share> {
        let most = if class == Class::Anonymous { self.anonymous } else { self.most };
        let mut taken = self.lock();
        let count = taken.entry(host.clone()).or_default();
        if *count >= most {
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

/// Bodies that pass by, by upstream. Fewer than its gate lets in, so that fills always find a place there; and of them
/// fewer for anonymous callers, who would else hold the places here while they wait for theirs at the gate.
#[derive(Default)]
pub(crate) struct Passes(Mutex<HashMap<String, Weak<Places>>>);

struct Places {
    all: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
}

/// Held while a body passes by.
pub(crate) struct Place {
    /// Keeps the upstream known while something passes from it.
    places: Arc<Places>,
    #[expect(dead_code, reason = "held, not read")]
    all: OwnedSemaphorePermit,
    anonymous: Option<OwnedSemaphorePermit>,
}

impl Places {
    fn new(passes: usize) -> Self {
        let of = |places: usize| Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Self { all: of(passes), anonymous: of(passes / 2) }
    }

    /// The own lane first: who waits for it holds no place of the others.
    async fn enter(self: Arc<Self>, class: Class) -> Option<Place> {
        let anonymous = match class {
            Class::Anonymous => Some(self.anonymous.clone().acquire_owned().await.ok()?),
            _ => None,
        };
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { places: self, all, anonymous })
    }
}

impl Passes {
    fn of(&self, site: &Site) -> Arc<Places> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = hosts.get(&site.host).and_then(Weak::upgrade) {
            return places;
        }
        hosts.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Places::new(site.passes));
        hosts.insert(site.host.clone(), Arc::downgrade(&places));
        places
    }

    pub(crate) fn try_enter(&self, site: &Site, class: Class) -> Option<Place> {
        let places = self.of(site);
        let anonymous = match class {
            Class::Anonymous => Some(places.anonymous.clone().try_acquire_owned().ok()?),
            _ => None,
        };
        let all = places.all.clone().try_acquire_owned().ok()?;
        Some(Place { places, all, anonymous })
    }

    /// `None` when none became free in time. Cancel safe.
    pub(crate) async fn enter(&self, site: &Site, class: Class) -> Option<Place> {
        tokio::time::timeout(PASS_WAIT, self.of(site).enter(class)).await.ok()?
    }
}

impl Place {
    fn is_contended(&self) -> bool {
        let is_full = |lane: &Semaphore| lane.available_permits() == 0;
        is_full(&self.places.all) || self.anonymous.is_some() && is_full(&self.places.anonymous)
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

    const SIGNED_IN: Class = Class::Authenticated;

    fn site(host: &str) -> Site {
        Site { host: host.to_owned(), passes: 2 }
    }

    #[test]
    fn an_upstream_takes_no_more_than_its_share_and_leaves_no_trace() {
        let shares = Shares::new(2, 1);
        let held: Vec<Share> = (0..2).map(|_| shares.take("a".to_owned(), SIGNED_IN).unwrap()).collect();
        assert!(shares.take("a".to_owned(), SIGNED_IN).is_none());
        let anonymous = shares.take("b".to_owned(), Class::Anonymous).unwrap();
        assert!(shares.take("b".to_owned(), Class::Anonymous).is_none());
        assert!(shares.take("b".to_owned(), SIGNED_IN).is_some(), "kept for who signs in");
        drop(anonymous);
        drop(held);
        assert!(shares.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_and_not_for_ever() {
        let passes = Passes::default();
        let first = passes.enter(&site("a"), SIGNED_IN).await.unwrap();
        let second = passes.try_enter(&site("a"), SIGNED_IN).unwrap();
        assert!(passes.try_enter(&site("a"), SIGNED_IN).is_none() && passes.try_enter(&site("b"), SIGNED_IN).is_some());
        assert!(passes.enter(&site("a"), SIGNED_IN).await.is_none());
        drop(first);
        assert!(passes.enter(&site("a"), SIGNED_IN).await.is_some());
        drop(second);
        drop(passes.try_enter(&site("c"), SIGNED_IN));
        assert_eq!(passes.0.lock().unwrap().len(), 1, "hosts that nothing passes from are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn anonymous_callers_leave_places_to_those_who_sign_in() {
        let passes = Passes::default();
        let first = passes.enter(&site("a"), Class::Anonymous).await.unwrap();
        assert!(first.is_contended(), "of its own lane");
        assert!(passes.try_enter(&site("a"), Class::Anonymous).is_none());
        let a = site("a");
        let mut waiting = std::pin::pin!(passes.enter(&a, Class::Anonymous));
        assert!(tokio::time::timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        assert!(passes.try_enter(&site("a"), SIGNED_IN).is_some(), "whoever waits holds nothing");
        drop(first);
        assert!(waiting.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_client_that_crawls_while_others_wait_is_too_slow() {
        let passes = Passes::default();
        let mut pace = Pace::new(passes.try_enter(&site("a"), SIGNED_IN).unwrap());
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
        let other = passes.try_enter(&site("a"), SIGNED_IN).unwrap();
        assert!(!takes(64 << 10, 90).await, "fast enough");
        assert!(takes(63 << 10, 30).await);
        drop(other);
        assert!(!takes(1, 90).await);
        let mut patient = Pace::new(passes.try_enter(&site("a"), SIGNED_IN).unwrap());
        let _other = passes.try_enter(&site("a"), SIGNED_IN);
        for _ in 0..10 {
            patient.hands(1);
            assert!(!patient.is_too_slow());
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert!(!patient.is_too_slow(), "the upstream's time is not the client's");
    }
}

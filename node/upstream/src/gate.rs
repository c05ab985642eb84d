use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{Class, Turn};

/// How much may be under way at one upstream. Bodies of blobs, which last, leave a quarter of it to the rest; anonymous
/// misses and revalidations take half of it each at most. So whoever signed in finds at least half of the places free of
/// anonymous callers, however many of those wait.
pub(crate) struct Gate {
    whole: Lane,
    anonymous: Lane,
    revalidation: Lane,
    blobs_at_once: usize,
    wait: Duration,
    wait_blob: Duration,
}

/// Places, and how many of them bodies of blobs may take.
struct Lane {
    all: Arc<Semaphore>,
    blobs: Arc<Semaphore>,
}

/// Held as long as a request or its body is under way.
pub(crate) struct Permit(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Request,
    Blob,
}

impl Lane {
    fn new(places: usize) -> Self {
        let all = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Self { all, blobs: Arc::new(Semaphore::new(Self::blobs(places))) }
    }

    /// Of so many places, those that blobs may take.
    fn blobs(places: usize) -> usize {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        (places - places / 4).max(1)
    }

    async fn enter(&self, what: What, held: &mut Vec<OwnedSemaphorePermit>) -> Option<()> {
        if what == What::Blob {
            held.push(self.blobs.clone().acquire_owned().await.ok()?);
        }
        held.push(self.all.clone().acquire_owned().await.ok()?);
        Some(())
    }
}

impl Gate {
    pub(crate) fn new(concurrency: usize, wait: Duration, wait_blob: Duration) -> Self {
        Self {
            whole: Lane::new(concurrency),
            // With a single place there is nothing to keep from anybody.
            anonymous: Lane::new(concurrency / 2),
            revalidation: Lane::new(concurrency / 2),
            blobs_at_once: Lane::blobs(concurrency),
            wait,
            wait_blob,
        }
    }

    pub(crate) fn blobs_at_once(&self) -> usize {
        self.blobs_at_once
    }

    /// `None` when it was not our turn in time. Cancel safe.
    pub(crate) async fn enter(&self, turn: &Turn) -> Option<Permit> {
        timeout(self.wait, self.wait_for(turn, What::Request)).await.ok()?
    }

    /// As [`Gate::enter`], for a blob.
    pub(crate) async fn enter_blob(&self, turn: &Turn) -> Option<Permit> {
        timeout(self.wait_blob, self.wait_for(turn, What::Blob)).await.ok()?
    }

    /// Waits in the queue of its class, and in another one when the class rises.
    async fn wait_for(&self, turn: &Turn, what: What) -> Option<Permit> {
        let mut turn = turn.clone();
        loop {
            let class = turn.seen();
            tokio::select! {
                biased;
                permit = self.enter_as(class, what) => return permit,
                () = turn.rises() => {}
            }
        }
    }

    /// The lane of the class first: who waits for it holds no place of the others.
    async fn enter_as(&self, class: Class, what: What) -> Option<Permit> {
        let own = match class {
            Class::Anonymous => Some(&self.anonymous),
            Class::Revalidation => Some(&self.revalidation),
            Class::Authenticated => None,
        };
        let mut held = Vec::with_capacity(4);
        for lane in own.into_iter().chain([&self.whole]) {
            lane.enter(what, &mut held).await?;
        }
        Some(Permit(held))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    fn gate(concurrency: usize) -> Gate {
        Gate::new(concurrency, Duration::from_secs(1), Duration::from_secs(2))
    }

    #[tokio::test(start_paused = true)]
    async fn blobs_leave_room_for_manifests_and_nobody_waits_for_ever() {
        let (gate, turn) = (gate(4), Turn::from(Class::Authenticated));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.enter_blob(&turn).await.unwrap());
        }
        assert!(gate.enter_blob(&turn).await.is_none(), "a fourth blob");
        held.push(gate.enter(&turn).await.unwrap());
        assert!(gate.enter(&turn).await.is_none(), "a fifth request");
        held.clear();
        assert!(gate.enter_blob(&turn).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn anonymous_misses_leave_half_to_the_others_and_keep_room_for_their_own_manifests() {
        let (gate, anonymous) = (gate(8), Turn::from(Class::Anonymous));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.enter_blob(&anonymous).await.unwrap());
        }
        assert!(gate.enter_blob(&anonymous).await.is_none(), "a fourth blob of anonymous callers");
        held.push(gate.enter(&anonymous).await.unwrap());
        assert!(gate.enter(&anonymous).await.is_none(), "a fifth request of anonymous callers");
        // Neither those who wait nor those who are in take what is kept.
        let waiting: Vec<_> = (0..100).map(|_| gate.enter_blob(&anonymous)).collect();
        let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).collect();
        for wait in &mut waiting {
            assert!(timeout(Duration::ZERO, wait).await.is_err());
        }
        let (signed_in, revalidation) = (Turn::from(Class::Authenticated), Turn::from(Class::Revalidation));
        for _ in 0..2 {
            held.push(gate.enter_blob(&signed_in).await.unwrap());
            held.push(gate.enter(&revalidation).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn revalidations_take_half_at_most() {
        let (gate, revalidation) = (gate(8), Turn::from(Class::Revalidation));
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(gate.enter(&revalidation).await.unwrap());
        }
        assert!(gate.enter(&revalidation).await.is_none());
        for _ in 0..4 {
            held.push(gate.enter(&Turn::from(Class::Authenticated)).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_rises_while_he_waits_is_let_in_as_what_he_is_then() {
        let gate = gate(4);
        let anonymous = Turn::from(Class::Anonymous);
        let _held = (gate.enter(&anonymous).await.unwrap(), gate.enter(&anonymous).await.unwrap());
        let class = watch::Sender::new(Class::Anonymous);
        let turn = Turn::rising(&class);
        let mut entering = Box::pin(gate.enter(&turn));
        assert!(timeout(Duration::ZERO, &mut entering).await.is_err());
        class.send_replace(Class::Authenticated);
        assert!(timeout(Duration::ZERO, &mut entering).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_with_one_place_serves_each_class() {
        let gate = Gate::new(1, Duration::ZERO, Duration::ZERO);
        for class in [Class::Anonymous, Class::Revalidation, Class::Authenticated] {
            assert!(gate.enter_blob(&class.into()).await.is_some(), "{class:?}");
        }
    }
}

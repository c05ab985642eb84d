//! When an upstream has told an account to come back later: until then nothing of that kind is asked.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A longer word of an upstream's is not believed for longer: a mistaken one must not cut us off for a day.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What an upstream's limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Head,
    Manifest,
    Other,
}

/// Ends of the pauses, by kind.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<[Option<Instant>; 3]>);

impl Pauses {
    fn lock(&self) -> MutexGuard<'_, [Option<Instant>; 3]> {
        // Whole after a panic: each holder sets one value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, kind: Kind, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST);
        let mut ends = self.lock();
        let end = &mut ends[kind as usize];
        *end = Some(end.map_or(until, |end| end.max(until)));
    }

    /// How long the pause still lasts; `None` without one.
    pub(crate) fn left(&self, kind: Kind) -> Option<Duration> {
        let left = self.lock()[kind as usize]?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_of_its_kind_and_ends() {
        let pauses = Pauses::default();
        pauses.begin(Kind::Manifest, Duration::from_secs(30));
        pauses.begin(Kind::Manifest, Duration::from_secs(5));
        assert_eq!(pauses.left(Kind::Head), None);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(pauses.left(Kind::Manifest), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pauses.left(Kind::Manifest), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mistaken_word_does_not_cut_us_off_for_long() {
        let pauses = Pauses::default();
        pauses.begin(Kind::Other, Duration::MAX);
        assert_eq!(pauses.left(Kind::Other), Some(LONGEST));
    }
}

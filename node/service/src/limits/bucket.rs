//! A token bucket as one number: when it will be full again. Pure; the time is handed in.

use std::time::Duration;

use super::Rate;

/// A bucket holds what comes in this time: so much may be taken at once. Nanoseconds.
const WINDOW: u64 = 60_000_000_000;

/// How long what was owed may keep a caller waiting: a blob of any size is paid for in this time.
const DEBT_MOST: u64 = 10 * WINDOW;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// In nanoseconds; at or before now it is full.
    full_at: u64,
}

impl Bucket {
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.full_at <= now
    }

    /// Takes `amount` if so much is in it; else how long until it is.
    pub(super) fn take(&mut self, rate: Rate, amount: u64, now: u64) -> Result<(), Duration> {
        let Rate::PerMinute(rate) = rate else { return Ok(()) };
        let Some(cost) = cost(rate, amount) else { return Err(Duration::from_nanos(WINDOW)) };
        let missing = self.missing(now).saturating_add(cost);
        if missing > WINDOW {
            return Err(Duration::from_nanos(missing - WINDOW));
        }
        self.full_at = now + missing;
        Ok(())
    }

    /// Takes `amount` though it may not be there.
    pub(super) fn owe(&mut self, rate: Rate, amount: u64, now: u64) {
        let Rate::PerMinute(rate) = rate else { return };
        let cost = cost(rate, amount).unwrap_or(DEBT_MOST);
        self.full_at = now + self.missing(now).saturating_add(cost).min(DEBT_MOST);
    }

    /// Whether anything is left; else how long until there is.
    pub(super) fn settled(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        match rate {
            Rate::Unlimited => Ok(()),
            Rate::PerMinute(0) => Err(Duration::from_nanos(WINDOW)),
            Rate::PerMinute(_) => match self.missing(now).checked_sub(WINDOW) {
                None => Ok(()),
                Some(debt) => Err(Duration::from_nanos(debt + 1)),
            },
        }
    }

    fn missing(&self, now: u64) -> u64 {
        self.full_at.saturating_sub(now)
    }
}

/// The time in which `amount` comes; `None` when it never does.
fn cost(rate: u64, amount: u64) -> Option<u64> {
    let window = u128::from(WINDOW) * u128::from(amount);
    // Up: what costs nothing would not be limited.
    let cost = window.checked_add(u128::from(rate.checked_sub(1)?))? / u128::from(rate);
    Some(u64::try_from(cost).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_minutes_worth_at_once_then_as_it_comes() {
        let (rate, mut bucket) = (Rate::PerMinute(60), Bucket::default());
        for _ in 0..60 {
            bucket.take(rate, 1, 0).unwrap();
        }
        assert_eq!(bucket.take(rate, 1, 0), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(rate, 1, SECOND / 2), Err(Duration::from_millis(500)));
        bucket.take(rate, 1, SECOND).unwrap();
        assert!(bucket.take(rate, 1, SECOND).is_err());
        assert!(!bucket.is_full(60 * SECOND) && bucket.is_full(61 * SECOND));
    }

    #[test]
    fn what_is_owed_keeps_a_caller_waiting_and_never_for_long() {
        let (rate, mut bucket) = (Rate::PerMinute(1000), Bucket::default());
        bucket.owe(rate, 1500, 0);
        assert_eq!(bucket.settled(rate, 0), Err(Duration::from_nanos(30 * SECOND + 1)));
        assert_eq!(bucket.settled(rate, 30 * SECOND + 1), Ok(()));
        bucket.owe(rate, u64::MAX, 0);
        assert_eq!(bucket.settled(rate, 0), Err(Duration::from_nanos(DEBT_MOST - WINDOW + 1)));
    }

    #[test]
    fn nothing_at_all_and_no_limit_are_rates_too() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(Rate::PerMinute(0), 1, 5).is_err() && bucket.settled(Rate::PerMinute(0), 5).is_err());
        assert!(bucket.is_full(5), "it takes no memory");
        for _ in 0..1000 {
            bucket.take(Rate::Unlimited, u64::MAX, 5).unwrap();
            bucket.owe(Rate::Unlimited, u64::MAX, 5);
        }
        assert_eq!(bucket, Bucket::default());
    }

    proptest! {
        /// Against tokens that are counted: never more than the bucket and what has come, never less than that by more
        /// than rounding; and a wait that is told is neither too short nor in vain.
        #[test]
        fn it_gives_what_a_counted_bucket_gives(
            rate in 1u64..100_000,
            steps in prop::collection::vec((0u64..3 * SECOND, 1u64..200), 1..200),
        ) {
            let (mut bucket, mut now) = (Bucket::default(), 0);
            let mut tokens = rate as f64;
            for (pause, amount) in steps {
                now += pause;
                tokens = (tokens + rate as f64 * pause as f64 / WINDOW as f64).min(rate as f64);
                let slack = 1e-3;
                match bucket.take(Rate::PerMinute(rate), amount, now) {
                    Ok(()) => {
                        prop_assert!(tokens + slack >= amount as f64);
                        tokens -= amount as f64;
                    }
                    Err(wait) => {
                        prop_assert!(tokens - slack < amount as f64);
                        if amount <= rate {
                            let then = now + u64::try_from(wait.as_nanos()).unwrap();
                            prop_assert!(bucket.clone().take(Rate::PerMinute(rate), amount, then).is_ok());
                            prop_assert!(bucket.clone().take(Rate::PerMinute(rate), amount, then - 1).is_err());
                        }
                    }
                }
            }
        }

        #[test]
        fn no_amount_and_no_time_panics(rate: u64, amount: u64, now in 0..u64::MAX / 2) {
            let mut bucket = Bucket::default();
            let _ = bucket.take(Rate::PerMinute(rate), amount, now);
            bucket.owe(Rate::PerMinute(rate), amount, now);
            let _ = bucket.settled(Rate::PerMinute(rate), now);
        }
    }
}

//! Leaves an upstream alone that failed repeatedly, and tries it again with one request at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
const FIRST_PERIOD: Duration = Duration::from_secs(10);
const LONGEST_PERIOD: Duration = Duration::from_secs(60);
/// What callers are told to wait while the one trial request is under way.
const TRIAL: Duration = Duration::from_secs(1);

pub(crate) struct Breaker {
    upstream: Arc<str>,
    state: Mutex<State>,
    gauge: Gauge,
}

#[derive(Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

struct Open {
    until: Instant,
    period: Duration,
    trial: bool,
}

/// Leave to send one request. Dropped without a verdict, it counts as none.
#[must_use]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    trial: bool,
}

impl Breaker {
    pub(crate) fn new(upstream: Arc<str>, gauge: Gauge) -> Self {
        Self { upstream, state: Mutex::default(), gauge }
    }

    /// # Errors
    /// How long to wait while the circuit is open.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Pass, Duration> {
        let mut state = self.lock();
        let trial = match &mut state.open {
            None => false,
            Some(open) => {
                let left = open.until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                if open.trial {
                    return Err(TRIAL);
                }
                open.trial = true;
                true
            }
        };
        Ok(Pass { breaker: self.clone(), trial })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after a panic: no section panics between two writes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The upstream lives, whatever it answered.
    pub(crate) fn success(&mut self) {
        self.trial = false;
        let mut state = self.breaker.lock();
        state.failures = 0;
        if state.open.take().is_some() {
            self.breaker.gauge.set(0);
            tracing::info!(upstream = %self.breaker.upstream, "upstream answers again");
        }
    }

    /// It could not be reached, timed out, or answered 5xx.
    pub(crate) fn failure(&mut self) {
        let was_trial = std::mem::take(&mut self.trial);
        let state = &mut *self.breaker.lock();
        let now = Instant::now();
        state.failures = state.failures.saturating_add(1);
        match &mut state.open {
            Some(open) if was_trial => {
                let period = (open.period * 2).min(LONGEST_PERIOD);
                *open = Open { until: now + period, period, trial: false };
            }
            // A request from before the circuit opened.
            Some(_) => {}
            None if state.failures >= FAILURES => {
                state.open = Some(Open { until: now + FIRST_PERIOD, period: FIRST_PERIOD, trial: false });
                self.breaker.gauge.set(1);
                tracing::warn!(upstream = %self.breaker.upstream, "upstream failed repeatedly, leaving it alone for a while");
            }
            None => {}
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.trial
            && let Some(open) = &mut self.breaker.lock().open
        {
            open.trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new("registry.example".into(), Gauge::default()))
    }

    fn fail(breaker: &Arc<Breaker>, times: u32) {
        for _ in 0..times {
            breaker.admit().ok().unwrap().failure();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_on_a_good_trial() {
        let breaker = breaker();
        fail(&breaker, FAILURES - 1);
        breaker.admit().ok().unwrap().success();
        fail(&breaker, FAILURES - 1);
        assert!(!breaker.is_open());
        fail(&breaker, 1);
        assert_eq!((breaker.is_open(), breaker.gauge.get()), (true, 1));
        assert_eq!(breaker.admit().err(), Some(FIRST_PERIOD));
        tokio::time::advance(FIRST_PERIOD).await;
        let mut trial = breaker.admit().ok().unwrap();
        assert_eq!(breaker.admit().err(), Some(TRIAL), "one trial at a time");
        trial.success();
        assert_eq!((breaker.is_open(), breaker.gauge.get()), (false, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_trial_doubles_the_period_up_to_its_limit_and_a_dropped_one_lets_another_try() {
        let breaker = breaker();
        fail(&breaker, FAILURES);
        for period in [20, 40, 60, 60].map(Duration::from_secs) {
            tokio::time::advance(LONGEST_PERIOD).await;
            drop(breaker.admit().ok().unwrap());
            fail(&breaker, 1);
            assert_eq!(breaker.admit().err(), Some(period));
        }
    }
}

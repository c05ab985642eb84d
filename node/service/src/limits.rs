//! What callers may cause upstream: misses, new repositories, revalidations and bytes, by token buckets for each source
//! network of anonymous callers and each principal.
//!
//! Invariants: what is held is served without a look at any bucket; memory is bounded whoever calls; a caller who
//! exhausts his bucket cannot have it made anew by a flood of others. Who joins work that another one began pays nothing.

mod bucket;
mod config;
mod metrics;
mod payer;
mod table;
#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use flotilla_base::ByteLen;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub use self::config::{CallerLimits, LimitsConfig, Rate};
pub(crate) use self::payer::Payer;
use self::{bucket::Bucket, metrics::Metrics, table::Table};
use crate::Caller;

/// Buckets of source networks, with the hash tables around them less than 3 MiB. Beyond them networks share buckets.
const NETWORKS_MOST: usize = 32_768;

/// Buckets of principals, in a table of their own: no flood of networks touches them.
const PRINCIPALS_MOST: usize = 8_192;

/// Between two warnings about the same limit.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Manifests and blobs that an upstream has to be asked for.
    Misses,
    /// First pulls from names that are no repository yet.
    NewRepositories,
    /// Tags that are due, and that this caller's pull would validate.
    Revalidations,
    /// Bytes of blobs that upstreams send for this caller.
    UpstreamBytes,
}

/// The caller has had his share; the same call later succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    pub what: Limit,
    pub retry_after: Duration,
}

pub(crate) struct Limits {
    config: LimitsConfig,
    begun: Instant,
    networks: Table,
    principals: Table,
    metrics: Metrics,
    /// When each limit was last warned about, in nanoseconds since `begun`; zero for never.
    warned: [AtomicU64; Limit::ALL.len()],
}

impl Limit {
    const ALL: [Self; 4] = [Self::Misses, Self::NewRepositories, Self::Revalidations, Self::UpstreamBytes];

    /// As in metrics and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misses => "misses",
            Self::NewRepositories => "new_repositories",
            Self::Revalidations => "revalidations",
            Self::UpstreamBytes => "upstream_bytes",
        }
    }
}

impl Limits {
    pub(crate) fn new(config: LimitsConfig, registry: &mut Registry) -> Self {
        let metrics = Metrics::register(registry);
        Self {
            config,
            begun: Instant::now(),
            networks: Table::new(NETWORKS_MOST, metrics.entries_of("anonymous")),
            principals: Table::new(PRINCIPALS_MOST, metrics.entries_of("principal")),
            metrics,
            warned: Default::default(),
        }
    }

    /// Who pays for what `caller` causes.
    pub(crate) fn payer(&self, caller: &Caller) -> Payer {
        Payer::of(caller, &self.config)
    }

    /// Pays for one question to an upstream about what is not held, and for the repository that the answer would make.
    ///
    /// # Errors
    /// [`Limited`]; also while earlier bytes are not paid for.
    pub(crate) fn miss(&self, payer: &Payer, makes_repository: bool) -> Result<(), Limited> {
        self.settled(payer)?;
        if makes_repository {
            self.take(payer, Limit::NewRepositories)?;
        }
        self.take(payer, Limit::Misses)
    }

    /// Pays for a question to an upstream about a tag that is held.
    ///
    /// # Errors
    /// [`Limited`]: then what is held is served as it is.
    pub(crate) fn revalidation(&self, payer: &Payer) -> Result<(), Limited> {
        self.take(payer, Limit::Revalidations)
    }

    /// Writes down bytes that an upstream begins to send; they were allowed when the miss was.
    pub(crate) fn owe(&self, payer: &Payer, bytes: ByteLen) {
        let rate = self.rate(payer, Limit::UpstreamBytes);
        let now = self.now();
        self.with(payer, now, |buckets| buckets[Limit::UpstreamBytes as usize].owe(rate, bytes.0, now));
    }

    fn settled(&self, payer: &Payer) -> Result<(), Limited> {
        let rate = self.rate(payer, Limit::UpstreamBytes);
        let now = self.now();
        let settled = self.with(payer, now, |buckets| buckets[Limit::UpstreamBytes as usize].settled(rate, now));
        settled.map_err(|wait| self.refused(payer, Limit::UpstreamBytes, wait))
    }

    fn take(&self, payer: &Payer, what: Limit) -> Result<(), Limited> {
        let rate = self.rate(payer, what);
        let now = self.now();
        let taken = self.with(payer, now, |buckets| buckets[what as usize].take(rate, 1, now));
        taken.map_err(|wait| self.refused(payer, what, wait))
    }

    fn with<T>(&self, payer: &Payer, now: u64, change: impl FnOnce(&mut table::Buckets) -> T) -> T {
        let table = if payer.is_anonymous() { &self.networks } else { &self.principals };
        table.with(payer.key(), now, change)
    }

    fn rate(&self, payer: &Payer, what: Limit) -> Rate {
        let limits = if payer.is_anonymous() { &self.config.anonymous } else { &self.config.principal };
        match what {
            Limit::Misses => limits.misses_per_minute,
            Limit::NewRepositories => limits.new_repositories_per_minute,
            Limit::Revalidations => limits.revalidations_per_minute,
            Limit::UpstreamBytes => limits.upstream_bytes_per_minute,
        }
    }

    /// Monotonic: a clock that is set must neither fill nor empty a bucket.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn refused(&self, payer: &Payer, what: Limit, wait: Duration) -> Limited {
        self.metrics.limited(what, payer.is_anonymous());
        let now = self.now().max(1);
        let warned = &self.warned[what as usize];
        let last = warned.load(Ordering::Relaxed);
        let is_due = last == 0 || u128::from(now - last.min(now)) >= WARN_EVERY.as_nanos();
        // One of those who find it due at once says it.
        if is_due && warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let retry_after_seconds = wait.as_secs().max(1);
            tracing::warn!(what = what.as_str(), who = %payer, retry_after_seconds, "caller is limited");
        }
        Limited { what, retry_after: wait }
    }
}

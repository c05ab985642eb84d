use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;

use super::{Bucket, Limit};

/// Buckets of one caller, by [`Limit`].
pub(super) type Buckets = [Bucket; Limit::ALL.len()];

/// Callers of different shards do not wait for each other.
const SHARDS: usize = 16;

/// Buckets that callers share for whom there is no room, in each shard.
const SHARED: usize = 16;

/// Buckets that are full by now are dropped so often; and when there is no room, but then not with every call.
const SWEEP_EVERY: u64 = 60_000_000_000;
const SWEEP_WHEN_CROWDED: u64 = 100_000_000;

/// Buckets of as many callers as there is room for.
///
/// Invariant: a bucket that is not full is never dropped. Who comes when there is no room shares a bucket with others:
/// a flood of new callers hurts those who are as new, and nobody gets a fresh bucket by it.
pub(super) struct Table {
    shards: Vec<Mutex<Shard>>,
    room: usize,
    entries: Gauge,
}

#[derive(Default)]
struct Shard {
    own: HashMap<u64, Buckets>,
    shared: [Buckets; SHARED],
    swept: u64,
}

impl Table {
    pub(super) fn new(most: usize, entries: Gauge) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, room: most.div_ceil(SHARDS), entries }
    }

    /// Looks at, and changes, the buckets of `key`, which is a hash that callers cannot choose. Waits for nobody longer
    /// than a sweep of one shard takes.
    pub(super) fn with<T>(&self, key: u64, now: u64, change: impl FnOnce(&mut Buckets) -> T) -> T {
        let mut shard = self.lock(key);
        let shard = &mut *shard;
        let pause = if shard.own.len() < self.room { SWEEP_EVERY } else { SWEEP_WHEN_CROWDED };
        if now.saturating_sub(shard.swept) >= pause {
            let before = shard.own.len();
            shard.own.retain(|_, buckets| !is_full(buckets, now));
            shard.swept = now;
            self.entries.dec_by(i64::try_from(before - shard.own.len()).unwrap_or(0));
        }
        if let Some(buckets) = shard.own.get_mut(&key) {
            return change(buckets);
        }
        if shard.own.len() >= self.room {
            let shared = usize::try_from(key >> 32).unwrap_or(0) % SHARED;
            return change(&mut shard.shared[shared]);
        }
        let mut buckets = Buckets::default();
        let changed = change(&mut buckets);
        // Full ones are worth nothing.
        if !is_full(&buckets, now) {
            shard.own.insert(key, buckets);
            self.entries.inc();
        }
        changed
    }

    fn lock(&self, key: u64) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(key).unwrap_or(0) % self.shards.len();
        // Whole after a panic: a bucket is one number.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        (0..self.shards.len() as u64).map(|shard| self.lock(shard).own.len()).sum()
    }

    /// Bytes of all that is kept; a byte of control for each place of a hash table.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let of = |shard: MutexGuard<'_, Shard>| {
            let places = (shard.own.capacity() * 8 / 7).next_power_of_two();
            size_of::<Mutex<Shard>>() + places * (size_of::<(u64, Buckets)>() + 1)
        };
        (0..self.shards.len() as u64).map(|shard| of(self.lock(shard))).sum()
    }
}

fn is_full(buckets: &Buckets, now: u64) -> bool {
    buckets.iter().all(|bucket| bucket.is_full(now))
}

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What was learnt a short while ago, in bounded memory: each value for its own time, and the one that would go first
/// makes room for a new one.
///
/// Invariant: `order` holds exactly the ends of `values`.
pub struct Recent<K, V> {
    capacity: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    values: HashMap<K, (V, End)>,
    order: BTreeMap<End, K>,
    next: u64,
}

/// When a value goes; the number makes it unique.
type End = (Instant, u64);

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    pub fn new(capacity: usize) -> Self {
        let inner = Inner { values: HashMap::new(), order: BTreeMap::new(), next: 0 };
        Self { capacity: capacity.max(1), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        // Whole after a panic: only `Clone` and `Hash` of the caller run under it, before anything is changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let now = Instant::now();
        self.lock().values.get(key).filter(|(_, (end, _))| *end > now).map(|(value, _)| value.clone())
    }

    /// Remembers `value` for `lifetime`, in place of an earlier one.
    pub fn put(&self, key: K, value: V, lifetime: Duration) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.remove(&key);
        while let Some((&end, _)) = inner.order.first_key_value()
            && (end.0 <= now || inner.values.len() >= self.capacity)
        {
            inner.drop_at(end);
        }
        let end = (now + lifetime, inner.next);
        inner.next += 1;
        inner.order.insert(end, key.clone());
        inner.values.insert(key, (value, end));
    }

    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.lock().remove(key);
    }

    /// Values that are kept, also those whose time is over but whose room nobody needed yet.
    pub fn len(&self) -> usize {
        self.lock().values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone, V> Inner<K, V> {
    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, end)) = self.values.remove(key) {
            self.order.remove(&end);
        }
    }

    fn drop_at(&mut self, end: End) {
        if let Some(key) = self.order.remove(&end) {
            self.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_known_for_its_time_and_no_longer() {
        let recent = Recent::new(8);
        recent.put("a", 1, Duration::from_secs(5));
        recent.put("b", 2, Duration::from_secs(50));
        assert_eq!(recent.get("a"), Some(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((recent.get("a"), recent.get("b")), (None, Some(2)));
        recent.put("b", 3, Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(recent.get("b"), None, "a new value has its own time");
        recent.remove("b");
        assert!(recent.is_empty(), "the room of what is over is used again");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_next_to_go_makes_room() {
        let recent = Recent::new(2);
        recent.put(1, (), Duration::from_secs(30));
        recent.put(2, (), Duration::from_secs(10));
        recent.put(3, (), Duration::from_secs(20));
        assert_eq!(recent.len(), 2);
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (Some(()), None, Some(())));
    }
}

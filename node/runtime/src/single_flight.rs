use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// At most one worker per key; the others follow what it publishes.
///
/// Invariant: a key is in the table exactly while its [`Lead`] lives. Locked for one map operation, never across an
/// await.
pub struct SingleFlight<K, T>(Table<K, T>);

type Table<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>;

pub enum Flight<K: Eq + Hash + Clone, T> {
    Lead(Lead<K, T>),
    /// `None` until the leader has published something. The channel closes when the leader is gone.
    Follow(watch::Receiver<Option<T>>),
}

/// Held by the one who works; dropping it frees the key and wakes the followers.
#[must_use]
pub struct Lead<K: Eq + Hash + Clone, T> {
    key: K,
    report: watch::Sender<Option<T>>,
    table: Table<K, T>,
}

fn lock<K, T>(table: &Table<K, T>) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<T>>>> {
    // Whole after a panic: each holder makes one call of the map.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Eq + Hash + Clone, T> SingleFlight<K, T> {
    pub fn claim(&self, key: K) -> Flight<K, T> {
        let mut table = lock(&self.0);
        if let Some(flight) = table.get(&key) {
            return Flight::Follow(flight.clone());
        }
        let (report, follow) = watch::channel(None);
        table.insert(key.clone(), follow);
        Flight::Lead(Lead { key, report, table: self.0.clone() })
    }

    /// The flight of `key`, if there is one; starts none.
    pub fn follow(&self, key: &K) -> Option<watch::Receiver<Option<T>>> {
        lock(&self.0).get(key).cloned()
    }

    /// Flights in progress.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash + Clone, T> Lead<K, T> {
    pub fn key(&self) -> &K {
        &self.key
    }

    pub fn publish(&self, value: T) {
        self.report.send_replace(Some(value));
    }

    pub fn follow(&self) -> watch::Receiver<Option<T>> {
        self.report.subscribe()
    }
}

impl<K: Eq + Hash, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash + Clone, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_the_others_follow_and_the_key_is_free_afterwards() {
        let flights = SingleFlight::<&str, u32>::default();
        let Flight::Lead(lead) = flights.claim("a") else { panic!("the first claim leads") };
        let Flight::Follow(mut follow) = flights.claim("a") else { panic!("the second follows") };
        assert!(flights.follow(&"a").is_some() && flights.follow(&"b").is_none());
        lead.publish(7);
        assert_eq!(*follow.wait_for(Option::is_some).await.unwrap(), Some(7));
        drop(lead);
        assert!(follow.changed().await.is_err(), "followers see that the leader is gone");
        assert!(matches!(flights.claim("a"), Flight::Lead(_)));
    }
}

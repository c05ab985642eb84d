use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use flotilla_upstream::{Class, Turn};
use tokio::sync::watch;

/// The class of each piece of work that is shared: of the best of those who wait for it.
pub(super) struct Turns<K: Eq + Hash>(Table<K>);

type Table<K> = Arc<Mutex<HashMap<K, Weak<Standing<K>>>>>;

/// Held by all who wait for the work, and by the one who does it.
pub(super) struct Standing<K: Eq + Hash> {
    class: watch::Sender<Class>,
    key: K,
    table: Table<K>,
}

fn lock<K: Eq + Hash>(table: &Table<K>) -> MutexGuard<'_, HashMap<K, Weak<Standing<K>>>> {
    // Whole after a panic: each holder makes one change of the map.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Eq + Hash> Default for Turns<K> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// To be called before the work is claimed or followed: who leads it then finds the class of all who follow.
    pub(super) fn join(&self, key: &K, class: Class) -> Arc<Standing<K>> {
        let mut table = lock(&self.0);
        if let Some(standing) = table.get(key).and_then(Weak::upgrade) {
            standing.class.send_if_modified(|best| {
                let rises = class > *best;
                *best = class.max(*best);
                rises
            });
            return standing;
        }
        let standing = Arc::new(Standing { class: watch::Sender::new(class), key: key.clone(), table: self.0.clone() });
        table.insert(key.clone(), Arc::downgrade(&standing));
        standing
    }
}

impl<K: Eq + Hash> Standing<K> {
    pub(super) fn turn(&self) -> Turn {
        Turn::rising(&self.class)
    }

    /// Calls `raised` with the class and each further one; never ends. Cancel safe.
    pub(super) async fn rises(&self, raised: impl Fn(Class)) {
        let mut class = self.class.subscribe();
        loop {
            raised(*class.borrow_and_update());
            if class.changed().await.is_err() {
                // Its sender is `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl<K: Eq + Hash> Drop for Standing<K> {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        // Another one may have come in its place.
        if table.get(&self.key).is_some_and(|standing| standing.strong_count() == 0) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_best_of_those_who_wait_counts_and_nothing_is_left_behind() {
        let turns = Turns::default();
        let first = turns.join(&"a", Class::Anonymous);
        let turn = first.turn();
        assert_eq!(turn.class(), Class::Anonymous);
        let second = turns.join(&"a", Class::Authenticated);
        assert_eq!(turn.class(), Class::Authenticated);
        drop(second);
        assert_eq!(turns.join(&"a", Class::Anonymous).turn().class(), Class::Authenticated, "it goes on for him");
        drop(first);
        assert!(lock(&turns.0).is_empty());
        assert_eq!(turns.join(&"a", Class::Anonymous).turn().class(), Class::Anonymous);
    }
}

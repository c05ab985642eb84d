use std::collections::VecDeque;

use crate::types::Entry;

/// Most that is kept of the log's end; a few appends, so that who applies or replicates them reads no file.
const LIMIT_BYTES: usize = 1 << 20;

/// The newest entries, consecutive.
#[derive(Default)]
pub(crate) struct Recent {
    entries: VecDeque<(Entry, usize)>,
    len_bytes: usize,
}

impl Recent {
    pub(crate) fn push(&mut self, entry: Entry, len_bytes: usize) {
        if self.entries.back().is_some_and(|(last, _)| last.log_id.index.checked_add(1) != Some(entry.log_id.index)) {
            self.clear();
        }
        self.entries.push_back((entry, len_bytes));
        self.len_bytes = self.len_bytes.saturating_add(len_bytes);
        while self.len_bytes > LIMIT_BYTES && self.entries.len() > 1 {
            self.drop_first();
        }
    }

    /// The entries from `from`, as many as `limit_bytes` allow but at least one; `None` when the range is not wholly here.
    pub(crate) fn range(&self, from: u64, end: u64, limit_bytes: u64) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.0.log_id.index;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let count = usize::try_from(end.checked_sub(from)?).ok()?;
        if skip.checked_add(count)? > self.entries.len() {
            return None;
        }
        let mut budget = limit_bytes;
        let mut taken = Vec::new();
        for (entry, len) in self.entries.iter().skip(skip).take(count) {
            let Some(left) = budget.checked_sub(*len as u64).or(taken.is_empty().then_some(0)) else { break };
            budget = left;
            taken.push(entry.clone());
        }
        Some(taken)
    }

    pub(crate) fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.log_id.index <= upto) {
            self.drop_first();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.len_bytes = 0;
    }

    fn drop_first(&mut self) {
        if let Some((_, len)) = self.entries.pop_front() {
            self.len_bytes = self.len_bytes.saturating_sub(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::testing::blank_ent;
    use proptest::prelude::*;

    use super::*;
    use crate::types::TypeConfig;

    fn filled(from: u64, count: u64, len_bytes: usize) -> Recent {
        let mut recent = Recent::default();
        for index in from..from + count {
            recent.push(blank_ent::<TypeConfig>(1, 1.into(), index), len_bytes);
        }
        recent
    }

    fn indexes(entries: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn it_holds_the_newest_and_forgets_across_a_gap() {
        let mut recent = filled(0, 100, LIMIT_BYTES / 10);
        assert_eq!(indexes(recent.range(95, 100, u64::MAX)), Some(vec![95, 96, 97, 98, 99]));
        assert_eq!(indexes(recent.range(80, 100, u64::MAX)), None);
        recent.push(blank_ent::<TypeConfig>(2, 1.into(), 50), 1);
        assert_eq!(indexes(recent.range(50, 51, u64::MAX)), Some(vec![50]));
        assert_eq!(indexes(recent.range(99, 100, u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn a_range_is_whole_bounded_and_never_empty(from in 0u64..40, len in 1u64..40, purged in 0u64..40, limit in 0u64..50) {
            let mut recent = filled(10, 20, 3);
            recent.purge(purged);
            let first = 10.max(purged + 1);
            match indexes(recent.range(from, from + len, limit)) {
                Some(found) => {
                    prop_assert!(from >= first && from + len <= 30);
                    let most = (limit / 3).max(1).min(len);
                    prop_assert_eq!(found, (from..from + most).collect::<Vec<_>>());
                }
                None => prop_assert!(from < first || from + len > 30),
            }
        }
    }
}

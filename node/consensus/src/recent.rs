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

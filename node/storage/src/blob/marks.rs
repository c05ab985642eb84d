//! What a restart remembers of uses: the time of the last change of a blob's data file, which nothing else needs.
//!
//! A file that was sealed and used no more has the time of its fill. One that was used twice has the minute of its last
//! counted use and, in it, exactly [`TWICE_MS`]. A loss of power may take a mark, and what copies files without their
//! times takes all of them: those blobs are on probation again.

use std::sync::{Arc, atomic::Ordering};

use flotilla_base::Timestamp;
use flotilla_oci::Digest;
use flotilla_runtime::Stat;

use super::{live::Blob, store::Inner};

const MINUTE_MS: u64 = 60_000;
/// A file system that keeps whole seconds has this by chance once in a minute of fills: a blob too many is protected.
const TWICE_MS: u64 = 2_000;
/// Marks that wait for the disk; more are forgotten, at the price of a blob on probation after a restart.
const PENDING_MOST: usize = 4_096;
/// Where the store's clock of uses begins, so that what was used before the start has a time on it.
const START_S: u32 = 1 << 30;

#[derive(Default)]
pub(super) struct Marks {
    pending: Vec<Digest>,
    /// A task is on its way through them.
    writing: bool,
}

fn twice(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0 % MINUTE_MS + TWICE_MS)
}

/// Whether the blob was used twice, and when last on the store's clock of uses.
pub(super) fn read(stat: Stat, now: Timestamp) -> (bool, u32) {
    let age_s = now.0.saturating_sub(stat.modified.0) / 1000;
    let used_s = START_S.saturating_sub(u32::try_from(age_s).unwrap_or(u32::MAX));
    (stat.modified.0 % MINUTE_MS == TWICE_MS, used_s)
}

impl Inner {
    /// Seconds; only differences of it mean something.
    pub(super) fn uses_now_s(&self) -> u32 {
        START_S.saturating_add(self.now_s())
    }

    /// Under no lock, in the blocking pool.
    pub(super) fn note_sealed(&self, blob: &Arc<Blob>, comes_back: bool) {
        let now_s = self.uses_now_s();
        let protected_bytes = {
            let mut uses = self.uses();
            uses.sealed(&blob.digest, blob.len, comes_back, now_s);
            uses.protected_bytes()
        };
        self.metrics.set_protected(protected_bytes);
        blob.used_s.store(now_s, Ordering::Relaxed);
        if comes_back {
            self.write_mark(&blob.digest);
        }
    }

    /// Somebody opened a reader of a sealed blob. Takes no lock when that is part of a use that was counted.
    pub(super) fn note_use(self: &Arc<Self>, blob: &Arc<Blob>) {
        let now_s = self.uses_now_s();
        let counted_s = blob.used_s.load(Ordering::Relaxed);
        if counted_s != 0 && now_s.saturating_sub(counted_s) < self.window_s() {
            return;
        }
        let (mark, used_s, protected_bytes) = {
            let mut uses = self.uses();
            let mark = uses.used(&blob.digest, now_s);
            (mark, uses.used_s(&blob.digest), uses.protected_bytes())
        };
        blob.used_s.store(used_s.unwrap_or(now_s), Ordering::Relaxed);
        if mark.is_some() {
            self.metrics.set_protected(protected_bytes);
        }
        if mark == Some(true) {
            self.mark_later(blob.digest);
        }
    }

    fn mark_later(self: &Arc<Self>, digest: Digest) {
        {
            let mut marks = self.marks();
            if marks.pending.len() < PENDING_MOST {
                marks.pending.push(digest);
            }
            if std::mem::replace(&mut marks.writing, true) {
                return;
            }
        }
        let inner = self.clone();
        self.host.tasks.spawn("blob marks", async move {
            loop {
                let pending = {
                    let mut marks = inner.marks();
                    marks.writing = !marks.pending.is_empty();
                    std::mem::take(&mut marks.pending)
                };
                if pending.is_empty() {
                    return;
                }
                let (inner, blocking) = (inner.clone(), inner.host.blocking);
                blocking.run(move || pending.iter().for_each(|digest| inner.write_mark(digest))).await;
            }
        });
    }

    fn write_mark(&self, digest: &Digest) {
        let path = self.layout.sealed(digest).data;
        if let Err(error) = self.host.disk.set_modified(&path, twice(self.host.clock.now())) {
            // Evicted meanwhile, or a disk that takes no writes.
            tracing::debug!(%digest, %error, "use of a blob was not marked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_a_fill_is_no_mark() {
        let now = Timestamp(1_700_000_123_456);
        let stat = |modified| Stat { len_bytes: 1, mode: 0o644, modified };
        assert_eq!(read(stat(now), now), (false, START_S));
        let (is_twice, used_s) = read(stat(twice(now)), Timestamp(now.0 + 3_600_000));
        assert!(is_twice && used_s.abs_diff(START_S - 3_600) <= 60);
        assert_eq!(read(stat(Timestamp(0)), Timestamp(u64::MAX)).1, 0);
        assert_eq!(read(stat(Timestamp(u64::MAX)), now).1, START_S, "of a clock that went back");
    }
}

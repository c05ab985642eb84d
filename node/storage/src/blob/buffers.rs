//! Memory of what readers hand out. Buffers of one piece are used again: a fresh mebibyte costs 256 page faults, which is
//! more than reading it. And they are lent from a budget: a client that stops reading keeps its chunk for as long as it
//! likes.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::pieces::PIECE_BYTES;

/// What a reader may have without asking: every reader goes on with that, whatever others hold.
pub(super) const SMALL_BYTES: u64 = 32 << 10;
/// All larger chunks that are handed out or read ahead. Some sixty clients at full speed; more of them share the wire
/// anyway, and lose little with small chunks.
const BUDGET_BYTES: usize = 128 << 20;
/// Idle buffers that are kept.
const IDLE_BUFFERS: usize = 16;
/// Shorter reads get a buffer of their own length.
const POOLED_FROM_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub(super) struct Buffers(Arc<Shared>);

struct Shared {
    idle: Mutex<Vec<Vec<u8>>>,
    budget_bytes: AtomicUsize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self(Arc::new(Shared { idle: Mutex::default(), budget_bytes: AtomicUsize::new(BUDGET_BYTES) }))
    }
}

/// A part of the budget.
pub(super) struct Loan {
    bytes: usize,
    home: Buffers,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.home.0.budget_bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Chunks of one reader that live: those that its connection has not taken yet, and what is read ahead.
#[derive(Default)]
pub(super) struct Out(Arc<AtomicUsize>);

impl Out {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, loan: Option<Loan>) -> Hold {
        self.0.fetch_add(1, Ordering::Relaxed);
        Hold { out: self.0.clone(), _loan: loan }
    }
}

/// What ends with a chunk.
pub(super) struct Hold {
    out: Arc<AtomicUsize>,
    _loan: Option<Loan>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Goes back when it, or the last `Bytes` over it, is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    part: Range<usize>,
    home: Buffers,
    hold: Option<Hold>,
}

impl Buffers {
    /// Room for a chunk of `len` bytes and more than [`SMALL_BYTES`]; `None` when others hold too much.
    pub(super) fn lend(&self, len: u64) -> Option<Loan> {
        let bytes = usize::try_from(len).ok()?;
        let bytes = if bytes > POOLED_FROM_BYTES { PIECE_BYTES as usize } else { bytes };
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self.0.budget_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok().then(|| Loan { bytes, home: self.clone() })
    }

    /// `len` bytes, at most a piece, of any content.
    pub(super) fn get(&self, len: usize) -> Buffer {
        let pooled = len > POOLED_FROM_BYTES;
        let mut bytes = pooled.then(|| self.idle().pop()).flatten().unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(if pooled { len.max(PIECE_BYTES as usize) } else { len }, 0);
        }
        Buffer { bytes, part: 0..len, home: self.clone(), hold: None }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.part.clone()]
    }

    /// The `part` of it, which lies within. `hold` ends with the last `Bytes` over that.
    pub(super) fn hand_out(mut self, part: Range<usize>, hold: Hold) -> Bytes {
        if self.is_pooled() && part.len() <= POOLED_FROM_BYTES {
            // A few bytes must not keep a whole piece.
            let mut short = self.home.get(part.len());
            short.as_mut().copy_from_slice(&self.bytes[part.clone()]);
            return short.hand_out(0..part.len(), hold);
        }
        self.part = part;
        self.hold = Some(hold);
        Bytes::from_owner(self)
    }

    fn is_pooled(&self) -> bool {
        self.bytes.len() > POOLED_FROM_BYTES
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.part.clone()]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.is_pooled() {
            let mut idle = self.home.idle();
            if idle.len() < IDLE_BUFFERS {
                idle.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(buffers: &Buffers, len: usize, byte: u8) -> Bytes {
        let mut buffer = buffers.get(len);
        buffer.as_mut().fill(byte);
        buffer.hand_out(0..len, Out::default().hold(None))
    }

    #[test]
    fn buffers_come_back_and_idle_ones_are_bounded() {
        let buffers = Buffers::default();
        let first = chunk(&buffers, 1 << 20, 1);
        let place = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.idle().is_empty(), "a slice keeps its buffer");
        assert_eq!(part, [1; 10].as_slice());
        drop(part);
        let again = chunk(&buffers, 300 << 10, 2);
        assert_eq!((again.as_ptr(), again.len()), (place, 300 << 10));
        let many: Vec<_> = (0..2 * IDLE_BUFFERS).map(|_| chunk(&buffers, 1 << 20, 3)).collect();
        drop(many);
        assert_eq!(buffers.idle().len(), IDLE_BUFFERS);
    }

    #[test]
    fn a_short_part_does_not_keep_a_piece() {
        let buffers = Buffers::default();
        let mut buffer = buffers.get(1 << 20);
        buffer.as_mut()[7] = 9;
        let part = buffer.hand_out(7..8, Out::default().hold(None));
        assert_eq!((part.as_ref(), buffers.idle().len()), (&[9][..], 1));
    }

    #[test]
    fn the_budget_counts_what_is_pinned_and_gets_it_back() {
        let (buffers, out) = (Buffers::default(), Out::default());
        let all: Vec<_> = std::iter::from_fn(|| buffers.lend(300 << 10)).map(|loan| out.hold(Some(loan))).collect();
        assert_eq!((all.len(), out.count()), (BUDGET_BYTES >> 20, BUDGET_BYTES >> 20));
        assert!(buffers.lend(SMALL_BYTES + 1).is_none());
        drop(all);
        assert_eq!(out.count(), 0);
        assert!(buffers.lend(1 << 20).is_some());
    }
}

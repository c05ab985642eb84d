//! Buffers of one piece, used again: a fresh mebibyte costs 256 page faults, which is more than reading it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::pieces::PIECE_BYTES;

/// Idle buffers that are kept. Those in use are bounded by the readers: each has one handed out and one read ahead.
const IDLE_BUFFERS: usize = 16;
/// Shorter reads get a buffer of their own length.
const POOLED_FROM_BYTES: usize = 256 << 10;

#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back when the last `Bytes` over it is dropped.
struct Pooled {
    bytes: Vec<u8>,
    len: usize,
    home: Buffers,
}

impl Buffers {
    /// `len` bytes, at most a piece, as `fill` leaves them.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(super) fn fill<E>(&self, len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
        if len <= POOLED_FROM_BYTES {
            let mut bytes = vec![0; len];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let idle = self.lock().pop();
        let mut pooled = Pooled { bytes: idle.unwrap_or_default(), len, home: self.clone() };
        if pooled.bytes.len() < len {
            pooled.bytes.resize(len.max(PIECE_BYTES as usize), 0);
        }
        fill(&mut pooled.bytes[..len])?;
        Ok(Bytes::from_owner(pooled))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut idle = self.home.lock();
        if idle.len() < IDLE_BUFFERS {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_idle_ones_are_bounded() {
        let buffers = Buffers::default();
        let fill = |byte| {
            move |into: &mut [u8]| {
                into.fill(byte);
                Ok::<_, ()>(())
            }
        };
        let first = buffers.fill(1 << 20, fill(1)).unwrap();
        let place = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        assert!(buffers.lock().is_empty(), "a slice keeps its buffer");
        assert_eq!(part, [1; 10].as_slice());
        drop(part);
        let again = buffers.fill(300 << 10, fill(2)).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 300 << 10));
        let many: Vec<_> = (0..2 * IDLE_BUFFERS).map(|_| buffers.fill(1 << 20, fill(3)).unwrap()).collect();
        drop(many);
        assert_eq!(buffers.lock().len(), IDLE_BUFFERS);
    }
}

//! Blobs that are not here and were asked for lately: evicted ones, and those that passed by for want of room.

use std::collections::{HashMap, VecDeque};

use flotilla_oci::Digest;

/// About what a cache of a few terabytes turns over in a day; less than 1 MiB.
const CAPACITY: usize = 16_384;

/// When each was asked for first, or used last before it went. Two digests that share eight bytes are taken for one:
/// the price is a blob that is admitted a pull too early.
#[derive(Default)]
pub(super) struct Ghosts {
    asked_s: HashMap<u64, u32>,
    /// Oldest first. May name what is gone from `asked_s`; that costs another ghost some of its time, no more.
    order: VecDeque<u64>,
}

fn key(digest: &Digest) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&digest.hash()[..8]);
    u64::from_le_bytes(head)
}

impl Ghosts {
    pub(super) fn asked_s(&self, digest: &Digest) -> Option<u32> {
        self.asked_s.get(&key(digest)).copied()
    }

    /// The first time counts: whoever asks again and again does not put it off.
    pub(super) fn add(&mut self, digest: &Digest, asked_s: u32) {
        let key = key(digest);
        if self.asked_s.contains_key(&key) {
            return;
        }
        self.asked_s.insert(key, asked_s);
        self.order.push_back(key);
        while self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.asked_s.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.asked_s.remove(&key(digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u32) -> Digest {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        Digest::Sha256(hash)
    }

    #[test]
    fn the_first_time_counts_and_the_oldest_goes() {
        let mut ghosts = Ghosts::default();
        ghosts.add(&digest(0), 7);
        ghosts.add(&digest(0), 9);
        assert_eq!(ghosts.asked_s(&digest(0)), Some(7));
        for n in 1..=CAPACITY as u32 {
            ghosts.add(&digest(n), 10);
        }
        assert_eq!(ghosts.asked_s(&digest(0)), None);
        assert_eq!(ghosts.asked_s(&digest(1)), Some(10));
        for n in 0..3 * CAPACITY as u32 {
            ghosts.add(&digest(n), 11);
            ghosts.remove(&digest(n));
        }
        assert!(ghosts.order.len() <= CAPACITY && ghosts.asked_s.len() <= CAPACITY);
    }
}

//! Pieces of a blob and the file that lists their hashes: the journal of a partial, the outboard of a sealed blob.
//!
//! A piece is hashed as the BLAKE3 subtree that it is, so that the list merges to the BLAKE3 hash of the whole blob,
//! its root. The file: `FLOTPCS`, format byte, length of the blob, root (zero until it is sealed), then the hashes.

use std::sync::atomic::{AtomicU32, Ordering};

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

/// What is verified at once. Large enough that the hashes are 1/32768 of the blob, small enough to hold in memory.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

pub(super) type Hash = [u8; 32];

const MAGIC: [u8; 8] = *b"FLOTPCS\x01";
pub(super) const HEADER_BYTES: usize = 48;
pub(super) const HASH_BYTES: usize = 32;
const UNSEALED: Hash = [0; 32];

pub(super) fn count(len: u64) -> u64 {
    len.div_ceil(PIECE_BYTES)
}

/// Where the piece after the one at `offset` begins, or the blob ends.
pub(super) fn end_of(offset: u64, len: u64) -> u64 {
    len.min((offset / PIECE_BYTES + 1).saturating_mul(PIECE_BYTES))
}

pub(super) fn header(len: u64, root: Option<&Hash>) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&len.to_le_bytes());
    header[16..].copy_from_slice(root.unwrap_or(&UNSEALED));
    header
}

/// Hashes one piece after the other as their bytes come.
pub(super) struct PieceHasher {
    hasher: Hasher,
    offset: u64,
    len: u64,
}

impl PieceHasher {
    /// For a blob of `len` bytes, from the piece that begins at `offset` on.
    pub(super) fn new(offset: u64, len: u64) -> Self {
        let mut hasher = Hasher::new();
        // At the end of the blob, which need not be a place where BLAKE3 can begin, nothing will come.
        if offset < len {
            hasher.set_input_offset(offset);
        }
        Self { hasher, offset, len }
    }

    /// Takes bytes of one piece only; returns its hash when they end it.
    pub(super) fn update(&mut self, bytes: &[u8]) -> Option<Hash> {
        let end = end_of(self.offset, self.len);
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        if self.offset < end {
            return None;
        }
        let hash =
            if self.len <= PIECE_BYTES { *self.hasher.finalize().as_bytes() } else { self.hasher.finalize_non_root() };
        *self = Self::new(self.offset, self.len);
        Some(hash)
    }

    /// The piece at `offset` of a blob of `len` bytes at once.
    pub(super) fn whole(offset: u64, len: u64, piece: &[u8]) -> Option<Hash> {
        Self::new(offset, len).update(piece)
    }
}

/// The BLAKE3 hash of the blob whose pieces have `hashes`.
pub(super) fn root(hashes: &[Hash]) -> Hash {
    fn subtree(hashes: &[Hash]) -> Hash {
        match hashes {
            [one] => *one,
            _ => {
                let (left, right) = split(hashes);
                merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
            }
        }
    }
    // The left subtree is the largest power of two that leaves something to the right.
    fn split(hashes: &[Hash]) -> (&[Hash], &[Hash]) {
        hashes.split_at(hashes.len().next_power_of_two() / 2)
    }
    match hashes {
        [] => *blake3::hash(b"").as_bytes(),
        [one] => *one,
        _ => {
            let (left, right) = split(hashes);
            *merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()
        }
    }
}

/// The hashes in a journal of a blob of `len` bytes: as many as are there; `None` when it is no such journal.
pub(super) fn parse_journal(content: &[u8], len: u64) -> Option<Vec<Hash>> {
    let (head, rest) = content.split_at_checked(HEADER_BYTES)?;
    if head[..16] != header(len, None)[..16] {
        return None;
    }
    let (hashes, _) = rest.as_chunks::<HASH_BYTES>();
    Some(hashes.iter().copied().take(usize::try_from(count(len)).ok()?).collect())
}

/// The hashes of a sealed blob; `None` when the outboard is damaged.
pub(super) fn parse_outboard(content: &[u8], len: u64) -> Option<Vec<Hash>> {
    let hashes = parse_journal(content, len)?;
    let whole = hashes.len() as u64 == count(len);
    (whole && content[..HEADER_BYTES] == header(len, Some(&root(&hashes)))).then_some(hashes)
}

/// The pieces of a sealed blob, and when each was last found right.
pub(super) struct Pieces {
    hashes: Vec<Hash>,
    /// In seconds of the store's monotone time, from 1 on; 0 for never. 4 bytes per mebibyte of an open blob.
    verified_s: Vec<AtomicU32>,
}

impl Pieces {
    pub(super) fn new(hashes: Vec<Hash>, verified_s: u32) -> Self {
        let verified_s = hashes.iter().map(|_| AtomicU32::new(verified_s)).collect();
        Self { hashes, verified_s }
    }

    /// Whether the piece at `offset` must be hashed before it is sent.
    pub(super) fn is_due(&self, offset: u64, now_s: u32, interval_s: u32) -> bool {
        let verified = self.at(offset).and_then(|n| self.verified_s.get(n));
        let verified_s = verified.map_or(0, |verified| verified.load(Ordering::Relaxed));
        verified_s == 0 || now_s.saturating_sub(verified_s) >= interval_s
    }

    pub(super) fn verify(&self, offset: u64, len: u64, piece: &[u8], now_s: u32) -> bool {
        let Some((n, hash)) = self.at(offset).and_then(|n| Some((n, self.hashes.get(n)?))) else { return false };
        let right = PieceHasher::whole(offset, len, piece).as_ref() == Some(hash);
        if right && let Some(verified) = self.verified_s.get(n) {
            verified.store(now_s, Ordering::Relaxed);
        }
        right
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    fn at(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset / PIECE_BYTES).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_hashes_merge_to_the_blake3_hash_of_the_blob() {
        const P: usize = PIECE_BYTES as usize;
        for len in [0, 1, P - 1, P, P + 1, 2 * P, 3 * P - 7, 4 * P, 5 * P + 1023, 7 * P] {
            let bytes: Vec<u8> = (0..len).map(|n| (n / 31) as u8).collect();
            let mut hasher = PieceHasher::new(0, len as u64);
            let mut hashes = Vec::new();
            for piece in bytes.chunks(P) {
                for part in piece.chunks(100_000) {
                    hashes.extend(hasher.update(part));
                }
            }
            assert_eq!(hashes.len() as u64, count(len as u64), "{len}");
            assert_eq!(root(&hashes), *blake3::hash(&bytes).as_bytes(), "{len}");
            let outboard = [header(len as u64, Some(&root(&hashes))).as_slice(), hashes.as_flattened()].concat();
            assert_eq!(parse_outboard(&outboard, len as u64), Some(hashes.clone()));
            for damage in (0..outboard.len()).step_by(7) {
                let mut damaged = outboard.clone();
                damaged[damage] ^= 1;
                assert_eq!(parse_outboard(&damaged, len as u64), None, "byte {damage}");
            }
            let journal = [header(len as u64, None).as_slice(), hashes.as_flattened()].concat();
            assert_eq!(parse_outboard(&journal, len as u64), None, "an unsealed journal is no outboard");
        }
    }
}

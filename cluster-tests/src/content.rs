//! Bytes of blobs. A [`Content`] is a list of segments, held or made from a seed wherever it is read, so that a layer of
//! 1 GiB costs no memory and any range of it can be asked for.
//!
//! Made bytes must be cheap even in an unoptimised build (they are compared with a server that is measured), distinct per
//! seed, and incompressible: each 64 KiB cell is a window at a hashed offset of one random pool, with its head replaced by
//! a hash of seed and cell number. Generating is one `memcpy`.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};

const CELL_BYTES: u64 = 64 << 10;
/// Far above the windows of gzip, so that cells do not compress against each other.
const POOL_BYTES: u64 = 4 << 20;

#[derive(Clone)]
enum Segment {
    Held(Bytes),
    Seeded { seed: u64, len_bytes: u64 },
}

/// A blob's bytes, with its digest computed once. Clones share both.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    segments: Vec<Segment>,
    len_bytes: u64,
    digest: OnceLock<String>,
}

impl Content {
    fn new(segments: Vec<Segment>) -> Self {
        let len_bytes = segments.iter().map(Segment::len).sum();
        Self(Arc::new(Inner { segments, len_bytes, digest: OnceLock::new() }))
    }

    pub fn held(bytes: impl Into<Bytes>) -> Self {
        Self::new(vec![Segment::Held(bytes.into())])
    }

    /// Incompressible bytes that only `seed` decides.
    pub fn seeded(seed: u64, len_bytes: u64) -> Self {
        Self::new(vec![Segment::Seeded { seed, len_bytes }])
    }

    /// An uncompressed tar with one file of seeded bytes: a layer that every client can unpack, and whose digest is its
    /// `diff_id` as well.
    pub fn layer(name: &str, seed: u64, file_bytes: u64) -> Self {
        Self::new(tar(&[Entry { name, mode: 0o644, body: Segment::Seeded { seed, len_bytes: file_bytes } }]))
    }

    /// An uncompressed tar of the given files: name, mode, bytes.
    pub fn files(files: &[(&str, u32, Bytes)]) -> Self {
        let entries =
            files.iter().map(|(name, mode, bytes)| Entry { name, mode: *mode, body: Segment::Held(bytes.clone()) });
        Self::new(tar(&entries.collect::<Vec<_>>()))
    }

    pub fn len(&self) -> u64 {
        self.0.len_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `sha256:…`
    pub fn digest(&self) -> &str {
        self.0.digest.get_or_init(|| {
            let mut context = digest::Context::new(&digest::SHA256);
            let mut buffer = vec![0; 1 << 20];
            let mut offset = 0;
            while offset < self.len() {
                let n = self.read_at(offset, &mut buffer);
                context.update(&buffer[..n]);
                offset += n as u64;
            }
            format!("sha256:{}", hex::encode(context.finish()))
        })
    }

    /// Fills `into` from `offset`; less only at the end.
    pub fn read_at(&self, mut offset: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        for segment in &self.0.segments {
            if offset >= segment.len() {
                offset -= segment.len();
                continue;
            }
            let n = usize::try_from(segment.len() - offset).unwrap_or(usize::MAX).min(into.len() - done);
            segment.fill(offset, &mut into[done..done + n]);
            done += n;
            offset = 0;
            if done == into.len() {
                break;
            }
        }
        done
    }

    /// The bytes `start..end`, in memory.
    pub fn range(&self, start: u64, end: u64) -> Bytes {
        let len = usize::try_from(end.min(self.len()).saturating_sub(start)).expect("ranges in tests fit memory");
        let mut bytes = BytesMut::zeroed(len);
        self.read_at(start, &mut bytes);
        bytes.freeze()
    }

    pub fn bytes(&self) -> Bytes {
        self.range(0, self.len())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} B, {})", self.len(), self.digest())
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Seeded { len_bytes, .. } => *len_bytes,
        }
    }

    fn fill(&self, offset: u64, into: &mut [u8]) {
        match self {
            Self::Held(bytes) => {
                let at = usize::try_from(offset).expect("held bytes are in memory");
                into.copy_from_slice(&bytes[at..at + into.len()]);
            }
            Self::Seeded { seed, .. } => fill_seeded(*seed, offset, into),
        }
    }
}

fn fill_seeded(seed: u64, mut offset: u64, mut into: &mut [u8]) {
    let pool = pool();
    while !into.is_empty() {
        let (cell, skip) = (offset / CELL_BYTES, (offset % CELL_BYTES) as usize);
        let key = mix(seed ^ mix(cell.wrapping_add(1)));
        let at = (key % (POOL_BYTES - CELL_BYTES)) as usize;
        let n = into.len().min(CELL_BYTES as usize - skip);
        let (now, rest) = into.split_at_mut(n);
        now.copy_from_slice(&pool[at + skip..at + skip + n]);
        for (byte, head) in now.iter_mut().zip(head(key).iter().skip(skip)) {
            *byte = *head;
        }
        into = rest;
        offset += n as u64;
    }
}

fn head(key: u64) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&key.to_le_bytes());
    head[8..].copy_from_slice(&mix(key).to_le_bytes());
    head
}

fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| (0..POOL_BYTES / 8).flat_map(|i| mix(i).to_le_bytes()).collect())
}

/// SplitMix64's finaliser: a bijection that scatters neighbouring numbers.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    body: Segment,
}

/// POSIX ustar, as small as a container engine accepts.
fn tar(entries: &[Entry<'_>]) -> Vec<Segment> {
    let mut segments = Vec::new();
    for entry in entries {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, entry.name);
        put(100, &format!("{:07o}", entry.mode));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", entry.body.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(156, if entry.name.ends_with('/') { "5" } else { "0" });
        put(257, "ustar\u{0}00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        segments.push(Segment::Held(Bytes::copy_from_slice(&header)));
        let padding = entry.body.len().next_multiple_of(512) - entry.body.len();
        segments.push(entry.body.clone());
        segments.push(Segment::Held(Bytes::from(vec![0; padding as usize])));
    }
    segments.push(Segment::Held(Bytes::from_static(&[0; 1024])));
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_a_part_of_the_whole() {
        let content = Content::layer("data", 7, 300_000);
        let whole = content.bytes();
        for (start, end) in [(0, 1), (511, 513), (65_535, 200_000), (300_000, 301_568), (5, 5)] {
            assert_eq!(content.range(start, end), whole[start as usize..end as usize], "{start}..{end}");
        }
        assert_eq!(content.len(), 512 + 300_032 + 1024);
    }

    #[test]
    fn seeds_make_other_bytes_and_the_same_seed_the_same() {
        let one = Content::seeded(1, 200_000);
        assert_eq!(one.digest(), Content::seeded(1, 200_000).digest());
        assert_ne!(one.range(100_000, 200_000), Content::seeded(2, 200_000).range(100_000, 200_000));
        let whole = one.bytes();
        assert_ne!(whole[..65_536], whole[65_536..131_072]);
    }

    #[test]
    fn tar_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.tar");
        let layer = Content::files(&[("bin/", 0o755, Bytes::new()), ("bin/hello", 0o755, Bytes::from_static(b"hi"))]);
        std::fs::write(&path, layer.bytes()).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && listing.contains("drwxr-xr-x") && listing.contains("bin/hello"),
            "{listing}"
        );
    }
}

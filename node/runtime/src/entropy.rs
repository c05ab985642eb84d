use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Randomness. `Seeded` is repeatable and for tests only.
#[derive(Clone, Debug)]
pub enum Entropy {
    System,
    Seeded(Arc<AtomicU64>),
}

impl Entropy {
    /// # Panics
    /// When the operating system gives no randomness: nothing that a node does is safe then.
    pub fn fill(&self, out: &mut [u8]) {
        match self {
            Self::System => aws_lc_rs::rand::fill(out).expect("the operating system gives randomness"),
            Self::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    chunk.copy_from_slice(&splitmix(state).to_le_bytes()[..chunk.len()]);
                }
            }
        }
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    pub fn u64(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    pub fn u128(&self) -> u128 {
        u128::from_le_bytes(self.bytes())
    }

    /// Uniform in `0.0..1.0`; for jitter.
    pub fn unit(&self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// SplitMix64: small, and good enough for tests.
fn splitmix(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which hash names a blob (OCI image spec, "Digests").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

/// `sha256:…` or `sha512:…`, hex in lower case. An array, so that a digest is `Copy` and a map key without an
/// allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512(Wide),
}

/// 64 bytes in two halves: serde knows arrays up to 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wide([u8; 32], [u8; 32]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: want sha256: and 64, or sha512: and 128, lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// From a finished hash.
    ///
    /// # Errors
    /// [`InvalidDigest`] when `hash` has not the length of `algorithm`.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Result<Self, InvalidDigest> {
        match algorithm {
            Algorithm::Sha256 => Ok(Self::Sha256(hash.try_into().map_err(|_| InvalidDigest)?)),
            Algorithm::Sha512 => {
                let (low, high) = hash.split_at_checked(32).ok_or(InvalidDigest)?;
                let half = |bytes: &[u8]| bytes.try_into().map_err(|_| InvalidDigest);
                Ok(Self::Sha512(Wide(half(low)?, half(high)?)))
            }
        }
    }

    /// The hash alone: 32 or 64 bytes.
    pub fn hash(&self) -> Vec<u8> {
        match self {
            Self::Sha256(hash) => hash.to_vec(),
            Self::Sha512(Wide(low, high)) => [*low, *high].concat(),
        }
    }

    /// A key for ordered tables: the algorithm's number, then the hash.
    pub fn key(&self) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256(_) => 1,
            Self::Sha512(_) => 2,
        };
        [&[algorithm], self.hash().as_slice()].concat()
    }

    /// The inverse of [`Digest::key`].
    ///
    /// # Errors
    /// [`InvalidDigest`] for anything that `key` does not make.
    pub fn from_key(key: &[u8]) -> Result<Self, InvalidDigest> {
        match key.split_first() {
            Some((1, hash)) => Self::from_hash(Algorithm::Sha256, hash),
            Some((2, hash)) => Self::from_hash(Algorithm::Sha512, hash),
            _ => Err(InvalidDigest),
        }
    }

    /// The hexadecimal part alone: what file names are made of.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(128);
        for byte in self.hash() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidDigest)?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest),
        };
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(InvalidDigest),
        };
        if hex.len() > 128 || hex.len() % 2 != 0 {
            return Err(InvalidDigest);
        }
        let pairs = hex.as_bytes().chunks_exact(2);
        let hash = pairs.map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect::<Result<Vec<u8>, _>>()?;
        Self::from_hash(algorithm, &hash)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{algorithm}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_digests_are_refused() {
        let hex = "ab".repeat(32);
        for bad in [
            String::new(),
            "sha256:".into(),
            hex.clone(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("SHA256:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha512:{hex}"),
            format!("md5:{hex}"),
            format!("sha256:{}é", &hex[2..]),
            format!("sha256:../{}", &hex[3..]),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn digests_round_trip(low: [u8; 32], high: [u8; 32]) {
            for digest in [Digest::Sha256(low), Digest::Sha512(Wide(low, high))] {
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
                prop_assert_eq!(Digest::from_key(&digest.key()), Ok(digest));
            }
        }

        #[test]
        fn hostile_text_never_panics(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}

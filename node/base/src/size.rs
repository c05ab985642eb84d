use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ByteLen(pub u64);

impl ByteLen {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) if self.0.is_multiple_of(*size) => write!(f, "{} {unit}", self.0 / size),
            Some((unit, size)) => write!(f, "{:.1} {unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write a number of bytes, or a number with KiB, MiB, GiB or TiB")]
pub struct InvalidByteLen(String);

impl FromStr for ByteLen {
    type Err = InvalidByteLen;

    /// `1048576`, `20 GiB`, `1.5TiB`.
    fn from_str(text: &str) -> Result<Self, InvalidByteLen> {
        let invalid = || InvalidByteLen(text.to_owned());
        let trimmed = text.trim();
        for (unit, size) in UNITS {
            if let Some(number) = trimmed.strip_suffix(unit) {
                let number: f64 = number.trim().parse().map_err(|_| invalid())?;
                let bytes = number * size as f64;
                return if (0.0..u64::MAX as f64).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(invalid()) };
            }
        }
        trimmed.strip_suffix('B').unwrap_or(trimmed).trim().parse().map(Self).map_err(|_| invalid())
    }
}

/// Half-open range of bytes within a blob: `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

impl ByteRange {
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, printed) in [
            ("20 GiB", 20 << 30, "20 GiB"),
            ("1.5TiB", 3 << 39, "1.5 TiB"),
            ("512", 512, "512 B"),
            ("4KiB", 4096, "4 KiB"),
        ] {
            let len: ByteLen = text.parse().unwrap();
            assert_eq!((len.0, len.to_string().as_str()), (bytes, printed));
        }
        for bad in ["", "x", "-1", "-1 GiB", "GiB", "1e400 GiB", "NaN MiB"] {
            assert!(bad.parse::<ByteLen>().is_err(), "{bad}");
        }
    }
}

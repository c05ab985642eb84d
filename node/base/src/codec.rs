//! Records on disk and frames on the wire: one version byte, then bincode with a limit; trailing bytes are an error.
//!
//! Invariant: an encoded type uses no `flatten`, `untagged`, `tag` or `skip` of serde; enum variants are only appended.

use serde::{Serialize, de::DeserializeOwned};

use crate::ByteLen;

/// Why bytes are not the record they should be. Every variant is an answer to hostile or damaged input; none panics.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("value cannot be encoded")]
    Encode(#[source] bincode::error::EncodeError),
    #[error("empty record")]
    Empty,
    #[error("malformed record")]
    Malformed(#[source] bincode::error::DecodeError),
    #[error("{0} bytes after the record")]
    Trailing(usize),
    #[error("record of {len} exceeds {limit}")]
    TooLong { len: ByteLen, limit: ByteLen },
    #[error("record format {found} is not known here (this program knows {known})")]
    Version { found: u8, known: u8 },
}

/// Largest record that the codec accepts anywhere: above a Raft append of 128 KiB and a 4 MiB manifest in a frame.
const HARD_LIMIT: usize = 8 << 20;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<HARD_LIMIT>,
> = bincode::config::standard().with_limit::<HARD_LIMIT>();

/// Encodes `value` behind its format version.
///
/// # Errors
/// [`CodecError::Encode`] when a `Serialize` implementation refuses; no type of ours does.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![version];
    bincode::serde::encode_into_std_write(value, &mut out, CONFIG).map_err(CodecError::Encode)?;
    Ok(out)
}

/// Decodes a record of at most `limit` bytes; returns its format version with it, so that the caller can migrate.
///
/// # Errors
/// Every [`CodecError`] but `Encode` and `Version`. Allocation is bounded by the input's length.
pub fn decode<T: DeserializeOwned>(limit: ByteLen, bytes: &[u8]) -> Result<(u8, T), CodecError> {
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    let len = ByteLen(bytes.len() as u64);
    if len > limit {
        return Err(CodecError::TooLong { len, limit });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, CONFIG).map_err(CodecError::Malformed)?;
    if used != body.len() {
        return Err(CodecError::Trailing(body.len() - used));
    }
    Ok((version, value))
}

/// Decodes a record whose only known format is `version`.
///
/// # Errors
/// As [`decode`], and [`CodecError::Version`] for another format.
pub fn decode_version<T: DeserializeOwned>(version: u8, limit: ByteLen, bytes: &[u8]) -> Result<T, CodecError> {
    // Looked at before the body: an unknown format's body means nothing here.
    match bytes.first() {
        Some(&found) if found != version => Err(CodecError::Version { found, known: version }),
        _ => decode(limit, bytes).map(|(_, value)| value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: ByteLen = ByteLen(1024);

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(1, &7u64).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u64>(LIMIT, &bytes), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn a_longer_record_than_the_limit_is_refused_before_it_is_read() {
        let bytes = encode(1, &vec![0u8; 2048]).unwrap();
        assert!(matches!(decode::<Vec<u8>>(LIMIT, &bytes), Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn another_format_is_named() {
        let bytes = encode(2, &7u64).unwrap();
        assert!(matches!(decode_version::<u64>(1, LIMIT, &bytes), Err(CodecError::Version { found: 2, known: 1 })));
    }

    proptest! {
        #[test]
        fn records_round_trip(value: (u64, String, Option<Vec<u8>>)) {
            let bytes = encode(3, &value).unwrap();
            let (version, back): (u8, (u64, String, Option<Vec<u8>>)) = decode(ByteLen(1 << 20), &bytes).unwrap();
            prop_assert_eq!(version, 3);
            prop_assert_eq!(back, value);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<(u64, String, Option<Vec<u8>>)>(LIMIT, &bytes);
        }
    }
}

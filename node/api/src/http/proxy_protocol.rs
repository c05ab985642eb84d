//! The PROXY protocol, version 2: how a load balancer that passes bytes on tells whose they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_BYTES: usize = 16;
/// Addresses of the largest family and room for what balancers add; 536 bytes with the head are what fits every packet.
const MAX_REST_BYTES: usize = 520;

#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("the proxy's header was cut")]
    Read(#[from] std::io::Error),
    /// Version 1 is text without a length; plain HTTP looks the same here.
    #[error("the connection does not begin with a PROXY header of version 2")]
    NotVersion2,
    #[error("a PROXY header of {0} bytes is longer than any that is needed")]
    TooLong(usize),
    #[error("the PROXY header contradicts itself")]
    Malformed,
}

/// Reads the header and not a byte more. `None` when the proxy speaks for itself, as its health checks do, or for a
/// family of addresses that has no meaning here.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let (family, len) = parse_head(&head)?;
    let mut rest = [0; MAX_REST_BYTES];
    let rest = rest.get_mut(..len).ok_or(ProxyHeaderError::TooLong(len))?;
    stream.read_exact(rest).await?;
    source(family, rest)
}

/// Who is named in what follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Itself,
    V4,
    V6,
}

fn parse_head(head: &[u8; HEAD_BYTES]) -> Result<(Family, usize), ProxyHeaderError> {
    let [.., command, family, high, low] = *head;
    if !head.starts_with(SIGNATURE) || command >> 4 != 2 {
        return Err(ProxyHeaderError::NotVersion2);
    }
    let family = match (command & 0xf, family) {
        (0, _) | (1, 0x00 | 0x31 | 0x32) => Family::Itself,
        (1, 0x11 | 0x12) => Family::V4,
        (1, 0x21 | 0x22) => Family::V6,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_REST_BYTES { Err(ProxyHeaderError::TooLong(len)) } else { Ok((family, len)) }
}

fn source(family: Family, rest: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    // Both addresses and both ports; the source's address is first.
    match family {
        Family::Itself => Ok(None),
        Family::V4 => {
            let (addresses, _) = rest.split_first_chunk::<12>().ok_or(ProxyHeaderError::Malformed)?;
            let [a, b, c, d, ..] = *addresses;
            Ok(Some(Ipv4Addr::new(a, b, c, d).into()))
        }
        Family::V6 => {
            let (addresses, _) = rest.split_first_chunk::<36>().ok_or(ProxyHeaderError::Malformed)?;
            let (source, _) = addresses.split_first_chunk::<16>().ok_or(ProxyHeaderError::Malformed)?;
            Ok(Some(IpAddr::from(Ipv6Addr::from(*source)).to_canonical()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn parsed(mut bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyHeaderError>, usize) {
        let result = read(&mut bytes).now_or_never().unwrap();
        (result, bytes.len())
    }

    #[test]
    fn the_source_is_found_and_what_follows_is_left() {
        let v4 = [&[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4][..], &[4, 0, 1, 9]].concat();
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 1;
        for (bytes, source) in [
            (header(1, 0x11, &v4), Some("192.0.2.1")),
            (header(1, 0x21, &v6), Some("2001:db8::1")),
            (header(0, 0x11, &v4), None),
            (header(0, 0, &[]), None),
            (header(1, 0, &[1, 2, 3]), None),
        ] {
            let (result, left) = parsed(&[bytes, b"GET / HTTP/1.1\r\n".to_vec()].concat());
            assert_eq!((result.unwrap(), left), (source.map(|text| text.parse().unwrap()), 16));
        }
    }

    #[test]
    fn other_beginnings_are_refused() {
        assert!(matches!(parsed(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n").0, Err(ProxyHeaderError::NotVersion2)));
        assert!(matches!(parsed(b"GET /v2/ HTTP/1.1\r\n").0, Err(ProxyHeaderError::NotVersion2)));
        assert!(matches!(parsed(&header(1, 0x11, &[0; 521])).0, Err(ProxyHeaderError::TooLong(521))));
        assert!(matches!(parsed(&header(1, 0x11, &[0; 11])).0, Err(ProxyHeaderError::Malformed)));
        assert!(matches!(parsed(&header(2, 0x11, &[0; 12])).0, Err(ProxyHeaderError::Malformed)));
        assert!(matches!(parsed(&header(1, 0x11, &[0; 12])[..20]).0, Err(ProxyHeaderError::Read(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_at_most_536_are_read(
            command in any::<u8>(), family in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut bytes = header(0, family, &rest);
            bytes[12] = command;
            let before = bytes.len();
            let (_, left) = parsed(&bytes);
            prop_assert!(before - left <= 536);
        }
    }
}

//! CONNECT (RFC 9110, 9.3.6): a way to an https origin through a proxy, which sees its name and no more.

use std::{io, sync::Arc};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{HttpError, origin::Origin, proxy::Proxy};

/// Longest head of an answer to CONNECT.
const HEAD_LIMIT_BYTES: usize = 8 << 10;

/// Has `proxy`, which is at the other end of `stream`, connect to `origin`.
pub(crate) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    origin: &Origin,
    user_agent: &HeaderValue,
) -> Result<(), HttpError> {
    let failed = |source| HttpError::Proxy { proxy: proxy.origin.to_string().into(), source: Arc::new(source) };
    let target = origin.host_and_port();
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: ").into_bytes();
    head.extend_from_slice(user_agent.as_bytes());
    if let Some(authorization) = &proxy.authorization {
        head.extend_from_slice(b"\r\nProxy-Authorization: ");
        head.extend_from_slice(authorization.as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    stream.write_all(&head).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let head = read_head(stream).await.map_err(failed)?;
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(HttpError::ProxyStatus { proxy: proxy.origin.to_string().into(), status }),
        None => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "its answer to CONNECT is not HTTP"))),
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_LIMIT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer to CONNECT is too long"));
        }
        // One by one: what follows the head belongs to the TLS session, and no head has more than a few hundred bytes.
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let (_, rest) = rest.split_once(' ')?;
    let code = rest.get(..3)?;
    code.bytes().all(|c| c.is_ascii_digit()).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_read_up_to_their_end_and_not_for_ever() {
        let mut answer = &b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n\x16\x03"[..];
        let head = read_head(&mut answer).await.unwrap();
        assert_eq!((status(&head), answer), (Some(200), &b"\x16\x03"[..]));
        assert!(read_head(&mut vec![b'a'; 1 << 20].as_slice()).await.is_err());
        assert!(read_head(&mut &b"HTTP/1.1 200 OK\r\n"[..]).await.is_err());
        assert_eq!(status(b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n"), Some(407));
        for bad in [&b"HTTP/2 200\r\n\r\n"[..], b"HTTP/1.1 20\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 +20\r\n\r\n"] {
            assert_eq!(status(bad), None);
        }
    }
}

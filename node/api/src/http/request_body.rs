//! Bodies of requests. Whoever sends one may be nobody: it is bounded in length, in time, and together with all others.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// Longest silence within a body.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for a whole body: one of a mebibyte over a slow line.
const WITHIN: Duration = Duration::from_secs(60);
/// How much of a body that is too long is still read: a client that is not read to its end may see a reset instead of
/// the answer.
const DISCARD_LIMIT_BYTES: usize = 8 << 20;

/// Why a request's body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error("the body has more than {0} bytes")]
    TooLong(usize),
    #[error("the body did not come in time")]
    Slow,
    #[error("too many requests are being received")]
    Busy,
    #[error("the body was cut")]
    Cut,
}

/// Bytes that all bodies which are being collected may hold together. Nobody waits for it: what it has no room for is
/// refused, so that a body which comes slowly holds up no other.
#[derive(Clone)]
pub(crate) struct Room(Arc<Mutex<usize>>);

/// What one body has taken of the room.
struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }

    fn give(&self, bytes: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
    }
}

impl Taken<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), CollectError> {
        let mut left = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(bytes).ok_or(CollectError::Busy)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.give(self.bytes);
    }
}

/// The whole of a request's body.
///
/// # Errors
/// [`CollectError`].
pub(crate) async fn collect<B>(body: B, limit_bytes: usize, room: &Room) -> Result<Bytes, CollectError>
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let deadline = Instant::now() + WITHIN;
    let mut taken = Taken { room, bytes: 0 };
    let mut collected = BytesMut::new();
    let mut seen = 0usize;
    loop {
        let next = timeout_at(deadline.min(Instant::now() + PAUSE), body.frame());
        let Some(frame) = next.await.map_err(|_| CollectError::Slow)? else { break };
        let Ok(chunk) = frame.map_err(|_| CollectError::Cut)?.into_data() else { continue };
        seen = seen.saturating_add(chunk.len());
        if seen > DISCARD_LIMIT_BYTES.max(limit_bytes) {
            break;
        }
        if seen <= limit_bytes {
            taken.take(chunk.len())?;
            collected.extend_from_slice(&chunk);
        }
    }
    if seen > limit_bytes { Err(CollectError::TooLong(limit_bytes)) } else { Ok(collected.freeze()) }
}

/// Reads what belongs to a request that is refused already, keeping nothing.
pub(crate) async fn discard<B: http_body::Body<Data = Bytes>>(body: B) {
    // However it ends, the answer is known.
    let _ = collect(body, 0, &Room::new(0)).await;
}

#[cfg(test)]
mod tests {
    use futures_util::{Stream, StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    type Chunks = Vec<&'static [u8]>;

    fn body(
        chunks: impl Stream<Item = &'static [u8]>,
    ) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> {
        StreamBody::new(chunks.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_or_drips_is_given_up() {
        let room = Room::new(100);
        let start = Instant::now();
        let silent = body(stream::iter([&b"a"[..]]).chain(stream::pending()));
        assert!(matches!(collect(silent, 10, &room).await, Err(CollectError::Slow)));
        assert_eq!(start.elapsed(), PAUSE);

        let start = Instant::now();
        let dripping = body(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Some((&b"a"[..], ()))
        }));
        assert!(matches!(collect(dripping, 100, &room).await, Err(CollectError::Slow)));
        assert_eq!(start.elapsed(), WITHIN);
        assert_eq!(*room.0.lock().unwrap(), 100);
    }

    #[tokio::test]
    async fn bodies_are_bounded_each_and_together() {
        let room = Room::new(10);
        let of = |chunks: Chunks| body(stream::iter(chunks));
        assert_eq!(collect(of(vec![b"abc", b"de"]), 5, &room).await.unwrap(), "abcde");
        assert!(matches!(collect(of(vec![b"abc", b"def"]), 5, &room).await, Err(CollectError::TooLong(5))));
        let mut held = Box::pin(collect(body(stream::iter([&b"abcdefgh"[..]]).chain(stream::pending())), 10, &room));
        assert!(futures_util::poll!(&mut held).is_pending());
        assert!(matches!(collect(of(vec![b"abc"]), 5, &room).await, Err(CollectError::Busy)));
        assert_eq!(collect(of(vec![b"ab"]), 5, &room).await.unwrap(), "ab");
        drop(held);
        assert_eq!(collect(of(vec![b"abc"]), 5, &room).await.unwrap(), "abc");
    }
}

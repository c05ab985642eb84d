use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use flotilla_runtime::{ByteStream, StreamError};

/// Most bytes of one write to the store: large enough that its fixed cost vanishes beside hashing.
const PIECE_MOST: usize = 256 << 10;

/// Gathers what has arrived already into larger pieces; never waits for more, so that a slow upstream's bytes pass at
/// once.
pub(crate) struct Pump {
    body: ByteStream,
    chunks: Vec<Bytes>,
    end: Option<Result<(), StreamError>>,
}

impl Pump {
    pub(crate) fn new(body: ByteStream) -> Self {
        Self { body, chunks: Vec::new(), end: None }
    }

    /// Cancel safe.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, StreamError>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut len = 0;
        while self.end.is_none() && len < PIECE_MOST {
            match self.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => {
                    len += chunk.len();
                    self.chunks.push(chunk);
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending if self.chunks.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if self.chunks.len() > 1 {
            let mut piece = BytesMut::with_capacity(len);
            self.chunks.drain(..).for_each(|chunk| piece.extend_from_slice(&chunk));
            return Poll::Ready(Some(Ok(piece.freeze())));
        }
        match (self.chunks.pop(), self.end.replace(Ok(()))) {
            (Some(chunk), end) => {
                // Told with the next call.
                self.end = end;
                Poll::Ready(Some(Ok(chunk)))
            }
            (None, Some(Err(error))) => Poll::Ready(Some(Err(error))),
            (None, _) => Poll::Ready(None),
        }
    }
}

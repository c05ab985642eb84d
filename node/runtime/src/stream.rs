use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

pub type BoxFuture<'a, T> = futures_core::future::BoxFuture<'a, T>;

/// Bytes that arrive: from a client, a peer or an upstream. The one body type below the HTTP edge; a box per body, a
/// virtual call per chunk.
pub struct ByteStream(Pin<Box<dyn Stream<Item = Result<Bytes, StreamError>> + Send>>);

/// The bytes ended before they were complete.
#[derive(Debug, thiserror::Error)]
#[error("stream was cut")]
pub struct StreamError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl ByteStream {
    pub fn new(stream: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    pub fn empty() -> Self {
        Self::from(Bytes::new())
    }

    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.as_mut().poll_next(cx)
    }

    /// Cancel safe.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, StreamError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

impl From<Bytes> for ByteStream {
    fn from(bytes: Bytes) -> Self {
        struct Once(Option<Bytes>);
        impl Stream for Once {
            type Item = Result<Bytes, StreamError>;
            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                Poll::Ready(self.0.take().map(Ok))
            }
        }
        Self::new(Once((!bytes.is_empty()).then_some(bytes)))
    }
}

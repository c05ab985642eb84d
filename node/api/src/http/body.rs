use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flotilla_base::ByteRange;
use flotilla_runtime::{ByteStream, StreamError};
use flotilla_transfer::{Reader, TransferError};
use futures_core::Stream;

use super::multipart::{Multipart, Rewind};

/// Every response body we have. An enum: no box for a manifest, no copy for a blob from disk.
pub(crate) enum Body {
    Empty,
    Full(Bytes),
    Blob(Box<Reader>),
    Stream(ByteStream),
    Multipart(Box<Multipart<Reader>>),
}

/// The body ends here and is not complete; the client is made to see that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("blob was cut")]
    Blob(#[from] TransferError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the store lost the blob while its parts were sent")]
    Lost,
    #[error("body ended before the length that its head announced")]
    Short,
}

impl Body {
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Self::Blob(reader) => reader.poll_chunk(cx).map_err(BodyError::from),
            Self::Stream(stream) => stream.poll_chunk(cx).map_err(BodyError::from),
            Self::Multipart(parts) => parts.poll_chunk(cx),
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Full(text.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Full(bytes.into())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Full(Bytes::from_static(text.as_bytes()))
    }
}

impl Rewind for Reader {
    type Error = BodyError;

    fn at(&self, range: ByteRange) -> Self {
        self.again().range(range)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = Self::poll_chunk(self, cx);
        // The whole blob would pass by once for every part that is left.
        if self.is_passing() { Poll::Ready(Some(Err(BodyError::Lost))) } else { polled.map_err(BodyError::from) }
    }
}

/// The part `range` of a stream that only runs forward. It ends with the last byte of the range; a stream that ends
/// before is passed on short.
pub(crate) fn slice(stream: ByteStream, range: ByteRange) -> ByteStream {
    struct Slice {
        stream: ByteStream,
        skip: u64,
        left: u64,
    }
    impl Stream for Slice {
        type Item = Result<Bytes, StreamError>;

        fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            while self.left > 0 {
                let mut chunk = match ready!(self.stream.poll_chunk(cx)) {
                    Some(Ok(chunk)) => chunk,
                    other => return Poll::Ready(other),
                };
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
                let _ = chunk.split_to(skipped);
                self.skip -= skipped as u64;
                chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                if !chunk.is_empty() {
                    self.left -= chunk.len() as u64;
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
            Poll::Ready(None)
        }
    }
    ByteStream::new(Slice { stream, skip: range.start, left: range.len() })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slice_is_the_range_whatever_the_chunks(
            len in 0usize..200, cuts in proptest::collection::vec(0usize..40, 0..12), a in 0u64..200, b in 0u64..200,
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut chunks = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(Ok(Bytes::copy_from_slice(chunk)));
                rest = tail;
            }
            chunks.push(Ok(Bytes::copy_from_slice(rest)));
            let (start, end) = (a.min(b).min(len as u64), a.max(b).min(len as u64));
            let mut sliced = slice(ByteStream::new(stream::iter(chunks)), ByteRange { start, end });
            let found = futures_util::FutureExt::now_or_never(async move {
                let mut found = Vec::new();
                while let Some(chunk) = sliced.chunk().await {
                    found.extend_from_slice(&chunk.unwrap());
                }
                found
            });
            prop_assert_eq!(found.unwrap(), &bytes[start as usize..end as usize]);
        }
    }
}

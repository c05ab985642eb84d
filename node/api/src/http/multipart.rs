//! `multipart/byteranges` (RFC 9110, 14.6): parts in the order they were asked for. Clients of zstd:chunked layers match
//! parts to their requests by position.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};

/// A source that can be read from any place, again and again.
pub(crate) trait Rewind {
    type Error;

    fn at(&self, range: ByteRange) -> Self;

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>>;
}

/// The bytes around the parts; known before any part is read, and with them the length of the whole.
pub(crate) struct Framing {
    boundary: String,
    content_type: &'static str,
    total: ByteLen,
}

impl Framing {
    /// `boundary` must not occur in the content; 128 random bits do not.
    pub(crate) fn new(boundary: u128, content_type: &'static str, total: ByteLen) -> Self {
        Self { boundary: format!("{boundary:032x}"), content_type, total }
    }

    pub(crate) fn media_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    pub(crate) fn content_len(&self, ranges: &[ByteRange]) -> u64 {
        let parts = ranges.iter().map(|range| self.head(*range).len() as u64 + range.len());
        parts.sum::<u64>() + self.end().len() as u64
    }

    fn head(&self, range: ByteRange) -> String {
        format!(
            "\r\n--{}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
            self.boundary,
            self.content_type,
            content_range(range, self.total)
        )
    }

    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

/// Value of Content-Range; `range` must not be empty.
pub(crate) fn content_range(range: ByteRange, total: ByteLen) -> String {
    format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), total.0)
}

pub(crate) struct Multipart<R> {
    framing: Framing,
    source: R,
    waiting: VecDeque<ByteRange>,
    state: State<R>,
}

enum State<R> {
    Between,
    Part(R),
    Ended,
}

impl<R: Rewind> Multipart<R> {
    pub(crate) fn new(framing: Framing, source: R, ranges: impl IntoIterator<Item = ByteRange>) -> Self {
        Self { framing, source, waiting: ranges.into_iter().collect(), state: State::Between }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, R::Error>>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Part(part) => match ready!(part.poll_chunk(cx)) {
                    Some(chunk) => return Poll::Ready(Some(chunk)),
                    None => self.state = State::Between,
                },
                State::Between => {
                    let frame = match self.waiting.pop_front() {
                        Some(range) => {
                            self.state = State::Part(self.source.at(range));
                            self.framing.head(range)
                        }
                        None => {
                            self.state = State::Ended;
                            self.framing.end()
                        }
                    };
                    return Poll::Ready(Some(Ok(frame.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use super::*;

    struct Memory(Bytes);

    impl Rewind for Memory {
        type Error = Infallible;

        fn at(&self, range: ByteRange) -> Self {
            Self(self.0.slice(range.start as usize..range.end as usize))
        }

        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
            let next = self.0.split_to(self.0.len().min(3));
            Poll::Ready((!next.is_empty()).then_some(Ok(next)))
        }
    }

    #[tokio::test]
    async fn framing_is_exact_and_its_length_known_before() {
        let ranges = [ByteRange { start: 6, end: 10 }, ByteRange { start: 0, end: 1 }];
        let framing = Framing::new(7, "application/octet-stream", ByteLen(10));
        assert_eq!(framing.media_type(), "multipart/byteranges; boundary=00000000000000000000000000000007");
        let len = framing.content_len(&ranges);
        let mut parts = Multipart::new(framing, Memory(Bytes::from_static(b"0123456789")), ranges);
        let mut body = Vec::new();
        while let Some(Ok(chunk)) = poll_fn(|cx| parts.poll_chunk(cx)).await {
            body.extend_from_slice(&chunk);
        }
        let expected = "\r\n--00000000000000000000000000000007\r\nContent-Type: application/octet-stream\r\n\
                        Content-Range: bytes 6-9/10\r\n\r\n6789\
                        \r\n--00000000000000000000000000000007\r\nContent-Type: application/octet-stream\r\n\
                        Content-Range: bytes 0-0/10\r\n\r\n0\
                        \r\n--00000000000000000000000000000007--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(len, expected.len() as u64);
    }
}

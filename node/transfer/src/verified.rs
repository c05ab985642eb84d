use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use aws_lc_rs::digest::{Context as Hasher, SHA256, SHA512};
use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Algorithm, Digest};
use flotilla_runtime::{ByteStream, StreamError};
use futures_core::Stream;

use crate::{TransferError, shares::Pace};

/// The last bytes that a client gets only when the whole has matched: enough that no client takes the rest for all.
const HELD_BACK: ByteLen = ByteLen::mib(1);

/// Told at the end: the length of the blob, or why it is none.
pub(crate) type Verdict = Box<dyn FnOnce(Result<ByteLen, &TransferError>) + Send>;

/// A body that passes by: hashed on its way, its last piece held back until length and digest matched, cut otherwise.
pub(crate) struct Verified {
    body: ByteStream,
    digest: Digest,
    source: String,
    hasher: Option<Hasher>,
    len: u64,
    seen: u64,
    held: VecDeque<Bytes>,
    /// And the place that the body takes.
    pace: Option<Pace>,
    verdict: Option<Verdict>,
}

impl Verified {
    pub(crate) fn stream(
        body: ByteStream,
        digest: Digest,
        len: ByteLen,
        source: String,
        pace: Option<Pace>,
        verdict: Verdict,
    ) -> ByteStream {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        };
        ByteStream::new(Self {
            body,
            digest,
            source,
            hasher: Some(Hasher::new(algorithm)),
            len: len.0,
            seen: 0,
            held: VecDeque::new(),
            pace,
            verdict: Some(verdict),
        })
    }

    /// Takes a piece in; gives back what of it may leave at once.
    fn take(&mut self, mut piece: Bytes) -> Result<Bytes, TransferError> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        let free_until = self.len.saturating_sub(HELD_BACK.0);
        let free = usize::try_from(free_until.saturating_sub(self.seen)).unwrap_or(usize::MAX).min(piece.len());
        self.seen = self.seen.saturating_add(piece.len() as u64);
        if self.seen > self.len {
            return Err(TransferError::Mismatch(self.digest));
        }
        let leaves = piece.split_to(free);
        if !piece.is_empty() {
            self.held.push_back(piece);
        }
        Ok(leaves)
    }

    fn judge(&mut self, hasher: Hasher) -> Result<(), TransferError> {
        if self.seen < self.len {
            return Err(TransferError::short_body(&self.source));
        }
        match Digest::from_hash(self.digest.algorithm(), hasher.finish().as_ref()) {
            Ok(found) if found == self.digest => Ok(()),
            _ => Err(TransferError::Mismatch(self.digest)),
        }
    }

    fn hand(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(pace) = &mut self.pace {
            pace.hands(piece.len());
        }
        Poll::Ready(Some(Ok(piece)))
    }

    fn cut(&mut self, error: TransferError) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.hasher = None;
        self.pace = None;
        self.held.clear();
        self.body = ByteStream::empty();
        if let Some(verdict) = self.verdict.take() {
            verdict(Err(&error));
        }
        Poll::Ready(Some(Err(StreamError(Box::new(error)))))
    }
}

impl Stream for Verified {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.pace.as_mut().is_some_and(Pace::is_too_slow) {
            return this.cut(TransferError::SlowClient(this.digest));
        }
        while this.hasher.is_some() {
            let taken = match std::task::ready!(this.body.poll_chunk(cx)) {
                Some(Ok(piece)) => this.take(piece),
                Some(Err(error)) => Err(TransferError::of_body(&this.digest, &this.source, error)),
                None => match this.hasher.take().map(|hasher| this.judge(hasher)) {
                    Some(Err(error)) => Err(error),
                    _ => {
                        if let Some(verdict) = this.verdict.take() {
                            verdict(Ok(ByteLen(this.len)));
                        }
                        break;
                    }
                },
            };
            match taken {
                Ok(leaves) if leaves.is_empty() => {}
                Ok(leaves) => return this.hand(leaves),
                Err(error) => return this.cut(error),
            }
        }
        match this.held.pop_front() {
            Some(piece) => this.hand(piece),
            None => Poll::Ready(None),
        }
    }
}

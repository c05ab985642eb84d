use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};
use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::{BoxFuture, ByteStream};
use flotilla_storage::{BlobReader, StorageError};
use flotilla_upstream::Class;

use tokio::sync::watch;

use crate::{
    TransferError, Wanted,
    core::Core,
    fill::{Follow, Stage},
    metrics::Passing,
};

/// Reads a blob of this node, sealed or growing, like [`BlobReader`]. When the store loses it on the way (the disk is
/// full or fails, a held piece is bad) the rest comes straight from the blob's own origin: the reader goes on where it was, at
/// the price of fetching the blob once more, verified as a whole.
pub struct Reader {
    digest: Digest,
    len: ByteLen,
    feed: Feed,
    /// Next byte to be handed out, once the store has failed.
    at: u64,
    end: u64,
    rescue: Option<Rescue>,
    /// Counted as a follower while it lives.
    follow: Option<Follow>,
}

enum Feed {
    Store(BlobReader),
    Opening(BoxFuture<'static, Result<ByteStream, TransferError>>),
    /// The whole blob passes by; what was handed out already is skipped.
    Passing {
        body: ByteStream,
        passed: u64,
    },
    Ended,
}

/// The end of one fill. Holding it does not count as following.
pub struct Sealing(watch::Receiver<Stage>);

impl Sealing {
    /// Waits for the end; `true` when this very fill sealed its blob, not one that came after it. Cancel safe.
    pub async fn sealed(mut self) -> bool {
        let ended = self.0.wait_for(|stage| !matches!(stage, Stage::Deciding | Stage::Flowing)).await;
        ended.is_ok_and(|stage| matches!(*stage, Stage::Sealed))
    }
}

/// Whom to ask when the store fails.
#[derive(Clone)]
pub(crate) struct Rescue {
    pub core: Arc<Core>,
    pub origin: Origin,
    pub class: Class,
}

impl Reader {
    pub(crate) fn new(reader: BlobReader, rescue: Option<Rescue>, follow: Option<Follow>) -> Self {
        let (digest, len, at) = (*reader.digest(), reader.len(), reader.position());
        Self { digest, len, feed: Feed::Store(reader), at, end: len.0, rescue, follow }
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The end of the fill that this reader follows; `None` when the blob was sealed before.
    pub fn sealing(&self) -> Option<Sealing> {
        self.follow.as_ref().map(|follow| Sealing(follow.fill().stage()))
    }

    /// The store has lost the blob: what comes now passes by and is not kept.
    pub fn is_passing(&self) -> bool {
        matches!(self.feed, Feed::Opening(_) | Feed::Passing { .. })
    }

    /// Of the whole blob, whatever the range.
    pub fn len(&self) -> ByteLen {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == ByteLen(0)
    }

    /// Narrows to `range`, cut to the blob's length. Called before the first chunk is taken.
    #[must_use]
    pub fn range(mut self, range: ByteRange) -> Self {
        self.end = range.end.min(self.len.0);
        self.at = range.start.min(self.end);
        self.feed = match self.feed {
            Feed::Store(reader) => Feed::Store(reader.range(range)),
            other => other,
        };
        self
    }

    /// Another reader of the same blob, over all of it.
    #[must_use]
    pub fn again(&self) -> Self {
        let feed = match (&self.feed, &self.rescue) {
            (Feed::Store(reader), _) => Feed::Store(reader.again()),
            (_, Some(rescue)) => rescue.open(self.digest, self.len),
            (_, None) => Feed::Ended,
        };
        let (rescue, follow) = (self.rescue.clone(), self.follow.clone());
        Self { digest: self.digest, len: self.len, feed, at: 0, end: self.len.0, rescue, follow }
    }

    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        loop {
            match &mut self.feed {
                Feed::Store(reader) => match (ready!(reader.poll_chunk(cx)), &self.rescue) {
                    (Some(Ok(bytes)), _) => return Poll::Ready(Some(Ok(bytes))),
                    (Some(Err(error)), Some(rescue)) if is_loss(&error) => {
                        self.at = reader.position();
                        tracing::debug!(digest = %self.digest, at = self.at, "the store lost a blob that is read");
                        self.feed = rescue.open(self.digest, self.len);
                    }
                    (Some(Err(StorageError::Abandoned { .. })), Some(rescue))
                        // Whoever has got a part of it is cut: that part is not proven, and the rest would complete it.
                        if reader.position() == self.at
                            && self.follow.as_ref().is_some_and(|follow| follow.fill().gave_way()) =>
                    {
                        self.feed = rescue.open(self.digest, self.len);
                    }
                    (Some(Err(error)), _) => return self.fail(error.into()),
                    (None, _) => return Poll::Ready(None),
                },
                Feed::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(body) => self.feed = Feed::Passing { body, passed: 0 },
                    Err(error) => return self.fail(error),
                },
                // Everything asked for is handed out; for the blob's last byte that means that it matched.
                Feed::Passing { .. } if self.at >= self.end => self.feed = Feed::Ended,
                Feed::Passing { body, passed } => match ready!(body.poll_chunk(cx)) {
                    Some(Ok(bytes)) => {
                        let from = *passed;
                        *passed = from.saturating_add(bytes.len() as u64);
                        let clip =
                            |to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(bytes.len());
                        let wanted = bytes.slice(clip(self.at)..clip(self.end));
                        if !wanted.is_empty() {
                            self.at += wanted.len() as u64;
                            return Poll::Ready(Some(Ok(wanted)));
                        }
                    }
                    Some(Err(error)) => {
                        let error = TransferError::of_passing(self.digest, error);
                        return self.fail(error);
                    }
                    None => self.feed = Feed::Ended,
                },
                Feed::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Cancel safe.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, TransferError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn fail(&mut self, error: TransferError) -> Poll<Option<Result<Bytes, TransferError>>> {
        self.feed = Feed::Ended;
        // A fill that failed says more than that its writer is gone.
        let why = self.follow.as_ref().and_then(|follow| match (&error, &self.rescue) {
            (TransferError::Storage(gone), Some(rescue)) if matches!(**gone, StorageError::Abandoned { .. }) => {
                follow.fill().failure_for(Some(&rescue.origin))
            }
            _ => None,
        });
        Poll::Ready(Some(Err(why.unwrap_or(error))))
    }
}

/// The store cannot give the bytes, whatever their writer did.
fn is_loss(error: &StorageError) -> bool {
    matches!(error, StorageError::Full { .. } | StorageError::Quarantined { .. } | StorageError::Io { .. })
}

impl Rescue {
    fn open(&self, digest: Digest, len: ByteLen) -> Feed {
        let Self { core, origin, class } = self.clone();
        core.metrics.duplicates.inc();
        Feed::Opening(Box::pin(async move {
            let wanted = Wanted { digest, len: Some(len), origin: None, class };
            let passing = core.pass(&wanted, &origin, Passing::Rescue, None, Box::new(|_| ())).await;
            passing.map(|(_, body)| body)
        }))
    }
}

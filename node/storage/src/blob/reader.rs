use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};
use flotilla_oci::Digest;
use flotilla_runtime::BoxFuture;

use super::{
    StorageError,
    buffers::{Hold, Loan, Out, SMALL_BYTES},
    live::{Blob, Phase, Pin},
    pieces,
    resume::read_at,
    store::Inner,
};

/// Chunk of a blob that grows: what arrives is passed on in smaller parts, and many fills at once stay in less memory.
const GROWING_CHUNK_BYTES: u64 = 256 << 10;
/// Up to here a read of cached bytes is cheaper than a change of threads.
const INLINE_BYTES: u64 = 64 << 10;

/// Reads a blob, sealed or growing. Holds a pin: the blob is not removed while it lives.
///
/// One chunk is read ahead for somebody who takes what is handed out: who drops it before asking for more. Anybody else,
/// and everybody while all readers together hold too much, gets small chunks and nothing ahead.
pub struct BlobReader {
    inner: Arc<Inner>,
    pin: Pin,
    /// Next byte to hand out.
    next: u64,
    /// Next byte to read: `next`, or the end of what is read ahead.
    asked: u64,
    end: u64,
    ahead: Option<Ahead>,
    growth: Option<BoxFuture<'static, ()>>,
    out: Out,
    /// A chunk was handed out.
    begun: bool,
}

enum Ahead {
    Reading(BoxFuture<'static, Result<Bytes, StorageError>>),
    Read(Result<Bytes, StorageError>),
}

enum Next {
    Read { upto: u64, sealed: bool },
    Wait,
    Done,
    Fail(StorageError),
}

impl BlobReader {
    pub(super) fn new(inner: Arc<Inner>, pin: Pin) -> Self {
        let end = pin.blob().len;
        Self { inner, pin, next: 0, asked: 0, end, ahead: None, growth: None, out: Out::default(), begun: false }
    }

    pub fn digest(&self) -> &Digest {
        &self.blob().digest
    }

    /// Of the whole blob, whatever the range.
    pub fn len(&self) -> ByteLen {
        ByteLen(self.blob().len)
    }

    pub fn is_empty(&self) -> bool {
        self.blob().len == 0
    }

    /// Next byte to be handed out: where another source takes over after an error.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Narrows to `range`, cut to the blob's length. Reading begins anew there.
    #[must_use]
    pub fn range(mut self, range: ByteRange) -> Self {
        self.end = range.end.min(self.blob().len);
        self.next = range.start.min(self.end);
        self.asked = self.next;
        self.ahead = None;
        self.growth = None;
        self
    }

    /// Another reader of the same blob, over all of it.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::new(self.inner.clone(), self.pin.clone())
    }

    pub(super) fn blob(&self) -> &Arc<Blob> {
        self.pin.blob()
    }

    /// The next bytes; `None` at the end of the range. After an error there is nothing more.
    ///
    /// Yields [`StorageError::Quarantined`] for a bad piece, and what its writer failed with for a partial.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StorageError>>> {
        loop {
            match self.ahead.take() {
                Some(Ahead::Reading(mut reading)) => match reading.as_mut().poll(cx) {
                    Poll::Ready(read) => self.ahead = Some(Ahead::Read(read)),
                    Poll::Pending => {
                        self.ahead = Some(Ahead::Reading(reading));
                        return Poll::Pending;
                    }
                },
                Some(Ahead::Read(Ok(bytes))) => {
                    self.next = self.asked;
                    self.read_ahead(cx);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Ahead::Read(Err(error))) => return self.fail(error),
                None => match self.plan() {
                    Next::Read { upto, sealed } => {
                        let loan = if self.out.count() == 0 { self.lend(upto) } else { None };
                        let upto = if loan.is_some() { upto } else { upto.min(self.asked + SMALL_BYTES) };
                        self.read(upto, sealed, loan, cx);
                    }
                    Next::Done => return Poll::Ready(None),
                    Next::Fail(error) => return self.fail(error),
                    Next::Wait => std::task::ready!(self.wait(cx)),
                },
            }
        }
    }

    /// Cancel safe.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, StorageError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn fail(&mut self, error: StorageError) -> Poll<Option<Result<Bytes, StorageError>>> {
        self.end = self.next;
        self.asked = self.next;
        Poll::Ready(Some(Err(error)))
    }

    fn plan(&self) -> Next {
        if self.asked >= self.end {
            return Next::Done;
        }
        match &*self.blob().phase.borrow() {
            Phase::Failed(error) => Next::Fail(error.clone()),
            Phase::Sealed => Next::Read { upto: pieces::end_of(self.asked, self.end), sealed: true },
            Phase::Growing { readable } if *readable > self.asked => {
                let upto = self.end.min(*readable).min(self.asked + GROWING_CHUNK_BYTES);
                Next::Read { upto, sealed: false }
            }
            Phase::Growing { .. } => Next::Wait,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (blob, asked) = (self.blob().clone(), self.asked);
        let growth = self.growth.get_or_insert_with(|| {
            Box::pin(async move {
                let mut phase = blob.phase.subscribe();
                let moved = |phase: &Phase| !matches!(phase, Phase::Growing { readable } if *readable <= asked);
                // The sender is in the blob, which this future holds.
                let _ = phase.wait_for(moved).await;
            })
        });
        std::task::ready!(growth.as_mut().poll(cx));
        self.growth = None;
        Poll::Ready(())
    }

    /// When all that is out is the chunk that leaves now: those before it were taken, so it will be too.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        let is_taken = std::mem::replace(&mut self.begun, true) && self.out.count() == 1;
        if is_taken
            && let Next::Read { upto, sealed } = self.plan()
            && let Some(loan) = self.lend(upto)
        {
            self.read(upto, sealed, Some(loan), cx);
        }
    }

    fn lend(&self, upto: u64) -> Option<Loan> {
        let len = upto - self.asked;
        if len > SMALL_BYTES { self.inner.buffers.lend(len) } else { None }
    }

    fn read(&mut self, upto: u64, sealed: bool, loan: Option<Loan>, cx: &mut Context<'_>) {
        let from = std::mem::replace(&mut self.asked, upto);
        let mut hold = self.out.hold(loan);
        if sealed {
            match read_inline(&self.inner, self.blob(), from, upto, hold) {
                Ok(bytes) => {
                    self.ahead = Some(Ahead::Read(Ok(bytes)));
                    return;
                }
                Err(unused) => hold = unused,
            }
        }
        let (inner, blob, blocking) = (self.inner.clone(), self.blob().clone(), self.inner.host.blocking);
        let mut reading: BoxFuture<'static, _> = Box::pin(blocking.run(move || match sealed {
            true => read_sealed(&inner, &blob, from, upto, hold),
            false => read_growing(&inner, &blob, from, upto, hold),
        }));
        // Begins it: the pool hears of the work at the first poll.
        self.ahead = Some(match reading.as_mut().poll(cx) {
            Poll::Ready(read) => Ahead::Read(read),
            Poll::Pending => Ahead::Reading(reading),
        });
    }
}

fn cut_short() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}

fn read_exact(blob: &Blob, from: u64, into: &mut [u8]) -> std::io::Result<()> {
    if read_at(&*blob.file, from, into)? < into.len() { Err(cut_short()) } else { Ok(()) }
}

/// Short, verified and in the page cache: on the spot. Gives back `hold` otherwise.
fn read_inline(inner: &Inner, blob: &Blob, from: u64, upto: u64, hold: Hold) -> Result<Bytes, Hold> {
    let due = blob.pieces.get().is_none_or(|pieces| pieces.is_due(from, inner.now_s(), inner.verify_interval_s()));
    if due || upto - from > INLINE_BYTES {
        return Err(hold);
    }
    let len = (upto - from) as usize;
    let mut buffer = inner.buffers.get(len);
    match blob.file.read_cached(from, buffer.as_mut()) {
        Ok(Some(read)) if read == len => Ok(buffer.hand_out(0..len, hold)),
        _ => Err(hold),
    }
}

fn read_growing(inner: &Inner, blob: &Blob, from: u64, upto: u64, hold: Hold) -> Result<Bytes, StorageError> {
    let len = (upto - from) as usize;
    let mut buffer = inner.buffers.get(len);
    read_exact(blob, from, buffer.as_mut()).map_err(|source| StorageError::Io {
        operation: "read",
        path: inner.layout.partial(&blob.digest).data,
        source: Arc::new(source),
    })?;
    Ok(buffer.hand_out(0..len, hold))
}

/// `from..upto` lies within one piece.
fn read_sealed(inner: &Arc<Inner>, blob: &Arc<Blob>, from: u64, upto: u64, hold: Hold) -> Result<Bytes, StorageError> {
    let now_s = inner.now_s();
    let pieces = blob.pieces.get();
    let due = pieces.is_none_or(|pieces| pieces.is_due(from, now_s, inner.verify_interval_s()));
    // What is due is hashed as the piece that it belongs to.
    let start = if due { from - from % pieces::PIECE_BYTES } else { from };
    let end = if due { pieces::end_of(start, blob.len) } else { upto };
    let mut buffer = inner.buffers.get((end - start) as usize);
    let read = read_exact(blob, start, buffer.as_mut()).and_then(|()| {
        let right = !due || pieces.is_some_and(|pieces| pieces.verify(start, blob.len, buffer.as_ref(), now_s));
        if right { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    });
    // A piece that cannot be read is as bad as one with wrong bytes.
    read.map_err(|cause| {
        inner.quarantine(blob, &cause);
        blob.failure().unwrap_or(StorageError::Quarantined { digest: blob.digest })
    })?;
    Ok(buffer.hand_out((from - start) as usize..(upto - start) as usize, hold))
}

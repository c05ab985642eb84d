use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Algorithm, Digest};
use flotilla_runtime::{Blocking, File};
use tokio::sync::watch;

use super::{
    BlobReader, StorageError,
    lane::{Lane, PART_BYTES, Work},
    layout::{Paths, io_error},
    live::{Blob, Pin},
    pieces::{self, HASH_BYTES, HEADER_BYTES, Hash, PieceHasher},
    store::Inner,
};

/// Bytes between two early syncs: the last sync, which a client's last byte does not wait for but its acknowledgement
/// does, has no more than this to write.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// The one writer of a growing blob. Dropping it cuts its readers with an error and keeps what is on disk; the next
/// writer goes on from there.
pub struct PartialWriter {
    pub(super) tenure: Arc<Tenure>,
    pub(super) disk: Lane<DiskWork>,
    pub(super) hash: Lane<HashWork>,
    /// Bytes taken, those of an earlier writer included.
    taken: u64,
    pub(super) finished: bool,
}

/// The right to touch the files of a partial. Held by the writer and by whatever works for it; with the last holder
/// the digest is free for another writer.
pub(super) struct Tenure {
    pub(super) inner: Arc<Inner>,
    pub(super) blob: Arc<Blob>,
    pub(super) paths: Paths,
    pub(super) journal: Arc<dyn File>,
    /// The blob was asked for before its fill began.
    pub(super) comes_back: bool,
    /// Held while a sync runs; what an early one failed with. The kernel reports a failure once.
    sync: Mutex<Option<StorageError>>,
    syncing: AtomicBool,
    pub(super) account: Mutex<Account>,
    _ended: watch::Sender<()>,
}

/// What the tenure owes the store's bookkeeping.
#[derive(Default)]
pub(super) struct Account {
    pub(super) written: u64,
    /// The files are gone, or belong to the sealed blob.
    pub(super) settled: bool,
}

/// Writes, and hashes pieces.
pub(super) struct DiskWork {
    tenure: Arc<Tenure>,
    hasher: PieceHasher,
    offset: u64,
    pub(super) hashes: Vec<Hash>,
    synced: u64,
}

/// Hashes the blob.
pub(super) struct HashWork(pub(super) digest::Context);

impl Work for HashWork {
    fn take(&mut self, bytes: &Bytes) -> Result<(), StorageError> {
        self.0.update(bytes);
        Ok(())
    }
}

impl HashWork {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self(digest::Context::new(match algorithm {
            Algorithm::Sha256 => &digest::SHA256,
            Algorithm::Sha512 => &digest::SHA512,
        }))
    }

    pub(super) fn matches(self, digest: &Digest) -> bool {
        digest.hash() == self.0.finish().as_ref()
    }
}

impl Work for DiskWork {
    fn take(&mut self, bytes: &Bytes) -> Result<(), StorageError> {
        let tenure = self.tenure.clone();
        self.write(&tenure, bytes).map_err(|error| tenure.spoil(error))
    }
}

impl DiskWork {
    pub(super) fn new(tenure: Arc<Tenure>, offset: u64, hashes: Vec<Hash>) -> Self {
        let hasher = PieceHasher::new(offset, tenure.blob.len);
        Self { tenure, hasher, offset, hashes, synced: offset }
    }

    fn write(&mut self, tenure: &Arc<Tenure>, bytes: &[u8]) -> Result<(), StorageError> {
        let blob = &tenure.blob;
        blob.file.write_at(self.offset, bytes).map_err(io_error("write", &tenure.paths.data))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = pieces::end_of(self.offset, blob.len) - self.offset;
            let (piece, after) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.offset += piece.len() as u64;
            rest = after;
            if let Some(hash) = self.hasher.update(piece) {
                let at = HEADER_BYTES + self.hashes.len() * HASH_BYTES;
                self.hashes.push(hash);
                tenure.journal.write_at(at as u64, &hash).map_err(io_error("write", &tenure.paths.pieces))?;
            }
        }
        blob.set_readable(self.offset.min(held_back_from(blob.len)));
        tenure.wrote(self.offset, bytes.len() as u64);
        if self.offset - self.synced >= SYNC_EVERY_BYTES && !tenure.syncing.swap(true, Ordering::AcqRel) {
            self.synced = self.offset;
            let (tenure, blocking) = (tenure.clone(), tenure.inner.host.blocking);
            tenure.inner.host.tasks.clone().spawn("blob sync", async move {
                blocking.run(move || tenure.sync_early()).await;
            });
        }
        Ok(())
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

/// Where the piece begins that readers get only after the digest matched.
pub(super) fn held_back_from(len: u64) -> u64 {
    pieces::count(len).saturating_sub(1).saturating_mul(pieces::PIECE_BYTES)
}

impl Tenure {
    pub(super) fn new(
        inner: Arc<Inner>,
        blob: Arc<Blob>,
        paths: Paths,
        journal: Arc<dyn File>,
        comes_back: bool,
        ended: watch::Sender<()>,
    ) -> Self {
        let (sync, syncing, account) = (Mutex::default(), false.into(), Mutex::default());
        Self { inner, blob, paths, journal, comes_back, sync, syncing, account, _ended: ended }
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `held` bytes are there, `new` of them since the last call.
    pub(super) fn wrote(&self, held: u64, new: u64) {
        self.account().written = held;
        let mut space = self.inner.space();
        space.unwritten_bytes = space.unwritten_bytes.saturating_sub(new);
    }

    fn sync_early(&self) {
        let mut failed = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.sync_files() {
            *failed = Some(error);
        }
        self.syncing.store(false, Ordering::Release);
    }

    /// # Errors
    /// Also when an early sync failed: its pages will not be written again.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        let failed = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failed {
            Some(error) => Err(error.clone()),
            None => self.sync_files(),
        }
    }

    fn sync_files(&self) -> Result<(), StorageError> {
        self.blob.file.sync().map_err(io_error("sync", &self.paths.data))?;
        self.journal.sync().map_err(io_error("sync", &self.paths.pieces))
    }

    /// Cuts the readers with `error` and deletes the partial: nothing will come of its bytes. Blocks.
    pub(super) fn spoil(&self, error: StorageError) -> StorageError {
        let full = error.is_disk_full();
        let error = if full { StorageError::Full { digest: self.blob.digest } } else { error };
        if full {
            self.inner.warn_full();
        }
        self.blob.fail(error.clone());
        let mut account = self.account();
        if !account.settled {
            account.settled = true;
            self.inner.discard(&self.paths);
        }
        error
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        let account = std::mem::take(self.account.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut space = self.inner.space();
        space.promised_bytes = space.promised_bytes.saturating_sub(self.blob.len);
        space.unwritten_bytes = space.unwritten_bytes.saturating_sub(self.blob.len.saturating_sub(account.written));
        if !account.settled {
            space.idle.insert(self.blob.digest, account.written);
        }
        space.report(&self.inner.metrics);
        drop(space);
        self.inner.forget(&self.blob);
    }
}

impl PartialWriter {
    pub(super) fn new(tenure: Arc<Tenure>, hash: HashWork, resumed: u64, hashes: Vec<Hash>) -> Self {
        let host = &tenure.inner.host;
        let lost = StorageError::Abandoned { digest: tenure.blob.digest };
        tenure.blob.set_readable(resumed.min(held_back_from(tenure.blob.len)));
        Self {
            disk: Lane::new(host.clone(), DiskWork::new(tenure.clone(), resumed, hashes), lost.clone()),
            hash: Lane::new(host.clone(), hash, lost),
            tenure,
            taken: resumed,
            finished: false,
        }
    }

    /// First byte that is missing: where an interrupted fill resumes.
    pub fn resume_at(&self) -> u64 {
        self.taken
    }

    /// Of the whole blob, as announced.
    pub fn len(&self) -> ByteLen {
        ByteLen(self.tenure.blob.len)
    }

    pub fn is_empty(&self) -> bool {
        self.tenure.blob.len == 0
    }

    pub fn reader(&self) -> BlobReader {
        // The entry cannot leave the table while the tenure lives.
        BlobReader::new(self.tenure.inner.clone(), Pin::new(&self.tenure.blob))
    }

    /// Appends. Returns when the bytes are queued within a fixed bound; readers see them soon after. After a cut
    /// [`PartialWriter::resume_at`] says how many were taken.
    ///
    /// # Errors
    /// [`StorageError::TooLong`], [`StorageError::Full`], [`StorageError::Io`]: the partial is deleted, readers are cut.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        let blob = &self.tenure.blob;
        if bytes.len() as u64 > blob.len.saturating_sub(self.taken) {
            let error = StorageError::TooLong { digest: blob.digest, len: self.len() };
            return Err(self.spoil(error).await);
        }
        while !bytes.is_empty() {
            self.disk.room().await?;
            self.hash.room().await?;
            // No await from here on: both lanes take the part, or neither.
            let part = bytes.split_to(bytes.len().min(PART_BYTES));
            self.taken += part.len() as u64;
            self.disk.push(part.clone());
            self.hash.push(part);
        }
        Ok(())
    }

    /// Seals the blob once its digest and length match. Goes on to its end when the future is dropped.
    ///
    /// # Errors
    /// [`StorageError::Mismatch`]: partial deleted, readers cut. [`StorageError::Incomplete`]: partial kept.
    pub async fn publish(self) -> Result<BlobReader, StorageError> {
        let digest = self.tenure.blob.digest;
        let (tell, told) = tokio::sync::oneshot::channel();
        let tasks = self.tenure.inner.host.tasks.clone();
        tasks.spawn("blob publish", async move {
            // Nobody may wait for it any more.
            let _ = tell.send(self.seal().await);
        });
        told.await.unwrap_or(Err(StorageError::Abandoned { digest }))
    }

    /// Syncs what is written, so that a later [`super::BlobStore::begin`] resumes there even after loss of power.
    pub async fn abandon(self) {
        if let Ok(work) = self.disk.finish().await {
            let outcome = self.blocking().run(move || work.tenure.sync()).await;
            if let Err(error) = outcome {
                tracing::debug!(%error, "partial was not synced");
            }
        }
    }

    /// Cuts the readers and deletes the partial: nobody else shall go on from these bytes.
    pub async fn discard(self) {
        self.spoil(StorageError::Abandoned { digest: self.tenure.blob.digest }).await;
    }

    pub(super) fn blocking(&self) -> Blocking {
        self.tenure.inner.host.blocking
    }

    pub(super) async fn spoil(&self, error: StorageError) -> StorageError {
        let tenure = self.tenure.clone();
        self.blocking().run(move || tenure.spoil(error)).await
    }
}

impl Drop for PartialWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.tenure.blob.fail(StorageError::Abandoned { digest: self.tenure.blob.digest });
        }
        self.disk.close();
        self.hash.close();
    }
}

//! The store of blobs, and the rules that all of it keeps.
//!
//! A blob is **absent**, **growing** (one writer in this process, its bytes in `partial/`), or **sealed** (in
//! `sealed/`). What the disk says is the truth; the table in memory is a cache of open files and the place where
//! readers meet the writer.
//!
//! Two digests: OCI asks for sha256 (or sha512), which is known only when the last byte came; pieces are verified by
//! BLAKE3. Invariant: the last piece of a growing blob is not readable before the digest and the length matched. On
//! mismatch readers are cut short, never ended cleanly, and the partial is deleted.
//!
//! Publishing, in this order:
//! 1. digest and length match: the last piece is released, the bytes are right whatever happens to the disk;
//! 2. the root goes into the journal, which is the outboard from then on;
//! 3. data, then outboard are synced: no name may lead to bytes that a loss of power takes away;
//! 4. the outboard is renamed, then the data, whose name alone says "sealed". A crash in between leaves an outboard
//!    without blob, which the next start removes, or (the disk may order renames as it likes) a blob without outboard,
//!    which is made again from bytes that match the digest;
//! 5. the folder is synced: from here on a caller may count on the blob.
//!
//! A crash before 5 leaves a partial that is resumed after each piece was hashed again, the sealed blob, or nothing.
//! Removing goes the other way: data first.
//!
//! Locks, all of them short or held in the blocking pool only: a *stripe* of the digest orders what changes its files
//! (load, begin, rename, quarantine, remove); inside it the *table*; inside that nothing. A find that hits the table
//! takes no stripe. Writers' long work (re-hashing a prefix) runs outside of both, under their tenure. Making room is
//! done by one at a time, outside of all stripes; what `space` and `uses` lock is one change each, inside anything.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_base::ByteLen;
use flotilla_oci::Digest;
use flotilla_runtime::Host;
use prometheus_client::registry::Registry;
use tokio::{sync::watch, time::Instant};

use super::{
    BlobReader, PartialWriter, StorageError,
    buffers::Buffers,
    error::is_damage,
    evict::{Evictable, Evicted},
    layout::{self, Layout, io_error},
    live::{Blob, Phase, Pin},
    marks::{self, Marks},
    pieces::{self, Pieces},
    resume,
    space::Space,
    table::Table,
    uses::Uses,
};
use crate::metrics::Metrics;

/// Digests that change at once without waiting for each other by chance.
const STRIPES: usize = 64;
/// How long a new writer waits for the last write of an old one.
const TENURE_END: Duration = Duration::from_secs(5);
const WARN_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct BlobConfig {
    /// Folder of the blobs; made when absent.
    pub dir: PathBuf,
    /// Most bytes of blobs: sealed, partial and quarantined.
    pub max_bytes: ByteLen,
    /// Free space of the file system that is left to others.
    pub reserve: ByteLen,
    /// How long a verified piece is trusted without being hashed again.
    pub verify_interval: Duration,
    /// Uses of a blob within this time are one.
    pub reuse_after: Duration,
}

/// What this node's disk says about a blob.
pub enum Found {
    Sealed(BlobReader),
    /// A writer of it lives in this process.
    Partial(BlobReader),
    Absent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobUsage {
    /// Sealed, partial and quarantined, with what living writers still may write.
    pub used: ByteLen,
    pub max: ByteLen,
    /// Free on the file system when it was last asked: at each begin, publish and remove.
    pub free: ByteLen,
    /// Sealed blobs.
    pub blobs: u64,
    /// Blobs set aside because a piece was bad.
    pub quarantined: u64,
}

/// Content-addressed files. Clones share one store.
#[derive(Clone)]
pub struct BlobStore(Arc<Inner>);

pub(super) struct Inner {
    pub(super) host: Host,
    pub(super) config: BlobConfig,
    pub(super) layout: Layout,
    pub(super) metrics: Metrics,
    pub(super) buffers: Buffers,
    table: Mutex<Table>,
    stripes: [Mutex<()>; STRIPES],
    space: Mutex<Space>,
    uses: Mutex<Uses>,
    marks: Mutex<Marks>,
    pub(super) evictable: Arc<dyn Evictable>,
    making_room: Mutex<()>,
    looked_at_kept: Mutex<Instant>,
    evicted: Mutex<Evicted>,
    warned: Mutex<Option<Instant>>,
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

impl BlobStore {
    /// Makes the folders, sums what is there, removes what a crash left without use. Partials stay for resuming.
    /// `evictable` is asked before a blob goes to make room for another.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn open(
        host: Host,
        config: BlobConfig,
        evictable: Arc<dyn Evictable>,
        registry: &mut Registry,
    ) -> Result<Self, StorageError> {
        let metrics = Metrics::register(registry);
        let blocking = host.blocking;
        let inner = blocking.run(move || Inner::open(host, config, evictable, metrics)).await?;
        Ok(Self(Arc::new(inner)))
    }

    /// What there is of `digest`, pinned, for somebody who will read it: a sealed blob counts as used.
    ///
    /// # Errors
    /// Those of the disk; a blob that is not there is [`Found::Absent`].
    pub async fn find(&self, digest: &Digest) -> Result<Found, StorageError> {
        let found = self.look(digest).await?;
        if let Found::Sealed(reader) = &found {
            self.0.note_use(reader.blob());
        }
        Ok(found)
    }

    /// As [`BlobStore::find`], for somebody who only wants to know: nothing is counted.
    ///
    /// # Errors
    /// As [`BlobStore::find`].
    pub async fn look(&self, digest: &Digest) -> Result<Found, StorageError> {
        if let Some(found) = self.0.lookup(digest) {
            return Ok(found);
        }
        let (inner, digest) = (self.0.clone(), *digest);
        self.0.host.blocking.run(move || inner.load(&digest)).await
    }

    /// Starts a partial of `len` bytes, or takes up what an earlier one left, hashed again (about 1 GB/s). When there is
    /// no room, cached blobs go that were used less than this one is asked for (see `uses`).
    ///
    /// # Errors
    /// [`StorageError::Full`], [`StorageError::Busy`], [`StorageError::Sealed`], and those of the disk.
    pub async fn begin(&self, digest: &Digest, len: ByteLen) -> Result<PartialWriter, StorageError> {
        // A writer that was dropped just now may have its last write in flight.
        let former = self.0.tenure_of(digest);
        if let Some(mut former) = former
            && tokio::time::timeout(TENURE_END, former.changed()).await.is_err()
        {
            return Err(StorageError::Busy { digest: *digest });
        }
        let (inner, digest) = (self.0.clone(), *digest);
        self.0.host.blocking.run(move || inner.begin(digest, len.0)).await
    }

    /// Removes a sealed blob; nothing when there is none. Durable on return.
    ///
    /// # Errors
    /// [`StorageError::Pinned`] while readers hold it, [`StorageError::Busy`] while it grows.
    pub async fn remove(&self, digest: &Digest) -> Result<(), StorageError> {
        let (inner, digest) = (self.0.clone(), *digest);
        self.0.host.blocking.run(move || inner.remove(&digest)).await
    }

    pub fn usage(&self) -> BlobUsage {
        let space = self.0.space();
        BlobUsage {
            used: ByteLen(space.used_bytes()),
            max: self.0.config.max_bytes,
            free: ByteLen(space.free_bytes),
            blobs: space.blobs,
            quarantined: space.quarantined,
        }
    }
}

impl Inner {
    fn open(
        host: Host,
        config: BlobConfig,
        evictable: Arc<dyn Evictable>,
        metrics: Metrics,
    ) -> Result<Self, StorageError> {
        let layout = Layout::new(config.dir.clone());
        let now = host.clock.now();
        let mut uses = Uses::new(seconds(config.reuse_after));
        let mut found = Vec::new();
        let space = Space::new(layout.open(&*host.disk, |digest, stat| {
            let (twice, used_s) = marks::read(stat, now);
            found.push((digest, stat.len_bytes, twice, used_s));
        })?);
        uses.load(found);
        metrics.set_protected(uses.protected_bytes());
        let inner = Self {
            host,
            config,
            layout,
            metrics,
            buffers: Buffers::default(),
            table: Mutex::default(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            space: Mutex::new(space),
            uses: Mutex::new(uses),
            marks: Mutex::default(),
            evictable,
            making_room: Mutex::default(),
            looked_at_kept: Mutex::new(Instant::now()),
            evicted: Mutex::default(),
            warned: Mutex::default(),
            started: Instant::now(),
        };
        inner.refresh_free();
        Ok(inner)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(super) fn space(&self) -> MutexGuard<'_, Space> {
        lock(&self.space)
    }

    pub(super) fn uses(&self) -> MutexGuard<'_, Uses> {
        lock(&self.uses)
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        lock(&self.marks)
    }

    pub(super) fn making_room(&self) -> MutexGuard<'_, ()> {
        lock(&self.making_room)
    }

    pub(super) fn looked_at_kept(&self) -> MutexGuard<'_, Instant> {
        lock(&self.looked_at_kept)
    }

    pub(super) fn evicted(&self) -> MutexGuard<'_, Evicted> {
        lock(&self.evicted)
    }

    pub(super) fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let byte = digest.hash().first().copied().unwrap_or_default();
        lock(&self.stripes[usize::from(byte) % STRIPES])
    }

    /// Seconds since the store was opened, from 1 on.
    pub(super) fn now_s(&self) -> u32 {
        seconds(self.started.elapsed()).saturating_add(1)
    }

    pub(super) fn verify_interval_s(&self) -> u32 {
        seconds(self.config.verify_interval).max(1)
    }

    pub(super) fn window_s(&self) -> u32 {
        seconds(self.config.reuse_after)
    }

    /// Asks the file system, and tells the metrics.
    pub(super) fn refresh_free(&self) {
        let usage = self.host.disk.usage(self.layout.dir());
        let mut space = self.space();
        match usage {
            Ok(usage) => space.free_bytes = usage.free_bytes,
            Err(error) => tracing::debug!(%error, "file system was not measured"),
        }
        space.report(&self.metrics);
    }

    pub(super) fn warn_full(&self) {
        let mut warned = lock(&self.warned);
        if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(dir = %self.layout.dir().display(), "no room for blobs, they are passed through");
        }
    }

    fn found(self: &Arc<Self>, blob: &Arc<Blob>) -> Option<Found> {
        let reader = || BlobReader::new(self.clone(), Pin::new(blob));
        match &*blob.phase.borrow() {
            Phase::Growing { .. } => Some(Found::Partial(reader())),
            Phase::Sealed => Some(Found::Sealed(reader())),
            Phase::Failed(_) => None,
        }
    }

    fn lookup(self: &Arc<Self>, digest: &Digest) -> Option<Found> {
        let mut table = self.table();
        self.found(table.touch(digest)?)
    }

    fn load(self: &Arc<Self>, digest: &Digest) -> Result<Found, StorageError> {
        let _stripe = self.stripe(digest);
        if let Some(found) = self.lookup(digest) {
            return Ok(found);
        }
        let paths = self.layout.sealed(digest);
        let disk = &*self.host.disk;
        if self.set_aside_known(digest).unwrap_or(true) {
            return Ok(Found::Absent);
        }
        let (file, len) = match disk.open(&paths.data).and_then(|file| Ok((file.clone(), file.len()?))) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Absent),
            Err(error) if is_damage(&error) => {
                let len_bytes = disk.stat(&paths.data).map_or(0, |stat| stat.len_bytes);
                // A blob that stays is absent all the same.
                let _ = self.set_aside(digest, len_bytes, "it cannot be opened");
                return Ok(Found::Absent);
            }
            Err(error) => return Err(io_error("open", &paths.data)(error)),
        };
        let outboard = resume::read_pieces(disk, &paths)?;
        let hashes = match outboard.and_then(|content| pieces::parse_outboard(&content, len)) {
            Some(hashes) => hashes,
            None => match self.rebuild(digest, len, &*file, &paths)? {
                Some(hashes) => hashes,
                None => return Ok(Found::Absent),
            },
        };
        let blob = Arc::new(Blob::sealed(*digest, len, file, Pieces::new(hashes, 0)));
        // Pinned before it is shown: the table may close what nobody reads.
        let found = self.found(&blob).unwrap_or(Found::Absent);
        self.table().insert(blob);
        Ok(found)
    }

    fn tenure_of(&self, digest: &Digest) -> Option<watch::Receiver<()>> {
        let table = self.table();
        let blob = table.get(digest).filter(|blob| blob.failure().is_some())?;
        blob.tenure.clone()
    }

    /// Deletes a partial that nobody will take up.
    pub(super) fn discard(&self, paths: &layout::Paths) {
        for path in [&paths.data, &paths.pieces] {
            if let Err(error) = layout::remove(&*self.host.disk, path) {
                tracing::warn!(path = %path.display(), %error, "partial was not deleted");
            }
        }
    }

    fn remove(&self, digest: &Digest) -> Result<(), StorageError> {
        let _stripe = self.stripe(digest);
        {
            let mut table = self.table();
            match table.get(digest) {
                Some(blob) if blob.tenure.is_some() && !blob.is_sealed() => {
                    return Err(StorageError::Busy { digest: *digest });
                }
                Some(blob) if blob.is_pinned() => return Err(StorageError::Pinned { digest: *digest }),
                _ => {}
            }
            table.remove(digest);
        }
        if self.unlink(digest)?.is_none() {
            return Ok(());
        }
        self.uses().remove(digest);
        let shard = self.layout.shard(digest);
        self.host.disk.sync_dir(&shard).map_err(io_error("sync", &shard))?;
        self.refresh_free();
        Ok(())
    }

    /// Removes the files of a sealed blob, data first; its length, or `None` when it was not there. Under the stripe,
    /// and when the table does not have it.
    ///
    /// # Errors
    /// Those of the disk; the blob may be gone, and its outboard there.
    pub(super) fn unlink(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let disk = &*self.host.disk;
        let paths = self.layout.sealed(digest);
        let Ok(stat) = disk.stat(&paths.data) else { return Ok(None) };
        layout::remove(disk, &paths.data)?;
        self.table().bad.remove(digest);
        {
            let mut space = self.space();
            space.sealed_bytes = space.sealed_bytes.saturating_sub(stat.len_bytes);
            space.blobs = space.blobs.saturating_sub(1);
        }
        layout::remove(disk, &paths.pieces)?;
        Ok(Some(stat.len_bytes))
    }

    /// The end of a writer's tenure: the entry goes, unless it is a sealed blob by now.
    pub(super) fn forget(&self, blob: &Arc<Blob>) {
        if blob.is_sealed() {
            self.table().trim();
        } else {
            self.table().remove_this(blob);
        }
    }
}

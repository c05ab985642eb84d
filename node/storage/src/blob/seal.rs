//! From the last byte to a sealed blob: see `store` for the order and what each step buys.

use std::sync::Arc;

use flotilla_base::ByteLen;

use super::{
    BlobReader, PartialWriter, StorageError, layout,
    layout::io_error,
    live::{Phase, Pin},
    partial::Tenure,
    pieces::{self, Hash, Pieces},
};

impl PartialWriter {
    pub(super) async fn seal(mut self) -> Result<BlobReader, StorageError> {
        let disk = self.disk.finish().await?;
        let hash = self.hash.finish().await?;
        let blob = self.tenure.blob.clone();
        let (digest, len) = (blob.digest, ByteLen(blob.len));
        if disk.offset() != blob.len {
            return Err(StorageError::Incomplete { digest, have: ByteLen(disk.offset()), len });
        }
        if !hash.matches(&digest) {
            return Err(self.spoil(StorageError::Mismatch { digest }).await);
        }
        // The bytes are proven, whatever the disk makes of them now: readers need not wait for it.
        blob.set_readable(blob.len);
        let tenure = self.tenure.clone();
        let outcome = self.blocking().run(move || tenure.publish(disk.hashes)).await;
        self.finished = outcome.is_ok();
        outcome
    }
}

impl Tenure {
    fn publish(self: Arc<Self>, hashes: Vec<Hash>) -> Result<BlobReader, StorageError> {
        match self.place(&hashes) {
            Ok(()) => {}
            Err(error) => return Err(self.spoil(error)),
        }
        let now_s = self.inner.now_s();
        // Its pieces were hashed on their way to the disk, which counts as their first verification.
        let _ = self.blob.pieces.set(Pieces::new(hashes, now_s));
        {
            self.account().settled = true;
            let mut space = self.inner.space();
            space.sealed_bytes = space.sealed_bytes.saturating_add(self.blob.len);
            space.blobs += 1;
        }
        self.inner.note_sealed(&self.blob, self.comes_back);
        self.blob.phase.send_replace(Phase::Sealed);
        self.inner.refresh_free();
        Ok(BlobReader::new(self.inner.clone(), Pin::new(&self.blob)))
    }

    fn place(&self, hashes: &[Hash]) -> Result<(), StorageError> {
        let disk = &*self.inner.host.disk;
        let header = pieces::header(self.blob.len, Some(&pieces::root(hashes)));
        self.journal.write_at(0, &header).map_err(io_error("write", &self.paths.pieces))?;
        self.sync()?;
        let to = self.inner.layout.sealed(&self.blob.digest);
        let shard = self.inner.layout.shard(&self.blob.digest);
        let _stripe = self.inner.stripe(&self.blob.digest);
        let placed = (|| {
            disk.create_dir(&shard).map_err(io_error("create", &shard))?;
            disk.rename(&self.paths.pieces, &to.pieces).map_err(io_error("rename", &self.paths.pieces))?;
            disk.rename(&self.paths.data, &to.data).map_err(io_error("rename", &self.paths.data))?;
            disk.sync_dir(&shard).map_err(io_error("sync", &shard))
        })();
        if placed.is_err() {
            // Whatever of it is there, nobody was told: the next fill begins anew.
            for path in [&to.data, &to.pieces] {
                if let Err(error) = layout::remove(disk, path) {
                    tracing::warn!(path = %path.display(), %error, "unpublished blob was not deleted");
                }
            }
        }
        placed
    }
}

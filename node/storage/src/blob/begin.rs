//! How a blob begins to grow: room for it, its partial, and what an earlier writer left of that.

use std::sync::Arc;

use flotilla_oci::Digest;
use tokio::sync::watch;

use super::{
    PartialWriter, StorageError,
    layout::{Paths, io_error},
    live::Blob,
    partial::Tenure,
    resume,
    store::Inner,
};

impl Inner {
    /// Counts the blob, makes room for it, and takes up what an earlier writer left.
    pub(super) fn begin(self: &Arc<Self>, digest: Digest, len: u64) -> Result<PartialWriter, StorageError> {
        {
            let _stripe = self.stripe(&digest);
            self.wanting(&digest)?;
        }
        let comes_back = self.uses().comes_back(&digest, self.uses_now_s());
        let room = self.make_room(&digest, len, comes_back)?;
        let usage = room.usage;
        let stripe = self.stripe(&digest);
        self.wanting(&digest)?;
        let paths = self.layout.partial(&digest);
        let former = {
            let mut space = self.space();
            space.free_bytes = usage.free_bytes;
            let held = space.idle.get(&digest).copied();
            if !space.fits(&self.config, usage, len, held.unwrap_or(0)) {
                drop(space);
                self.turn_away(&digest, len, room.refused);
                return Err(StorageError::Full { digest });
            }
            space.promised_bytes = space.promised_bytes.saturating_add(len);
            space.unwritten_bytes = space.unwritten_bytes.saturating_add(len);
            space.idle.remove(&digest)
        };
        drop(room);
        let opened = self.open_partial(&paths, former.is_some());
        let (data, journal, content) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let mut space = self.space();
                space.promised_bytes = space.promised_bytes.saturating_sub(len);
                space.unwritten_bytes = space.unwritten_bytes.saturating_sub(len);
                match former {
                    // What is left of it is taken up another time, or makes room.
                    Some(held) => drop(space.idle.insert(digest, held)),
                    None => {
                        drop(space);
                        self.discard(&paths);
                    }
                }
                if error.is_disk_full() {
                    self.warn_full();
                    return Err(StorageError::Full { digest });
                }
                return Err(error);
            }
        };
        let (ended, tenure_end) = watch::channel(());
        let blob = Arc::new(Blob::growing(digest, len, data, tenure_end));
        self.table().insert(blob.clone());
        let tenure = Arc::new(Tenure::new(self.clone(), blob.clone(), paths, journal, comes_back, ended));
        drop(stripe);
        // From here on the tenure settles the account, whatever happens.
        let prefix = resume::take_up(&*blob.file, &*tenure.journal, &tenure.paths, &digest, len, &content);
        let prefix = prefix.map_err(|error| tenure.spoil(error))?;
        tenure.wrote(prefix.bytes, prefix.bytes);
        self.space().report(&self.metrics);
        Ok(PartialWriter::new(tenure, prefix.hash, prefix.bytes, prefix.hashes))
    }

    #[expect(clippy::type_complexity, reason = "two files and a content, taken apart at once")]
    fn open_partial(
        &self,
        paths: &Paths,
        former: bool,
    ) -> Result<(Arc<dyn flotilla_runtime::File>, Arc<dyn flotilla_runtime::File>, Vec<u8>), StorageError> {
        let disk = &*self.host.disk;
        if former
            && let Some(content) = resume::read_pieces(disk, paths)?
            && let (Ok(data), Ok(journal)) = (disk.open(&paths.data), disk.open(&paths.pieces))
        {
            return Ok((data, journal, content));
        }
        let data = disk.create(&paths.data).map_err(io_error("create", &paths.data))?;
        let journal = disk.create(&paths.pieces).map_err(io_error("create", &paths.pieces))?;
        let folder = self.layout.partials();
        // The names, so that what is synced early can be resumed after a loss of power.
        disk.sync_dir(&folder).map_err(io_error("sync", &folder))?;
        Ok((data, journal, Vec::new()))
    }

    /// Under the stripe.
    ///
    /// # Errors
    /// It is sealed, or somebody writes it.
    fn wanting(&self, digest: &Digest) -> Result<(), StorageError> {
        let digest = *digest;
        match self.table().get(&digest) {
            Some(blob) if blob.is_sealed() => return Err(StorageError::Sealed { digest }),
            Some(blob) if blob.tenure.is_some() => return Err(StorageError::Busy { digest }),
            _ => {}
        }
        self.set_aside_known(&digest)?;
        match self.host.disk.stat(&self.layout.sealed(&digest).data) {
            Ok(_) => Err(StorageError::Sealed { digest }),
            Err(_) => Ok(()),
        }
    }

    fn turn_away(&self, digest: &Digest, len: u64, refused: bool) {
        if len <= self.config.max_bytes.0 {
            self.uses().turned_away(digest, self.uses_now_s());
        }
        if refused {
            self.metrics.admission_refused.inc();
        } else {
            self.warn_full();
        }
    }
}

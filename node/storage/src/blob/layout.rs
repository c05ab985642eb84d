//! Where things lie: `sealed/<2 hex digits>/<algorithm>-<hex>` with the outboard beside it as `….pieces`, the same
//! names flat in `partial/` and `quarantine/`. 256 folders keep a million blobs at 8,000 names each.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_oci::{Algorithm, Digest};
use flotilla_runtime::{Disk, Stat};

use super::StorageError;

const PIECES: &str = "pieces";

pub(super) struct Layout {
    dir: PathBuf,
}

/// The two files of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) data: PathBuf,
    pub(super) pieces: PathBuf,
}

/// What lies on the disk at a start.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) blobs: u64,
    pub(super) sealed_bytes: u64,
    pub(super) partials: Vec<(Digest, u64)>,
    pub(super) quarantined: u64,
    pub(super) quarantined_bytes: u64,
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let path = path.to_owned();
    move |source| StorageError::Io { operation, path, source: Arc::new(source) }
}

fn name(digest: &Digest) -> String {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    format!("{algorithm}-{}", digest.hex())
}

fn parse(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()
}

/// Whether there was something to remove.
///
/// # Errors
/// Those of the disk, but for an absent file.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<bool, StorageError> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

impl Paths {
    fn new(folder: &Path, digest: &Digest) -> Self {
        let data = folder.join(name(digest));
        Self { pieces: data.with_extension(PIECES), data }
    }
}

impl Layout {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn shard(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sealed").join(&digest.hex()[..2])
    }

    pub(super) fn sealed(&self, digest: &Digest) -> Paths {
        Paths::new(&self.shard(digest), digest)
    }

    pub(super) fn partials(&self) -> PathBuf {
        self.dir.join("partial")
    }

    pub(super) fn partial(&self, digest: &Digest) -> Paths {
        Paths::new(&self.partials(), digest)
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    pub(super) fn quarantined(&self, digest: &Digest) -> PathBuf {
        self.quarantine().join(name(digest))
    }

    fn shards(&self) -> impl Iterator<Item = PathBuf> {
        let sealed = self.dir.join("sealed");
        (0..=u8::MAX).map(move |shard| sealed.join(format!("{shard:02x}")))
    }

    /// Makes the folders, counts what is there, and removes what a crash left without use: an outboard without its
    /// blob, half of a partial, a temporary file. One folder's names are in memory at a time; `sealed` is told of each
    /// blob.
    pub(super) fn open(
        &self,
        disk: &dyn Disk,
        mut sealed: impl FnMut(Digest, Stat),
    ) -> Result<Inventory, StorageError> {
        let mut inventory = Inventory::default();
        let stat = |path: &Path| disk.stat(path).map_err(io_error("examine", path));
        let len = |path: &Path| stat(path).map(|stat| stat.len_bytes);
        // The folders of `sealed` come with their first blob: 256 of them, each synced, would slow a first start.
        for folder in [self.dir.join("sealed"), self.partials(), self.quarantine()] {
            disk.create_dir(&folder).map_err(io_error("create", &folder))?;
        }
        for folder in self.shards() {
            for (digest, path) in self.whole_blobs(disk, &folder, false)? {
                let found = stat(&path)?;
                inventory.blobs += 1;
                inventory.sealed_bytes += found.len_bytes;
                sealed(digest, found);
            }
        }
        for (digest, path) in self.whole_blobs(disk, &self.partials(), true)? {
            inventory.partials.push((digest, len(&path)?));
        }
        for path in disk.list(&self.quarantine()).map_err(io_error("list", &self.quarantine()))? {
            inventory.quarantined += 1;
            inventory.quarantined_bytes += len(&path)?;
        }
        Ok(inventory)
    }

    /// The blobs in `folder`; what belongs to none is removed, and blobs without pieces too when they `need` them: a
    /// sealed one gets its outboard back from its bytes, a partial is nothing without its journal.
    fn whole_blobs(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        need_pieces: bool,
    ) -> Result<Vec<(Digest, PathBuf)>, StorageError> {
        let names: BTreeSet<PathBuf> = match disk.list(folder) {
            Ok(names) => names.into_iter().collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(io_error("list", folder)(error)),
        };
        let mut blobs = Vec::new();
        for path in &names {
            let wanted = match (path.extension().is_some_and(|extension| extension == PIECES), parse(path)) {
                (true, _) => names.contains(&path.with_extension("")),
                (false, Some(digest)) if !need_pieces || names.contains(&path.with_extension(PIECES)) => {
                    blobs.push((digest, path.clone()));
                    true
                }
                _ => false,
            };
            if !wanted {
                tracing::info!(path = %path.display(), "stale file removed");
                remove(disk, path)?;
            }
        }
        Ok(blobs)
    }
}

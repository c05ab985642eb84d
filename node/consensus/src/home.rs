//! Where the applied state lies: one store per generation. An installed snapshot is a new generation, so that the switch is
//! one small file and readers of the old one go on until they are done.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use flotilla_base::store::{Batch, Row, Rows, Store, StoreError, Table};
use flotilla_storage::Sled;

use crate::StartError;

/// The seam between sled and a test's memory. Everything blocks.
pub(crate) trait Home: Send + Sync + 'static {
    /// Opens or creates.
    fn open(&self, generation: u64) -> Result<Arc<dyn Store>, StoreError>;
    /// Those that are there, unordered.
    fn generations(&self) -> io::Result<Vec<u64>>;
    fn discard(&self, generation: u64) -> io::Result<()>;
    /// Keeps a damaged one out of the way for who wants to look into it; an earlier one goes.
    fn set_aside(&self, generation: u64) -> io::Result<PathBuf>;
}

pub(crate) struct SledHome {
    dir: PathBuf,
    /// Held while any generation lives: a store that is open elsewhere must not be taken for a damaged one.
    _lock: fs::File,
}

impl SledHome {
    pub(crate) fn open(dir: &Path) -> Result<Self, StartError> {
        let io = |operation| move |source| StartError::Io { operation, path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io("create"))?;
        let lock = fs::File::options().write(true).create(true).truncate(false).open(dir.join("lock"));
        let lock = lock.map_err(io("open the lock in"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(io("lock")(source)),
        }
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.dir.join(generation.to_string())
    }
}

impl Home for SledHome {
    fn open(&self, generation: u64) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(Sled::open(&self.path(generation))?))
    }

    fn generations(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(generation) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                found.push(generation);
            }
        }
        Ok(found)
    }

    fn discard(&self, generation: u64) -> io::Result<()> {
        fs::remove_dir_all(self.path(generation))
    }

    #[expect(clippy::disallowed_methods, reason = "a folder, which Disk does not know; what is set aside may be lost")]
    fn set_aside(&self, generation: u64) -> io::Result<PathBuf> {
        let aside = self.dir.join("damaged");
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(self.path(generation), &aside)?;
        Ok(aside)
    }
}

/// One generation's store. After another has taken its place its folder goes with the last reader.
pub(crate) struct Generation {
    // Closed before its folder is removed: fields are dropped in this order.
    store: Arc<dyn Store>,
    folder: Folder,
}

struct Folder {
    number: u64,
    home: Arc<dyn Home>,
    superseded: AtomicBool,
}

impl Generation {
    pub(crate) fn open(home: Arc<dyn Home>, number: u64) -> Result<Arc<Self>, StoreError> {
        let store = home.open(number)?;
        Ok(Arc::new(Self { store, folder: Folder { number, home, superseded: AtomicBool::new(false) } }))
    }

    pub(crate) fn number(&self) -> u64 {
        self.folder.number
    }

    pub(crate) fn supersede(&self) {
        self.folder.superseded.store(true, Ordering::Relaxed);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Relaxed)
            && let Err(error) = self.home.discard(self.number)
        {
            tracing::warn!(generation = self.number, %error, "an old state could not be removed; the next start will try");
        }
    }
}

impl Rows for Generation {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(table, key)
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.page(table, from, limit)
    }
}

impl Store for Generation {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.write(batch)
    }

    fn durable(&self) -> Result<(), StoreError> {
        self.store.durable()
    }

    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError> {
        self.store.freeze()
    }
}

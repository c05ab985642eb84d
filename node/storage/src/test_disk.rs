//! A disk of tests with the faults that [`MemoryDisk`] does not have, around one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use flotilla_base::Timestamp;
use flotilla_runtime::{Disk, File, MemoryDisk, Stat, Usage};

#[derive(Clone, Default)]
pub(crate) struct TestDisk {
    pub(crate) memory: MemoryDisk,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Files whose last sync failed and that were not written since: the kernel has dropped their pages' marks, and a
    /// sync of them succeeds without writing.
    forgotten: BTreeSet<PathBuf>,
    /// What reading these files fails with.
    unreadable: BTreeMap<PathBuf, i32>,
    stuck: BTreeSet<PathBuf>,
    size_bytes: Option<u64>,
    inodes: Option<u64>,
}

struct TestFile {
    file: Arc<dyn File>,
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl TestDisk {
    /// Reading `path` fails with `errno`.
    pub(crate) fn unreadable(&self, path: &Path, errno: i32) {
        self.state.lock().unwrap().unreadable.insert(path.to_owned(), errno);
    }

    /// `path` can be neither renamed nor removed.
    pub(crate) fn stuck(&self, path: &Path) {
        self.state.lock().unwrap().stuck.insert(path.to_owned());
    }

    /// Forgets what was said of single files.
    pub(crate) fn heal(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// This many inodes are free, beside the two that each sealed blob gives back.
    pub(crate) fn set_inodes(&self, free: u64) {
        let held = self.sealed().len() as u64;
        self.state.lock().unwrap().inodes = Some(free + held);
    }

    fn sealed(&self) -> Vec<PathBuf> {
        let shards = (0..=u8::MAX).map(|shard| Path::new("/blobs/sealed").join(format!("{shard:02x}")));
        shards.flat_map(|shard| self.memory.list(&shard).unwrap_or_default()).collect()
    }

    /// The file system is this large, and sealed blobs and partials are all that it holds.
    pub(crate) fn set_size(&self, bytes: u64) {
        self.state.lock().unwrap().size_bytes = Some(bytes);
    }

    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TestFile { file, path: path.to_owned(), state: self.state.clone() })
    }

    fn moves(&self, path: &Path) -> io::Result<()> {
        match self.state.lock().unwrap().stuck.contains(path) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.memory.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.memory.create(path)?;
        self.state.lock().unwrap().unreadable.remove(path);
        Ok(self.wrap(path, file))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.memory.create_private(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.moves(from)?;
        self.memory.rename(from, to)?;
        self.state.lock().unwrap().unreadable.remove(to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.moves(path)?;
        self.memory.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.create_dir(path)
    }

    fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.create_private_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.memory.stat(path)
    }

    fn set_modified(&self, path: &Path, at: Timestamp) -> io::Result<()> {
        self.memory.set_modified(path, at)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.memory.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.memory.sync_dir(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        let mut usage = self.memory.usage(path)?;
        if let Some(size_bytes) = self.state.lock().unwrap().size_bytes {
            let partials = self.memory.list(&path.join("partial")).unwrap_or_default();
            let data = partials.into_iter().chain(self.sealed()).filter(|path| path.extension().is_none());
            let held: u64 = data.map(|path| self.memory.stat(&path).unwrap().len_bytes).sum();
            usage.free_bytes = size_bytes.saturating_sub(held);
        }
        if let Some(inodes) = self.state.lock().unwrap().inodes {
            usage.free_inodes = inodes.saturating_sub(self.sealed().len() as u64);
        }
        Ok(usage)
    }
}

impl TestFile {
    fn readable(&self) -> io::Result<()> {
        match self.state.lock().unwrap().unreadable.get(&self.path) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }
}

impl File for TestFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.readable()?;
        self.file.read_at(offset, into)
    }

    fn read_cached(&self, offset: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.readable()?;
        self.file.read_cached(offset, into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().unwrap().forgotten.remove(&self.path);
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        if self.state.lock().unwrap().forgotten.contains(&self.path) {
            return Ok(());
        }
        let outcome = self.file.sync();
        if outcome.is_err() {
            self.state.lock().unwrap().forgotten.insert(self.path.clone());
        }
        outcome
    }
}

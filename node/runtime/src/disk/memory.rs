//! A disk in memory that fails on command and loses power: what tests of durability stand on.
//!
//! The model is as harsh as POSIX allows: a write is durable after a sync of its file, a name after a sync of its
//! folder, nothing else is, and what was not synced may survive in any part and any order. Only a rename is atomic.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_base::Timestamp;

use super::{Disk, File, Stat, Usage};
use crate::Entropy;

/// Sectors are written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Clones share one disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

/// Which mutating call fails, counted from the moment the fault is set.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The first is 1.
    pub step: u64,
    /// Whether all later calls fail too, as after a cut; otherwise only this one does.
    pub lasting: bool,
    pub kind: io::ErrorKind,
}

impl Fault {
    /// The disk is gone from `step` on.
    pub fn cut(step: u64) -> Self {
        Self { step, lasting: true, kind: io::ErrorKind::Other }
    }

    /// One call fails.
    pub fn once(step: u64, kind: io::ErrorKind) -> Self {
        Self { step, lasting: false, kind }
    }
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of their folder.
    renames: Vec<Change>,
    /// Never shrinks: a file without a name may still be open.
    files: Vec<Inode>,
    steps: u64,
    fault: Option<Fault>,
    free_bytes: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
    mode: u32,
    /// Survives a cut: nothing may rest on it either way.
    modified: Timestamp,
}

#[derive(Clone)]
enum Write {
    At(usize, Vec<u8>),
    Len(usize),
}

struct Handle {
    disk: MemoryDisk,
    inode: usize,
}

impl MemoryDisk {
    /// Counting starts now; `None` heals.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut state = self.lock();
        state.steps = 0;
        state.fault = fault;
    }

    /// Mutating calls since the last [`MemoryDisk::fail`].
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// What [`Disk::usage`] tells from now on; writes are not counted against it.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free_bytes = Some(bytes);
    }

    /// Flips the bits of one byte, on the medium too.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn corrupt(&self, path: &Path, offset: usize) {
        let mut state = self.lock();
        let inode = *state.names.get(path).expect("a test names a file that exists");
        let file = &mut state.files[inode];
        file.data[offset] ^= 0xff;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= 0xff;
        }
    }

    /// The disk after loss of power, without faults. Without a seed nothing that was not synced is there; with one, a
    /// part of it is, torn at sectors.
    #[must_use]
    pub fn crash(&self, seed: Option<u64>) -> Self {
        let state = self.lock();
        let luck = seed.map(|seed| Entropy::Seeded(Arc::new(seed.into())));
        let kept = || luck.as_ref().is_some_and(|luck| luck.u64() % 2 == 0);
        let mut names = state.durable_names.clone();
        for change in &state.renames {
            if kept() {
                apply(&mut names, change);
            }
        }
        let mut files = Vec::with_capacity(state.files.len());
        for file in &state.files {
            let mut data = file.durable.clone();
            for write in &file.pending {
                match write {
                    Write::Len(len) if kept() => data.resize(*len, 0),
                    Write::Len(_) => {}
                    Write::At(offset, bytes) => {
                        for (n, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                            if kept() {
                                put(&mut data, offset + n * SECTOR_BYTES, sector);
                            }
                        }
                    }
                }
            }
            let Inode { mode, modified, .. } = *file;
            files.push(Inode { durable: data.clone(), data, pending: Vec::new(), mode, modified });
        }
        Self(Arc::new(Mutex::new(State {
            dirs: state.dirs.clone(),
            durable_names: names.clone(),
            names,
            files,
            ..State::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, path: &Path, mode: u32, exclusive: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        state.step()?;
        state.folder_of(path)?;
        let inode = match state.names.get(path) {
            Some(_) if exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(&inode) => {
                state.files[inode].write(Write::Len(0));
                inode
            }
            None => {
                let inode = state.files.len();
                state.files.push(Inode { mode, ..Inode::default() });
                state.rename(Change::Link(path.to_owned(), inode));
                inode
            }
        };
        Ok(Arc::new(Handle { disk: self.clone(), inode }))
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Unlink(path) => {
            names.remove(path);
        }
        Change::Rename(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

fn put(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[offset..end].copy_from_slice(bytes);
}

impl State {
    /// Counts a mutating call; the error that it fails with, if it does.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fault {
            Some(fault) if self.steps == fault.step || (fault.lasting && self.steps > fault.step) => {
                Err(io::Error::new(fault.kind, "fault of the test"))
            }
            _ => Ok(()),
        }
    }

    fn rename(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.renames.push(change);
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if self.dirs.contains(folder) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn named(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Inode {
    fn write(&mut self, write: Write) {
        match &write {
            Write::At(offset, bytes) => put(&mut self.data, *offset, bytes),
            Write::Len(len) => self.data.resize(*len, 0),
        }
        self.pending.push(write);
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = self.lock().named(path)?;
        Ok(Arc::new(Handle { disk: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.make(path, 0o644, false)
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.make(path, 0o600, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.folder_of(to)?;
        let inode = state.named(from)?;
        state.rename(Change::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.named(path)?;
        state.rename(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        self.create_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.lock();
        if state.dirs.contains(path) {
            return Ok(Stat { len_bytes: 0, mode: 0o700, modified: Timestamp::default() });
        }
        let file = &state.files[state.named(path)?];
        Ok(Stat { len_bytes: file.data.len() as u64, mode: file.mode, modified: file.modified })
    }

    fn set_modified(&self, path: &Path, at: Timestamp) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let inode = state.named(path)?;
        state.files[inode].modified = at;
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.names.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let within = |name: &Path| name.parent() == Some(path);
        let changes = std::mem::take(&mut state.renames);
        for change in changes {
            let synced = match &change {
                Change::Link(name, _) | Change::Unlink(name) => within(name),
                // Between two folders: as with a journal, the sync of either makes both sides last.
                Change::Rename(from, to, _) => within(from) || within(to),
            };
            if synced {
                apply(&mut state.durable_names, &change);
            } else {
                state.renames.push(change);
            }
        }
        Ok(())
    }

    fn usage(&self, _: &Path) -> io::Result<Usage> {
        let free_bytes = self.lock().free_bytes.unwrap_or(1 << 40);
        Ok(Usage { total_bytes: 1 << 41, free_bytes, free_inodes: 1 << 20 })
    }
}

impl File for Handle {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = state.files[self.inode].data.get(offset..).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn read_cached(&self, offset: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.read_at(offset, into).map(Some)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let outcome = state.step();
        // A write that fails may have written a part.
        let part = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        state.files[self.inode].write(Write::At(offset, part.to_vec()));
        outcome
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        state.files[self.inode].write(Write::Len(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.inode].data.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step()?;
        let file = &mut state.files[self.inode];
        file.durable.clone_from(&file.data);
        file.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_folder() -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/d")).unwrap();
        disk
    }

    #[test]
    fn power_loss_takes_unsynced_data_and_unsynced_names() {
        let disk = disk_with_folder();
        let file = disk.create(Path::new("/d/x")).unwrap();
        file.write_at(0, b"synced").unwrap();
        file.sync().unwrap();
        assert!(disk.crash(None).open(Path::new("/d/x")).is_err(), "the name was not synced");
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(6, b" and not").unwrap();
        let after = disk.crash(None);
        assert_eq!(after.stat(Path::new("/d/x")).unwrap().len_bytes, 6);
        disk.remove(Path::new("/d/x")).unwrap();
        assert!(disk.crash(None).open(Path::new("/d/x")).is_ok(), "an unsynced removal is undone");
    }

    #[test]
    fn with_luck_some_sectors_survive() {
        let disk = disk_with_folder();
        let file = disk.create(Path::new("/d/x")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(0, &[1; 64 * SECTOR_BYTES]).unwrap();
        let after = disk.crash(Some(1));
        let kept = after.lock().files[0].data.iter().filter(|byte| **byte == 1).count();
        assert!(kept > 0 && kept < 64 * SECTOR_BYTES, "{kept}");
    }

    #[test]
    fn the_named_step_fails_and_a_cut_lasts() {
        let disk = disk_with_folder();
        disk.fail(Some(Fault::once(2, io::ErrorKind::StorageFull)));
        let file = disk.create(Path::new("/d/x")).unwrap();
        assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(0, b"x").unwrap();
        disk.fail(Some(Fault::cut(1)));
        assert!(file.sync().is_err() && file.sync().is_err());
    }
}

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file system as stores and durable files use it. Called inside [`crate::Blocking`] only, but for the start of a
/// node.
pub trait Disk: Send + Sync + 'static {
    /// Opens for reading and writing; the file must exist.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates or truncates. Its name is durable after [`Disk::sync_dir`] of its folder.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// With its parents; nothing when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the plain files in `path`, unordered.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes names in `path` survive loss of power.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Space of the file system that holds `path`.
    fn usage(&self, path: &Path) -> io::Result<Usage>;
}

#[expect(clippy::len_without_is_empty, reason = "a length that is asked of the disk, not of a collection")]
pub trait File: Send + Sync {
    /// Reads at most `into.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Data and length survive loss of power (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub total_bytes: u64,
    /// What an unprivileged process may still write.
    pub free_bytes: u64,
    pub free_inodes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        Ok(files)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Usage {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            free_inodes: stat.f_favail,
        })
    }
}

impl File for fs::File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

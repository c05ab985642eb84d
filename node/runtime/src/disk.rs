use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_base::Timestamp;
use rustix::io::{Errno, ReadWriteFlags};

mod memory;

pub use memory::{Fault, MemoryDisk};

/// The file system as stores and durable files use it. Called inside [`crate::Blocking`] only, but for the start of a
/// node.
pub trait Disk: Send + Sync + 'static {
    /// Opens for reading and writing; the file must exist.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates or truncates. Its name is durable after [`Disk::sync_dir`] of its folder.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// As [`Disk::create`], readable by its owner only; the file must not exist.
    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// With its parents, durable on return; nothing when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// As [`Disk::create_dir`]; what it creates is open to its owner only.
    fn create_private_dir(&self, path: &Path) -> io::Result<()>;
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Sets the time of the last change of a file's bytes. Nothing makes it durable: a loss of power may undo it.
    fn set_modified(&self, path: &Path, at: Timestamp) -> io::Result<()>;
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
    /// As [`File::read_at`] when the bytes are in memory; `None` when the read would wait for a device.
    fn read_cached(&self, offset: u64, into: &mut [u8]) -> io::Result<Option<usize>>;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub len_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// When its bytes were last changed, or what [`Disk::set_modified`] set.
    pub modified: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

/// Creates what is missing of `path`, top down, and syncs the folder above each, so that the names last.
fn create_dirs(path: &Path, mode: u32) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Ok(()),
    };
    create_dirs(above, mode)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(above)?.sync_all(),
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn create_private(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        create_dirs(path, 0o777)
    }

    fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        create_dirs(path, 0o700)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let found = fs::metadata(path)?;
        let modified_ms = found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000);
        // Zero for a time before 1970, which no file of ours has.
        let modified = Timestamp(u64::try_from(modified_ms).unwrap_or(0));
        Ok(Stat { len_bytes: found.len(), mode: found.permissions().mode() & 0o7777, modified })
    }

    fn set_modified(&self, path: &Path, at: Timestamp) -> io::Result<()> {
        let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
        // Below 10⁹, whatever the time.
        let nanos = (at.0 % 1000 * 1_000_000) as _;
        let unchanged = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = rustix::fs::Timestamps {
            last_access: unchanged,
            last_modification: rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos },
        };
        Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())?)
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

    fn read_cached(&self, offset: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut into = [io::IoSliceMut::new(into)];
        match rustix::io::preadv2(self, &mut into, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            // Not in the page cache, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_and_folders_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        RealDisk.create_private_dir(&folder).unwrap();
        RealDisk.create_private(&folder.join("x")).unwrap();
        assert_eq!(RealDisk.stat(&folder).unwrap().mode & 0o77, 0);
        assert_eq!(RealDisk.stat(&folder.join("x")).unwrap().mode, 0o600);
        let again = RealDisk.create_private(&folder.join("x"));
        assert_eq!(
            again.err().unwrap().kind(),
            io::ErrorKind::AlreadyExists,
            "a file that others opened is not reused"
        );
    }

    #[test]
    fn the_time_of_the_last_change_can_be_set_and_writes_move_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = RealDisk.create(&path).unwrap();
        let at = Timestamp(1_700_000_000_123);
        RealDisk.set_modified(&path, at).unwrap();
        assert_eq!(RealDisk.stat(&path).unwrap().modified, at);
        file.write_at(0, b"x").unwrap();
        assert!(RealDisk.stat(&path).unwrap().modified > at);
        assert!(RealDisk.set_modified(&dir.path().join("none"), at).is_err());
    }

    #[test]
    fn a_cached_read_gives_the_bytes_or_says_that_it_would_wait() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("x")).unwrap();
        file.write_at(0, b"hello").unwrap();
        let mut into = [0; 8];
        if let Some(read) = file.read_cached(1, &mut into).unwrap() {
            assert_eq!(&into[..read], b"ello");
        }
    }
}

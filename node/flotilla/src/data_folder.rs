//! A node's folder: who it is, that nobody else uses it, and the small files for people and scripts.
//!
//! `node` names the node for as long as the folder lives; `lock` is held while a process uses it; `pid` is that process.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use flotilla_base::{ByteLen, NodeId, codec};
use flotilla_runtime::{Host, read_file, write_file, write_private_file};
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;

/// Far above the few numbers that the file holds.
const RECORD_LIMIT: ByteLen = ByteLen::kib(4);

/// Of the free space at the first start; the rest is the machine's.
const STORAGE_SHARE_PERCENT: u64 = 80;

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is used by another process (pid {pid})", path.display())]
    Used { path: PathBuf, pid: String },
    #[error("{} cannot be read: if the folder is of a newer flotilla, run that", path.display())]
    Record { path: PathBuf, source: codec::CodecError },
}

/// What is decided at the first start and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub node: NodeId,
    /// What blobs may take when the configuration does not say.
    pub storage_max: ByteLen,
}

/// The folder, held by this process.
pub struct DataFolder {
    path: PathBuf,
    pub record: NodeRecord,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder when it is absent and takes it. Blocking.
    ///
    /// # Errors
    /// [`FolderError`]; nothing is changed when another process holds it.
    pub fn take(host: &Host, path: &Path) -> Result<Self, FolderError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { operation, path, source }
        };
        host.disk.create_private_dir(path).map_err(failed("create", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("protect", path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(path.join("pid")).unwrap_or_else(|_| "unknown".to_owned());
                return Err(FolderError::Used { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let record = node_record(host, path)?;
        let pid_path = path.join("pid");
        write_file(&*host.disk, &pid_path, format!("{}\n", std::process::id()).as_bytes())
            .map_err(failed("write", &pid_path))?;
        Ok(Self { path: path.to_owned(), record, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // A stale pid file misleads only people; the lock is what counts.
        let _ = fs::remove_file(self.path.join("pid"));
    }
}

fn node_record(host: &Host, folder: &Path) -> Result<NodeRecord, FolderError> {
    let path = folder.join("node");
    let failed = |operation| {
        let path = path.clone();
        move |source| FolderError::Io { operation, path, source }
    };
    if let Some(bytes) = read_file(&*host.disk, &path, RECORD_LIMIT.0).map_err(failed("read"))? {
        return codec::decode_version(FORMAT, RECORD_LIMIT, &bytes)
            .map_err(|source| FolderError::Record { path: path.clone(), source });
    }
    let free = host.disk.usage(folder).map_err(failed("measure the disk of"))?.free_bytes;
    let storage_max = ByteLen(free / 100 * STORAGE_SHARE_PERCENT);
    let record = NodeRecord { node: NodeId(host.entropy.u64()), storage_max };
    let bytes = codec::encode(FORMAT, &record).map_err(|source| FolderError::Record { path: path.clone(), source })?;
    write_file(&*host.disk, &path, &bytes).map_err(failed("write"))?;
    Ok(record)
}

/// Writes a file that only its owner may read, replaced whole and durable. Blocking.
///
/// # Errors
/// [`FolderError::Io`].
pub fn write_private(host: &Host, path: &Path, content: &str) -> Result<(), FolderError> {
    write_private_file(&*host.disk, path, content.as_bytes()).map_err(|source| FolderError::Io {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time_and_names_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::system();
        let first = DataFolder::take(&host, dir.path()).unwrap();
        let record = first.record;
        let second = DataFolder::take(&host, dir.path()).map(|_| ()).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        assert_eq!(DataFolder::take(&host, dir.path()).unwrap().record, record);
    }
}

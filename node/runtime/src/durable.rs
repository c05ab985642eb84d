//! Small files that are replaced whole: temp, write, sync, rename, sync the folder. A crash at any line leaves the old
//! file or the new one, and perhaps a `.tmp` beside it that the next write replaces.

use std::{io, path::Path, sync::Arc};

use crate::{Disk, File};

/// Replaces `path`. On return the new content survives loss of power.
///
/// # Errors
/// Those of the disk; the old file is then untouched, or already replaced but perhaps not durable.
pub fn write_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    replace(disk, path, content, |temp| disk.create(temp))
}

/// As [`write_file`]; the file is readable by its owner only, at every moment.
///
/// # Errors
/// As [`write_file`].
pub fn write_private_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    replace(disk, path, content, |temp| {
        // One that a crash left may have been opened by others.
        match disk.remove(temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        disk.create_private(temp)
    })
}

fn replace(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
    create: impl FnOnce(&Path) -> io::Result<Arc<dyn File>>,
) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    let temp = Path::new(&temp);
    let file = create(temp)?;
    file.write_at(0, content)?;
    // Before the rename: a name must never lead to bytes that a loss of power takes away.
    file.sync()?;
    disk.rename(temp, path)?;
    disk.sync_dir(folder)
}

/// The whole of `path`; `None` when there is no such file.
///
/// # Errors
/// Those of the disk, and `InvalidData` for a file longer than `limit_bytes`.
pub fn read_file(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > limit_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes, at most {limit_bytes} expected")));
    }
    let mut content = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(filled as u64, &mut content[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    content.truncate(filled);
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, MemoryDisk, RealDisk};

    #[test]
    fn a_cut_at_any_step_leaves_the_old_file_or_the_new_one_and_what_was_acknowledged() {
        let path = Path::new("/d/x");
        for seed in 0..20 {
            for step in 1.. {
                let disk = MemoryDisk::default();
                disk.create_dir(Path::new("/d")).unwrap();
                write_file(&disk, path, b"old content").unwrap();
                disk.fail(Some(Fault::cut(step)));
                let outcome = write_file(&disk, path, b"new");
                let after = disk.crash(Some(seed));
                let found = read_file(&after, path, 100).unwrap().unwrap();
                if outcome.is_ok() {
                    assert_eq!(found, b"new", "acknowledged");
                    break;
                }
                assert!(found == b"old content" || found == b"new", "step {step}: {found:?}");
            }
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_an_absent_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert_eq!(read_file(&RealDisk, &path, 10).unwrap(), None);
        write_file(&RealDisk, &path, b"one and more").unwrap();
        write_file(&RealDisk, &path, b"two").unwrap();
        assert_eq!(read_file(&RealDisk, &path, 10).unwrap().unwrap(), b"two");
        assert!(read_file(&RealDisk, &path, 2).is_err());
    }
}

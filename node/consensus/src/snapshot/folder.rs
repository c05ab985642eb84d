use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_base::store::Rows;
use flotilla_runtime::{Disk, File};

use super::frames::{dump, head};
use crate::{
    SnapshotError,
    types::{SnapshotFile, SnapshotMeta},
};

const SUFFIX: &str = "snapshot";
/// A copy is read and written in steps of this.
const COPY_BYTES: usize = 1 << 20;

/// This node's snapshots: the newest, and what is being written. Blocks.
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Folder {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, SnapshotError> {
        let folder = Self { disk, dir };
        folder.disk.create_dir(&folder.dir).map_err(folder.io("create", &folder.dir))?;
        let files = folder.disk.list(&folder.dir).map_err(folder.io("list", &folder.dir))?;
        // What a crash left half-written.
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "tmp")) {
            folder.disk.remove(path).map_err(folder.io("remove", path))?;
        }
        Ok(folder)
    }

    /// The newest one whose head can be read.
    pub(crate) fn current(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, SnapshotError> {
        let mut newest: Option<(SnapshotMeta, SnapshotFile)> = None;
        for path in self.whole()? {
            let file = self.disk.open(&path).map_err(self.io("open", &path))?;
            match head(&*file) {
                Ok(meta) if newest.as_ref().is_none_or(|(best, _)| best.last_log_id < meta.last_log_id) => {
                    newest = Some((meta, SnapshotFile(file)));
                }
                Ok(_) => {}
                Err(error) => tracing::error!(path = %path.display(), %error, "a snapshot cannot be read"),
            }
        }
        Ok(newest)
    }

    /// Writes `rows`; older snapshots go.
    pub(crate) fn write(&self, meta: &SnapshotMeta, rows: &dyn Rows) -> Result<SnapshotFile, SnapshotError> {
        self.publish(meta, |temp| dump(&*self.disk, temp, meta, rows))
    }

    /// Keeps a copy of what was received; older snapshots go.
    pub(crate) fn keep(&self, meta: &SnapshotMeta, from: &dyn File) -> Result<(), SnapshotError> {
        self.publish(meta, |temp| {
            let io = |operation| self.io(operation, temp);
            let to = self.disk.create(temp).map_err(io("create"))?;
            let mut buffer = vec![0; COPY_BYTES];
            let mut offset = 0;
            loop {
                let read = from.read_at(offset, &mut buffer).map_err(io("read the source of"))?;
                match buffer.get(..read) {
                    None | Some([]) => break,
                    Some(bytes) => to.write_at(offset, bytes).map_err(io("write"))?,
                }
                offset += read as u64;
            }
            to.sync().map_err(io("sync"))?;
            Ok(to)
        })
        .map(drop)
    }

    /// A file for what a leader sends.
    pub(crate) fn receive(&self) -> Result<SnapshotFile, SnapshotError> {
        let path = self.dir.join("received.tmp");
        Ok(SnapshotFile(self.disk.create(&path).map_err(self.io("create", &path))?))
    }

    fn publish(
        &self,
        meta: &SnapshotMeta,
        write: impl FnOnce(&Path) -> Result<Arc<dyn File>, SnapshotError>,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = self.dir.join(format!("{}.{SUFFIX}", meta.snapshot_id));
        let temp = path.with_extension("tmp");
        let file = write(&temp)?;
        self.disk.rename(&temp, &path).map_err(self.io("rename", &path))?;
        self.disk.sync_dir(&self.dir).map_err(self.io("sync the folder of", &path))?;
        for older in self.whole()?.into_iter().filter(|other| *other != path) {
            if let Err(error) = self.disk.remove(&older) {
                tracing::warn!(path = %older.display(), %error, "an old snapshot could not be removed");
            }
        }
        Ok(SnapshotFile(file))
    }

    fn whole(&self) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut files = self.disk.list(&self.dir).map_err(self.io("list", &self.dir))?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == SUFFIX));
        Ok(files)
    }

    fn io(&self, operation: &'static str, path: &Path) -> impl Fn(io::Error) -> SnapshotError {
        let path = path.to_owned();
        move |source| SnapshotError::Io { operation, path: path.clone(), source }
    }
}

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use flotilla_base::store::Rows;
use flotilla_runtime::{Disk, File};
use tokio::sync::watch;

use super::frames::{dump, head};
use crate::{
    SnapshotError,
    types::{LogId, SnapshotFile, SnapshotMeta},
};

const SUFFIX: &str = "snapshot";
const UNFINISHED: &str = "tmp";
/// A copy is read and written in steps of this.
const COPY_BYTES: usize = 1 << 20;

/// This node's snapshots: the newest, and what is being written. Blocks.
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Held while names appear and go, not while a file is written: an installed snapshot does not wait for one that is
    /// built.
    names: Mutex<()>,
    written: AtomicU64,
    /// The end of the newest one that survives loss of power.
    end: watch::Sender<Option<LogId>>,
}

impl Folder {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, SnapshotError> {
        let folder =
            Self { disk, dir, names: Mutex::default(), written: AtomicU64::new(0), end: watch::Sender::default() };
        folder.disk.create_dir(&folder.dir).map_err(folder.io("create", &folder.dir))?;
        let files = folder.disk.list(&folder.dir).map_err(folder.io("list", &folder.dir))?;
        // What a crash left half-written.
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == UNFINISHED)) {
            folder.disk.remove(path).map_err(folder.io("remove", path))?;
        }
        // A name that was not durable when a process was killed is now.
        folder.disk.sync_dir(&folder.dir).map_err(folder.io("sync", &folder.dir))?;
        folder.end.send_replace(folder.newest()?.and_then(|(meta, _)| meta.last_log_id));
        Ok(folder)
    }

    /// What the log need not hold any more.
    pub(crate) fn end(&self) -> watch::Receiver<Option<LogId>> {
        self.end.subscribe()
    }

    /// The newest one whose head can be read.
    pub(crate) fn current(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, SnapshotError> {
        let _names = self.names();
        self.newest()
    }

    fn newest(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, SnapshotError> {
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

    /// Writes `rows`; older snapshots go. What is returned is a newer one if there is any by now.
    pub(crate) fn write(
        &self,
        meta: &SnapshotMeta,
        rows: &dyn Rows,
    ) -> Result<(SnapshotMeta, SnapshotFile), SnapshotError> {
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

    /// A file for what a leader sends. It has no name: it is this transfer's alone, and goes with it.
    pub(crate) fn receive(&self) -> Result<SnapshotFile, SnapshotError> {
        let path = self.unfinished();
        let file = self.disk.create(&path).map_err(self.io("create", &path))?;
        self.disk.remove(&path).map_err(self.io("take the name of", &path))?;
        Ok(SnapshotFile(file))
    }

    /// A path that nothing else has used since the start.
    fn unfinished(&self) -> PathBuf {
        self.dir.join(format!("{}.{UNFINISHED}", self.written.fetch_add(1, Ordering::Relaxed)))
    }

    fn publish(
        &self,
        meta: &SnapshotMeta,
        write: impl FnOnce(&Path) -> Result<Arc<dyn File>, SnapshotError>,
    ) -> Result<(SnapshotMeta, SnapshotFile), SnapshotError> {
        let temp = self.unfinished();
        let file = write(&temp).inspect_err(|_| self.discard(&temp))?;
        let _names = self.names();
        // Installed while this one was written: the log behind this one is gone.
        if let Some(newer) = self.newest()?.filter(|(held, _)| held.last_log_id > meta.last_log_id) {
            self.discard(&temp);
            return Ok(newer);
        }
        let path = self.dir.join(format!("{}.{SUFFIX}", meta.snapshot_id));
        self.disk.rename(&temp, &path).map_err(self.io("rename", &path))?;
        self.disk.sync_dir(&self.dir).map_err(self.io("sync the folder of", &path))?;
        self.end.send_replace(meta.last_log_id);
        for older in self.whole()?.into_iter().filter(|other| *other != path) {
            self.discard(&older);
        }
        Ok((meta.clone(), SnapshotFile(file)))
    }

    /// Failing costs space until the next start or snapshot.
    fn discard(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a snapshot of no use could not be removed");
            }
            _ => {}
        }
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
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

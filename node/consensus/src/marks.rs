use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_base::store::StoreError;
use flotilla_runtime::{Disk, write_file};

/// Empty files beside the state that say how to open it. Blocks.
pub(crate) struct Marks {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// All that was applied had been made durable when the node stopped.
    Clean,
    /// What is stored is not what was written: the state must be rebuilt.
    Damaged,
}

impl Marks {
    pub(crate) fn of(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { disk, dir: state_dir.to_owned() }
    }

    fn path(&self, mark: Mark) -> PathBuf {
        self.dir.join(match mark {
            Mark::Clean => "clean",
            Mark::Damaged => "rebuild",
        })
    }

    pub(crate) fn set(&self, mark: Mark) -> io::Result<()> {
        write_file(&*self.disk, &self.path(mark), &[])
    }

    pub(crate) fn is_set(&self, mark: Mark) -> io::Result<bool> {
        match self.disk.stat(&self.path(mark)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes it; whether it was there.
    pub(crate) fn take(&self, mark: Mark) -> io::Result<bool> {
        match self.disk.remove(&self.path(mark)) {
            Ok(()) => self.disk.sync_dir(&self.dir).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Leaves [`Mark::Damaged`] when `error` is one that another store helps against.
    pub(crate) fn note(&self, error: &StoreError) {
        if is_damage(error)
            && let Err(error) = self.set(Mark::Damaged)
        {
            tracing::error!(%error, "the state is damaged and the next start cannot be told");
        }
    }
}

/// Whether another store can help. sled reports damage as `InvalidInput`, a panic comes as `Other`; a full disk, a missing
/// right or too many open files are none of these.
pub(crate) fn is_damage(error: &StoreError) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Io { source, .. } => {
            matches!(source.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
        }
        StoreError::UnknownVersion { .. } | StoreError::FrozenTooLong => false,
    }
}

/// A panic of the store as an error. What `work` leaves half-done must not be used again: it is followed by a halt or
/// another store.
pub(crate) fn caught<T, E: From<StoreError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let source = io::Error::other("the store panicked");
        Err(StoreError::Io { operation: "work on the state", source }.into())
    })
}

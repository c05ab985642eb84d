//! From what lies on disk to a log and a state that fit together.
//!
//! The log is the truth and must be whole. The state may be behind (a crash), or damaged (loss of power under sled): then it
//! is set aside and rebuilt from the last snapshot and the log after it.

use std::{io, path::Path, sync::Arc};

use flotilla_base::{ByteLen, LogIndex, codec, store::StoreError};
use flotilla_runtime::{Host, Published, Publisher, read_file};
use flotilla_state::{BOOKKEEPING, CLUSTER_VERSION, Tables, View};
use flotilla_storage::SegmentLogConfig;

use crate::{
    ConsensusConfig, StartError,
    builder::Control,
    halt::{Halt, chain},
    home::{Generation, Home},
    log_store::LogStore,
    marks::{Mark, Marks, caught, is_damage},
    record::Record,
    snapshot::Folder,
    state_machine::{Applied, Inner, POINTER_FORMAT, StateMachine, point, restore, vacate},
    types::{LogId, SnapshotFile, SnapshotMeta},
};

const POINTER_LIMIT: ByteLen = ByteLen(64);
const LARGEST_SEGMENT: u64 = 8 << 20;

pub(crate) struct Recovered {
    pub log: LogStore,
    pub state: StateMachine,
    pub view: Published<View>,
    pub halt: Halt,
}

/// Blocks.
pub(crate) fn recover(
    host: &Host,
    dir: &Path,
    config: &ConsensusConfig,
    home: Arc<dyn Home>,
    control: Control,
) -> Result<Recovered, StartError> {
    let halt = Halt::default();
    let (log_dir, state_dir) = (dir.join("raft"), dir.join("state"));
    for dir in [&log_dir, &state_dir] {
        let io = |source| StartError::Io { operation: "create", path: dir.clone(), source };
        host.disk.create_dir(dir).map_err(io)?;
    }
    // Whole segments are purged: few enough must make up the log that a compaction leaves little of it.
    let segments = SegmentLogConfig { segment_bytes: (config.compact_after.0 / 8).clamp(4096, LARGEST_SEGMENT) };
    let snapshots = Folder::open(host.disk.clone(), dir.join("snapshot")).map_err(StartError::Snapshot)?;
    let snapshot = snapshots.current().map_err(StartError::Snapshot)?;
    let snapshot_end = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
    let log = LogStore::open(host.disk.clone(), host.blocking, &log_dir, segments, halt.clone(), snapshots.end())?;

    let marks = Marks::of(host.disk.clone(), &state_dir);
    let pointer = state_dir.join("current");
    let number = pointed(host, &pointer)?;
    // A snapshot beyond the log is being installed: openraft takes it for installed.
    let floor = log.purged().max(snapshot_end.filter(|end| Some(*end) > log.last()));
    let mark_error = |source| StartError::Io { operation: "read or remove a mark in", path: state_dir.clone(), source };
    let is_marked = marks.is_set(Mark::Damaged).map_err(mark_error)?;
    // Gone before anything is applied.
    let is_clean = marks.take(Mark::Clean).map_err(mark_error)?;
    let opened = if is_marked { None } else { open_state(&home, number, floor, is_clean)? };
    let (generation, view, record) = match opened {
        Some(opened) => opened,
        None => rebuild(host, &home, &pointer, number, dir, log.purged(), snapshot.as_ref())?,
    };
    marks.take(Mark::Damaged).map_err(mark_error)?;
    // An installed snapshot may be ahead of the log; nothing else may, and who installs one has seen a vote.
    if let Some(applied) = record.applied
        && record.applied > log.last()
        && (snapshot_end < record.applied || !log.has_vote())
    {
        let last = log.last().map(|id| LogIndex(id.index));
        return Err(StartError::LogLost { dir: log_dir, last, applied: LogIndex(applied.index) });
    }
    if let Some(end) = snapshot_end {
        log.raise_committed(end);
    }
    discard_others(&*home, generation.number());

    let (publisher, view_of_all) = Publisher::new(view.clone());
    let inner = Arc::new(Inner {
        blocking: host.blocking,
        disk: host.disk.clone(),
        halt: halt.clone(),
        home,
        pointer,
        marks,
        snapshots,
        publisher,
        applied: Applied { generation, view, record }.into(),
        builder: control,
    });
    // openraft would write it too, but would take a failure for the end.
    if log.purged().is_some() && snapshot.is_none() {
        let frozen = flotilla_base::store::Store::freeze(&*inner.applied().generation.clone())?;
        inner.write_snapshot(&*frozen).map_err(StartError::Snapshot)?;
    }
    Ok(Recovered { log, state: StateMachine(inner), view: view_of_all, halt })
}

fn pointed(host: &Host, pointer: &Path) -> Result<u64, StartError> {
    let io = |source| StartError::Io { operation: "read", path: pointer.to_owned(), source };
    match read_file(&*host.disk, pointer, POINTER_LIMIT.0).map_err(io)? {
        None => Ok(0),
        Some(bytes) => codec::decode_version(POINTER_FORMAT, POINTER_LIMIT, &bytes)
            .map_err(|source| StartError::Record { path: pointer.to_owned(), source }),
    }
}

type Opened = (Arc<Generation>, View, Record);

/// `None`: damaged, or before `floor`, from where on the log can take it further.
fn open_state(
    home: &Arc<dyn Home>,
    number: u64,
    floor: Option<LogId>,
    is_clean: bool,
) -> Result<Option<Opened>, StartError> {
    let opened = caught(|| {
        let opened = read_state(Generation::open(home.clone(), number)?)?;
        if !is_clean {
            check(&opened.1.tables())?;
        }
        Ok::<_, StartError>(opened)
    });
    match opened {
        Ok((_, _, record)) if record.applied < floor => {
            tracing::warn!(applied = ?record.applied, ?floor, "the state is older than the log");
            Ok(None)
        }
        Ok(opened) => Ok(Some(opened)),
        Err(StartError::State(error)) if is_damage(&error) => {
            tracing::error!(error = chain(&error), generation = number, "the state is damaged");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads everything once: a store that was not closed may have lost a part of what it held.
fn check(tables: &Tables<'_>) -> Result<(), StoreError> {
    if tables.counted_hash()? != tables.hash()? {
        let reason = "its sums are not those of the rows".to_owned();
        return Err(StoreError::Corrupt { table: BOOKKEEPING, reason });
    }
    Ok(())
}

fn read_state(generation: Arc<Generation>) -> Result<Opened, StartError> {
    // First: what a newer program wrote may look like damage to this one.
    let state = Tables::of(&*generation).meta()?.cluster_version;
    if state > CLUSTER_VERSION {
        return Err(StartError::Downgrade { state, program: CLUSTER_VERSION });
    }
    let view = View::load(generation.clone())?;
    let record = Record::load(&*generation)?;
    Ok((generation, view, record))
}

fn rebuild(
    host: &Host,
    home: &Arc<dyn Home>,
    pointer: &Path,
    number: u64,
    dir: &Path,
    purged: Option<LogId>,
    snapshot: Option<&(SnapshotMeta, SnapshotFile)>,
) -> Result<Opened, StartError> {
    let snapshot = snapshot.filter(|(meta, _)| meta.last_log_id.is_some() && meta.last_log_id >= purged);
    let end = snapshot.and_then(|(meta, _)| meta.last_log_id);
    if let Some(purged) = purged.filter(|_| end.is_none()) {
        let lost = LogIndex(purged.index);
        return Err(StartError::StateLost { dir: dir.join("state"), snapshot: None, purged: lost });
    }
    let next = number.saturating_add(1);
    let restored = snapshot.map(|(_, file)| restore(home, next, file, None));
    let generation = match (restored, purged) {
        (Some(Ok(generation)), _) => generation,
        (Some(Err(error)), Some(purged)) if error.is_damage() => {
            tracing::error!(error = chain(&error), "the snapshot is damaged too");
            let (dir, purged) = (dir.join("state"), LogIndex(purged.index));
            return Err(StartError::StateLost { dir, snapshot: end.map(|id| LogIndex(id.index)), purged });
        }
        (Some(Err(error)), _) if !error.is_damage() => return Err(StartError::Snapshot(error)),
        // The log is whole: it needs no snapshot.
        _ => {
            vacate(home, next).map_err(StartError::Snapshot)?;
            Generation::open(home.clone(), next)?
        }
    };
    point(&*host.disk, pointer, next).map_err(StartError::Snapshot)?;
    match home.set_aside(number) {
        Ok(aside) => tracing::warn!(aside = %aside.display(), "the unusable state was set aside"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "the unusable state could not be set aside"),
    }
    tracing::warn!(snapshot = ?end, "the state is rebuilt from the last snapshot and the log");
    read_state(generation)
}

/// What an installed snapshot has replaced. Failing costs space only.
fn discard_others(home: &dyn Home, current: u64) {
    let others = home.generations().unwrap_or_default().into_iter().filter(|number| *number != current);
    for number in others {
        if let Err(error) = home.discard(number) {
            tracing::warn!(generation = number, %error, "an old state could not be removed");
        }
    }
}

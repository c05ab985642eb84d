use flotilla_runtime::{Entropy, Fault, MemoryDisk, RealDisk};
use proptest::prelude::*;

use super::*;
use crate::test_disk::TestDisk;

const SMALL: SegmentLogConfig = SegmentLogConfig { segment_bytes: 200 };

fn dir() -> &'static Path {
    Path::new("/raft")
}

fn entry(index: u64) -> (LogIndex, Bytes) {
    (LogIndex(index), Bytes::from(format!("entry {index} {}", "x".repeat(index as usize % 50))))
}

fn entries(range: std::ops::Range<u64>) -> Vec<(LogIndex, Bytes)> {
    range.map(entry).collect()
}

fn open(disk: &MemoryDisk) -> Result<SegmentLog, LogError> {
    SegmentLog::open(Arc::new(disk.clone()), dir(), SMALL)
}

fn all(log: &SegmentLog) -> Vec<(LogIndex, Bytes)> {
    log.read(LogIndex(0), LogIndex(u64::MAX), u64::MAX).unwrap()
}

#[test]
fn entries_and_slots_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SegmentLog::open(Arc::new(RealDisk), &folder.path().join("raft"), SMALL).unwrap();
    let mut log = open();
    assert_eq!((log.first(), log.last(), log.slot(Slot::Vote)), (None, None, None));
    log.append(&entries(1..30)).unwrap();
    log.append(&entries(30..60)).unwrap();
    log.save(Slot::Vote, b"vote").unwrap();
    log.save(Slot::Committed, b"committed").unwrap();
    drop(log);
    let log = open();
    assert_eq!(all(&log), entries(1..60));
    assert_eq!((log.first(), log.last()), (Some(LogIndex(1)), Some(LogIndex(59))));
    assert_eq!(log.slot(Slot::Vote).unwrap(), "vote");
    assert_eq!(log.slot(Slot::Committed).unwrap(), "committed");
}

#[test]
fn reads_are_bounded_but_give_at_least_one_entry() {
    let mut log = open(&MemoryDisk::default()).unwrap();
    for index in 1..40 {
        log.append(&[entry(index)]).unwrap();
    }
    assert_eq!(log.read(LogIndex(5), LogIndex(9), u64::MAX).unwrap(), entries(5..9));
    assert_eq!(log.read(LogIndex(5), LogIndex(9), 0).unwrap(), entries(5..6));
    let two = entries(5..7).iter().map(|(_, payload)| payload.len() as u64).sum();
    assert_eq!(log.read(LogIndex(5), LogIndex(9), two).unwrap(), entries(5..7));
    assert_eq!(log.read(LogIndex(40), LogIndex(50), 100).unwrap(), []);
    assert_eq!(log.read(LogIndex(9), LogIndex(5), 100).unwrap(), []);
}

#[test]
fn a_gap_changes_nothing() {
    let mut log = open(&MemoryDisk::default()).unwrap();
    log.append(&entries(1..5)).unwrap();
    for wrong in [entries(6..8), entries(4..8), vec![entry(5), entry(7)]] {
        assert!(matches!(log.append(&wrong), Err(LogError::Gap { .. })));
    }
    log.append(&entries(5..8)).unwrap();
    assert_eq!(all(&log), entries(1..8));
}

#[test]
fn truncated_entries_stay_away_and_others_take_their_place() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).unwrap();
    log.append(&entries(1..60)).unwrap();
    log.append(&entries(60..90)).unwrap();
    log.truncate(LogIndex(20)).unwrap();
    assert_eq!(all(&open(&disk.crash(None)).unwrap()), entries(1..20));
    log.append(&[(LogIndex(20), Bytes::from("another"))]).unwrap();
    let log = open(&disk.crash(None)).unwrap();
    assert_eq!(log.last(), Some(LogIndex(20)));
    assert_eq!(all(&log)[19].1, "another");
}

#[test]
fn a_purge_beyond_the_log_lets_it_go_on_after_the_snapshot() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).unwrap();
    log.append(&entries(1..60)).unwrap();
    log.purge(LogIndex(30), b"at 30").unwrap();
    assert_eq!(all(&log), entries(31..60));
    log.purge(LogIndex(100), b"at 100").unwrap();
    let disk = disk.crash(None);
    let mut log = open(&disk).unwrap();
    assert_eq!((log.first(), log.last(), log.len_bytes()), (None, None, 0));
    assert_eq!(log.slot(Slot::Purged).unwrap(), "at 100");
    assert!(matches!(log.append(&[entry(60)]), Err(LogError::Gap { .. })));
    log.append(&entries(101..105)).unwrap();
    assert_eq!(all(&open(&disk.crash(None)).unwrap()), entries(101..105));
}

#[test]
fn damage_before_the_last_batch_is_named_and_never_dropped() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).unwrap();
    for index in 1..20 {
        log.append(&[entry(index)]).unwrap();
    }
    let mut paths = disk.list(dir()).unwrap();
    paths.sort();
    assert!(paths.len() > 2);
    let last = paths.last().unwrap().clone();
    for path in paths {
        let whole = disk.stat(&path).unwrap().len_bytes as usize;
        // Of the last segment all but its last record, which could be torn.
        let sound = if path == last { whole - 32 - entry(19).1.len() } else { whole };
        for offset in 0..sound {
            let damaged = disk.crash(None);
            damaged.corrupt(&path, offset);
            match open(&damaged) {
                Err(LogError::Corrupt { path: named, .. }) => assert_eq!(named, path),
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("byte {offset} of {} went unseen", path.display()),
            }
        }
    }
}

#[test]
fn damage_that_appears_later_is_seen_when_it_is_read() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).unwrap();
    log.append(&entries(1..3)).unwrap();
    disk.corrupt(&disk.list(dir()).unwrap()[0], 24 + 32);
    assert!(matches!(log.read(LogIndex(1), LogIndex(2), 10), Err(LogError::Corrupt { offset: 24, .. })));
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).unwrap();
    log.append(&entries(1..3)).unwrap();
    disk.fail(Some(Fault::once(2, io::ErrorKind::Other)));
    assert!(matches!(log.append(&entries(3..5)), Err(LogError::Io { operation: "sync", .. })));
    assert!(matches!(log.append(&entries(3..5)), Err(LogError::Poisoned)));
    assert!(matches!(log.save(Slot::Vote, b"x"), Err(LogError::Poisoned)));
    assert!(matches!(log.truncate(LogIndex(1)), Err(LogError::Poisoned)));
    assert!(matches!(log.purge(LogIndex(1), b"x"), Err(LogError::Poisoned)));
    assert_eq!(all(&log), entries(1..3), "what was acknowledged can still be read");
}

#[test]
fn a_batch_that_was_never_synced_is_durable_once_it_was_shown() {
    let disk = TestDisk::default();
    let start = || SegmentLog::open(Arc::new(disk.clone()), dir(), SMALL).unwrap();
    let mut log = start();
    log.append(&entries(1..3)).unwrap();
    disk.memory.fail(Some(Fault::once(2, io::ErrorKind::Other)));
    assert!(log.append(&entries(3..30)).is_err(), "the sync fails");
    // The process starts again, without a loss of power.
    let mut log = start();
    assert_eq!(all(&log), entries(1..30));
    assert_eq!(all(&open(&disk.memory.crash(None)).unwrap()), entries(1..30));
    // The segment is full, so it is never synced by an append.
    log.append(&entries(30..32)).unwrap();
    assert_eq!(all(&open(&disk.memory.crash(None)).unwrap()), entries(1..32));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Purge(u64),
    Vote(u8),
    Reopen,
}

/// What an acknowledged history amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    entries: std::collections::BTreeMap<u64, Bytes>,
    floor: u64,
    next: u64,
    vote: Option<u8>,
}

impl Model {
    fn of(log: &SegmentLog) -> Self {
        let entries: std::collections::BTreeMap<u64, Bytes> = all(log).into_iter().map(|(n, e)| (n.0, e)).collect();
        let floor = log.slot(Slot::Purged).map_or(0, |value| u64::from_le_bytes(value.as_ref().try_into().unwrap()));
        let next = entries.last_key_value().map_or(floor, |(last, _)| *last) + 1;
        Self { entries, floor, next, vote: log.slot(Slot::Vote).map(|vote| vote[0]) }
    }

    fn apply(&mut self, step: &Step, salt: u64) -> Vec<(LogIndex, Bytes)> {
        match step {
            Step::Append(count) => {
                let new = |n| (LogIndex(n), Bytes::from(format!("{n} of {salt} {}", "y".repeat(n as usize % 40))));
                let batch: Vec<_> = (self.next..self.next + count).map(new).collect();
                self.entries.extend(batch.iter().map(|(n, e)| (n.0, e.clone())));
                self.next += count;
                return batch;
            }
            Step::Truncate(back) => {
                let from = self.next.saturating_sub(*back).max(self.floor + 1);
                self.entries.retain(|n, _| *n < from);
                self.next = self.next.min(from);
            }
            Step::Purge(ahead) => {
                self.floor += ahead;
                self.entries.retain(|n, _| *n > self.floor);
                self.next = self.next.max(self.floor + 1);
            }
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Reopen => {}
        }
        Vec::new()
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..6).prop_map(Step::Append),
        1 => (1u64..8).prop_map(Step::Truncate),
        1 => (1u64..12).prop_map(Step::Purge),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => Just(Step::Reopen),
    ]
}

/// Runs `steps`, and returns what must be there and what may be there instead, when the disk fails on the way.
fn run(disk: &MemoryDisk, steps: &[Step]) -> (Model, Option<Model>) {
    let mut model = Model { next: 1, ..Model::default() };
    let mut log = match open(disk) {
        Ok(log) => log,
        Err(_) => return (model, None),
    };
    for (salt, step) in steps.iter().enumerate() {
        let mut after = model.clone();
        let batch = after.apply(step, salt as u64);
        let outcome = match step {
            Step::Append(_) => log.append(&batch),
            Step::Truncate(_) => log.truncate(LogIndex(after.next)),
            Step::Purge(_) => log.purge(LogIndex(after.floor), &after.floor.to_le_bytes()),
            Step::Vote(vote) => log.save(Slot::Vote, &[*vote]),
            Step::Reopen => open(disk).map(|opened| log = opened),
        };
        if outcome.is_err() {
            return (model, Some(after));
        }
        model = after;
        assert_eq!(Model::of(&log), model, "after {step:?}");
    }
    (model, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Invariant: at every cut, what was acknowledged is there; what was not is there whole, in part from its front, or
    /// not at all.
    #[test]
    fn a_cut_at_every_step_loses_nothing_that_was_acknowledged(
        steps in prop::collection::vec(step(), 1..14),
        seed: u64,
    ) {
        let disk = MemoryDisk::default();
        run(&disk, &steps);
        let total = disk.steps();
        let luck = Entropy::Seeded(Arc::new(seed.into()));
        for cut in 1..=total {
            let disk = MemoryDisk::default();
            disk.fail(Some(Fault::cut(cut)));
            let (sure, maybe) = run(&disk, &steps);
            let seed = (cut % 3 != 0).then(|| luck.u64());
            let after = disk.crash(seed);
            let found = Model::of(&open(&after).unwrap());
            let between = maybe.as_ref().is_some_and(|maybe| {
                let (short, long) = if sure.next <= maybe.next { (&sure, maybe) } else { (maybe, &sure) };
                let same = |n: &u64, e: &Bytes| long.entries.get(n).is_none_or(|entry| entry == e);
                // Part of an append or of a truncation, and a purge either done or not.
                found.next >= short.next && found.next <= long.next
                    && (found.floor == sure.floor || found.floor == maybe.floor)
                    && (found.vote == sure.vote || found.vote == maybe.vote)
                    && found.entries.iter().all(|(n, e)| same(n, e))
                    && short.entries.iter().all(|(n, e)| *n <= found.floor || found.entries.get(n) == Some(e))
            });
            prop_assert!(found == sure || between, "cut {cut}: found {found:?}\nsure {sure:?}\nmaybe {maybe:?}");
            // And it goes on from there.
            let mut log = open(&after).unwrap();
            log.append(&[(LogIndex(found.next), Bytes::from("goes on"))]).unwrap();
        }
    }
}

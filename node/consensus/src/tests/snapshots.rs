use flotilla_base::{ByteLen, LogIndex, NodeId, store::StoreError};
use openraft::storage::RaftStateMachine;

use super::world::{Machine, NODE, create, has_rule, state_hash};
use crate::{Consensus, StartError, state_machine::StateMachine, types::Vote};

async fn compacted(machine: &Machine) -> std::sync::Arc<Consensus> {
    let consensus = machine.founded().await;
    let wait = consensus.raft.wait(None);
    let mut n = 0;
    // Until the log has been cut at least once.
    while consensus.raft.metrics().borrow().purged.is_none() {
        create(&consensus, &format!("r{n}")).await.unwrap();
        n += 1;
        assert!(n < 50, "it was never compacted");
        tokio::task::yield_now().await;
    }
    wait.metrics(|now| now.snapshot.is_some(), "snapshot").await.unwrap();
    consensus
}

fn small() -> Machine {
    let mut machine = Machine::new(NODE);
    machine.config.compact_after = ByteLen::kib(2);
    machine
}

#[tokio::test(start_paused = true)]
async fn a_compacted_log_and_its_snapshot_are_the_whole_state() {
    let machine = small();
    let consensus = compacted(&machine).await;
    create(&consensus, "last").await.unwrap();
    let rules: Vec<_> = consensus.view().load().rules.iter().cloned().collect();
    assert!(consensus.log.purged().unwrap().index > 0);
    // The state was never made durable: what is left is the snapshot and the log after it.
    let after = machine.crash(None);
    drop(consensus);
    let again = after.start().await.unwrap();
    assert_eq!(again.view().load().rules.iter().cloned().collect::<Vec<_>>(), rules);
    create(&again, "more").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_state_is_rebuilt_and_a_lost_one_is_named() {
    let machine = small();
    let consensus = compacted(&machine).await;
    create(&consensus, "last").await.unwrap();
    consensus.stop().await;
    machine.stores.damage();
    let again = machine.start().await.unwrap();
    assert!(has_rule(&again, "last"));
    again.stop().await;

    for path in flotilla_runtime::Disk::list(&machine.disk, &Machine::dir().join("snapshot")).unwrap() {
        machine.disk.corrupt(&path, 200);
    }
    machine.stores.damage();
    let lost = machine.start().await.map(drop).unwrap_err();
    assert!(matches!(lost, StartError::StateLost { .. }), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_not_taken_for_an_empty_one() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    consensus.stop().await;
    let without_log = Machine { disk: flotilla_runtime::MemoryDisk::default(), ..machine };
    let lost = without_log.start().await.map(drop).unwrap_err();
    assert!(matches!(lost, StartError::LogLost { .. }), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn an_installed_snapshot_gives_the_same_state() {
    let leader = small();
    let consensus = compacted(&leader).await;
    let built = built(&consensus).await;
    let end = built.meta.last_log_id.unwrap();
    let hash = state_hash(&consensus);
    assert_eq!(LogIndex(end.index), consensus.view().load().applied);

    let other = Machine::new(NodeId(8));
    let learner = other.start().await.unwrap();
    let before = learner.view();
    let old = before.load();
    let vote = Vote::new_committed(consensus.status().term, NODE);
    learner.raft.install_full_snapshot(vote, built).await.unwrap();
    let mut view = learner.view();
    view.wait_until(|view| view.applied == LogIndex(end.index)).await.unwrap();
    assert_eq!(state_hash(&learner), hash);
    assert!(has_rule(&learner, "r0"));
    // It knows its leader and has no way to it.
    assert_eq!(learner.status().leader, Some(NODE));
    assert!(matches!(create(&learner, "forwarded").await, Err(crate::ProposeError::Unavailable(_))));
    assert!(learner.read_barrier().await.is_err());
    assert_eq!(old.tables().repository_count().unwrap(), 0, "an old view reads its own state");
    assert_eq!(other.stores.count(), 2);
    drop(old);
    assert_eq!(other.stores.count(), 1, "a replaced state goes with its last reader");

    learner.stop().await;
    let again = other.crash(None).start().await.unwrap();
    assert_eq!(state_hash(&again), hash);
    assert!(!again.status().is_leader);
}

async fn built(consensus: &Consensus) -> crate::types::Snapshot {
    let mut machine = StateMachine(consensus.state.clone());
    openraft::RaftSnapshotBuilder::build_snapshot(&mut machine.get_snapshot_builder().await).await.unwrap()
}

/// As a transfer would bring it, with one byte changed if asked for.
async fn received(member: &Consensus, sent: &crate::types::Snapshot, damaged: bool) -> crate::types::Snapshot {
    let mut bytes = vec![0; usize::try_from(sent.snapshot.0.len().unwrap()).unwrap()];
    assert_eq!(sent.snapshot.0.read_at(0, &mut bytes).unwrap(), bytes.len());
    if damaged {
        bytes[200] ^= 1;
    }
    let file = member.raft.begin_receiving_snapshot().await.unwrap();
    file.0.write_at(0, &bytes).unwrap();
    crate::types::Snapshot { meta: sent.meta.clone(), snapshot: file }
}

#[tokio::test(start_paused = true)]
async fn transfers_do_not_touch_each_other() {
    let consensus = compacted(&small()).await;
    let sent = built(&consensus).await;
    let other = Machine::new(NodeId(8));
    let learner = other.start().await.unwrap();
    let vote = Vote::new_committed(consensus.status().term, NODE);
    let first = received(&learner, &sent, false).await;
    let second = received(&learner, &sent, true).await;
    learner.raft.install_full_snapshot(vote, first).await.unwrap();
    assert_eq!(state_hash(&learner), state_hash(&consensus));
    drop(second);
    let files = flotilla_runtime::Disk::list(&other.disk, &Machine::dir().join("snapshot")).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_transfer_costs_a_start_and_nothing_else() {
    let consensus = compacted(&small()).await;
    let first = built(&consensus).await;
    create(&consensus, "more").await.unwrap();
    let second = built(&consensus).await;
    let other = Machine::new(NodeId(8));
    let learner = other.start().await.unwrap();
    let vote = Vote::new_committed(consensus.status().term, NODE);
    learner.raft.install_full_snapshot(vote, first).await.unwrap();
    let hash = state_hash(&learner);
    let damaged = received(&learner, &second, true).await;
    learner.raft.install_full_snapshot(vote, damaged).await.unwrap_err();
    let crate::Health::Stopped(reason) = learner.status().health else { panic!("still healthy") };
    assert!(reason.contains("snapshot"), "{reason}");
    learner.stop().await;

    let again = other.start().await.unwrap();
    assert_eq!(state_hash(&again), hash);
    let whole = received(&again, &second, false).await;
    again.raft.install_full_snapshot(vote, whole).await.unwrap();
    assert!(has_rule(&again, "more"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_builder_does_not_replace_a_newer_snapshot() {
    let consensus = compacted(&small()).await;
    let first = built(&consensus).await;
    create(&consensus, "more").await.unwrap();
    let second = built(&consensus).await;
    let end = second.meta.last_log_id;
    assert!(first.meta.last_log_id < end);

    let other = Machine::new(NodeId(8));
    let learner = other.start().await.unwrap();
    let vote = Vote::new_committed(consensus.status().term, NODE);
    learner.raft.install_full_snapshot(vote, first).await.unwrap();
    let mut slow = StateMachine(learner.state.clone()).get_snapshot_builder().await;
    learner.raft.install_full_snapshot(vote, second).await.unwrap();
    let returned = openraft::RaftSnapshotBuilder::build_snapshot(&mut slow).await.unwrap();
    assert_eq!(returned.meta.last_log_id, end);
    let files = flotilla_runtime::Disk::list(&other.disk, &Machine::dir().join("snapshot")).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(learner.state.snapshots.current().unwrap().unwrap().0.last_log_id, end);

    learner.stop().await;
    let without_state = Machine { stores: super::world::Stores::default(), ..other };
    let again = without_state.start().await.unwrap();
    assert!(has_rule(&again, "more"));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_finished_is_begun_again() {
    let machine = small();
    let consensus = machine.founded().await;
    machine.stores.melt(3);
    for n in 0..20 {
        create(&consensus, &format!("r{n}")).await.unwrap();
    }
    let wait = consensus.raft.wait(Some(std::time::Duration::from_secs(120)));
    wait.metrics(|now| now.snapshot.is_some(), "a snapshot in the end").await.unwrap();
    assert_eq!(machine.stores.melting(), 0);
    assert_eq!(consensus.status().health, crate::Health::Healthy);
}

/// The machine of a founded node that has stopped, after `change` of the row whose value `chosen` picks.
async fn changed(chosen: impl Fn(&Consensus) -> bytes::Bytes, change: impl Fn(&mut Vec<u8>)) -> Machine {
    use flotilla_base::store::{Batch, Table};
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    consensus.stop().await;
    let store = crate::home::Home::open(&machine.stores, 0).unwrap();
    let chosen = chosen(&consensus);
    let mut found = 0;
    for table in 0..=u8::MAX {
        for (key, value) in store.page(Table(table), &[], 1000).unwrap() {
            if value.ends_with(&chosen) {
                let (mut batch, mut value) = (Batch::default(), value.to_vec());
                change(&mut value);
                batch.put(Table(table), key, value);
                store.write(batch).unwrap();
                found += 1;
            }
        }
    }
    assert_eq!(found, 1);
    machine
}

fn mark(consensus: &Consensus) -> bytes::Bytes {
    consensus.state.applied().record.encode().unwrap()
}

fn meta(consensus: &Consensus) -> bytes::Bytes {
    flotilla_base::codec::encode(1, &consensus.view().load().meta).unwrap().into()
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_mark_of_what_is_applied_is_a_damaged_state() {
    let machine = changed(mark, |row| row.truncate(3)).await;
    // The log still has everything: it is rebuilt.
    let again = machine.start().await.unwrap();
    assert!(again.view().load().is_founded());
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_program_wrote_is_not_taken_for_damage() {
    let unknown = |error: &StartError| matches!(error, StartError::State(StoreError::UnknownVersion { .. }));
    let is_downgrade = |error: &StartError| matches!(error, StartError::Downgrade { .. });
    // A row, and the mark within its row.
    let row = changed(meta, |row| row[0] = 9).await;
    let own = changed(mark, |row| row[1] = 9).await;
    // The cluster's version speaks before a row that cannot be read.
    let level = changed(meta, |row| {
        let mut newer: flotilla_state::Meta = flotilla_base::codec::decode(ByteLen::kib(1), row).unwrap().1;
        newer.cluster_version += 1;
        *row = flotilla_base::codec::encode(1, &newer).unwrap();
    })
    .await;
    let store = crate::home::Home::open(&level.stores, 0).unwrap();
    let mut batch = flotilla_base::store::Batch::default();
    batch.put(flotilla_state::TABLES[2], *b"settings", "unreadable");
    store.write(batch).unwrap();
    for (machine, expected) in
        [(row, &unknown as &dyn Fn(&StartError) -> bool), (own, &unknown), (level, &is_downgrade)]
    {
        let rows = |machine: &Machine| {
            let store = crate::home::Home::open(&machine.stores, 0).unwrap();
            flotilla_state::TABLES.map(|table| store.page(table, &[], 1000).unwrap())
        };
        let before = rows(&machine);
        let error = machine.start().await.map(drop).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(rows(&machine), before, "the state is left as it was");
        assert_eq!(machine.stores.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_melts_again_and_again_is_written_while_nothing_is_applied() {
    let machine = small();
    let consensus = machine.founded().await;
    let state = std::sync::Arc::downgrade(&consensus.state);
    machine.stores.melt_while(move || state.upgrade().is_some_and(|state| state.applied.try_lock().is_ok()));
    for n in 0..20 {
        create(&consensus, &format!("r{n}")).await.unwrap();
    }
    let wait = consensus.raft.wait(Some(std::time::Duration::from_secs(120)));
    wait.metrics(|now| now.purged.is_some(), "the log is cut").await.unwrap();
}

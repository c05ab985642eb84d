//! The disk is cut at each of its mutating steps in turn; whatever had been acknowledged is there afterwards.

use flotilla_base::{ByteLen, NodeId};
use flotilla_runtime::Fault;
use flotilla_state::StateHash;
use openraft::{RaftSnapshotBuilder, storage::RaftStateMachine};

use super::world::{Machine, NODE, create, founding, has_rule, state_hash};
use crate::{
    state_machine::StateMachine,
    types::{Snapshot, SnapshotFile, Vote},
};

struct Acknowledged {
    founded: bool,
    rules: Vec<String>,
    compacted: bool,
}

/// As far as the disk lets it.
async fn work(machine: &Machine) -> Acknowledged {
    let mut done = Acknowledged { founded: false, rules: Vec::new(), compacted: false };
    let Ok(consensus) = machine.start().await else { return done };
    if consensus.found(founding(NODE)).await.is_err() {
        return done;
    }
    done.founded = true;
    for n in 0..24 {
        let name = format!("r{n}");
        match create(&consensus, &name).await {
            Ok(_) => done.rules.push(name),
            Err(_) => break,
        }
        // Lets a compaction run between the proposals.
        tokio::task::yield_now().await;
    }
    done.compacted = consensus.log.purged().is_some();
    done
}

fn machine() -> Machine {
    let mut machine = Machine::new(NODE);
    machine.config.compact_after = ByteLen::kib(2);
    machine
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_cut_at_any_step_loses_nothing_acknowledged() {
    let whole = machine();
    whole.disk.fail(None);
    let all = work(&whole).await;
    assert_eq!(all.rules.len(), 24);
    assert!(all.compacted, "the steps of snapshot and purge are among those that are cut");
    let steps = whole.disk.steps();
    assert!((60..2_000).contains(&steps), "{steps}");

    for step in 1..=steps {
        let machine = machine();
        machine.disk.fail(Some(Fault::cut(step)));
        let done = work(&machine).await;
        for seed in [None, Some(step)] {
            let after = machine.crash(seed);
            let again = match after.start().await {
                Ok(again) => again,
                Err(error) => panic!("cut at step {step}, seed {seed:?}: {error}"),
            };
            // An unknown outcome may be either, and can be finished.
            if !again.view().load().is_founded() {
                assert!(!done.founded, "cut at step {step}, seed {seed:?}");
                again.found(founding(NODE)).await.unwrap();
            }
            for name in &done.rules {
                assert!(has_rule(&again, name), "{name} is lost, cut at step {step}, seed {seed:?}");
            }
            create(&again, "after").await.unwrap();
        }
    }
}

/// A member that is behind, and what brings it up: two snapshots, the later with the hash of its state.
struct Behind {
    machine: Machine,
    vote: Vote,
    later: Snapshot,
    hash: StateHash,
}

fn again(snapshot: &Snapshot) -> Snapshot {
    Snapshot { meta: snapshot.meta.clone(), snapshot: Box::new(SnapshotFile(snapshot.snapshot.0.clone())) }
}

/// With a state of its own from an earlier snapshot, or with nothing.
async fn behind(has_state: bool) -> Behind {
    let leading = machine();
    let leader = leading.founded().await;
    let mut snapshots = Vec::new();
    for name in ["early", "late"] {
        create(&leader, name).await.unwrap();
        let mut builder = StateMachine(leader.state.clone()).get_snapshot_builder().await;
        snapshots.push(builder.build_snapshot().await.unwrap());
    }
    let vote = Vote::new_committed(leader.status().term, NODE);
    let (later, earlier) = (snapshots.pop().unwrap(), snapshots.pop().unwrap());
    let machine = Machine::new(NodeId(8));
    if has_state {
        let member = machine.start().await.unwrap();
        member.raft.install_full_snapshot(vote, earlier).await.unwrap();
        member.stop().await;
    }
    Behind { machine, vote, later, hash: state_hash(&leader) }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_cut_while_a_snapshot_is_installed_takes_it_later() {
    for has_state in [false, true] {
        for step in 1.. {
            let Behind { machine, vote, later, hash } = behind(has_state).await;
            let member = machine.start().await.unwrap();
            machine.disk.fail(Some(Fault::cut(step)));
            let installed = member.raft.install_full_snapshot(vote, again(&later)).await.is_ok();
            // Nothing hangs on an install that failed.
            member.stop().await;
            let uncut = machine.disk.steps() < step;
            assert!(installed || !uncut);
            for seed in [None, Some(step)] {
                let at = format!("state {has_state}, cut at step {step}, seed {seed:?}");
                let member = match machine.crash(seed).start().await {
                    Ok(member) => member,
                    Err(error) => panic!("{at}: {error}"),
                };
                if installed {
                    assert!(state_hash(&member) == hash, "{at}");
                } else if has_state {
                    assert!(has_rule(&member, "early"), "{at}");
                }
                member.raft.install_full_snapshot(vote, again(&later)).await.unwrap();
                assert!(state_hash(&member) == hash && has_rule(&member, "late"), "{at}");
                assert_eq!(member.status().health, crate::Health::Healthy, "{at}");
            }
            if uncut {
                assert!(step > 15, "{step}");
                break;
            }
        }
    }
}

use flotilla_base::LogIndex;
use flotilla_registry::Refusal;
use flotilla_runtime::Host;
use openraft::EmptyNode;
use prometheus_client::registry::Registry;

use super::world::{Machine, NODE, create, founding, has_rule, state_hash};
use crate::{Consensus, ConsensusConfig, Health, Parts, ProposeError, StartError};

#[tokio::test(start_paused = true)]
async fn a_founded_node_finds_everything_again() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    assert!(consensus.view().load().is_founded());
    create(&consensus, "hub").await.unwrap();
    let hash = state_hash(&consensus);
    consensus.stop().await;
    assert_eq!(create(&consensus, "late").await, Err(ProposeError::Stopped));

    let again = machine.start().await.unwrap();
    assert!(has_rule(&again, "hub"));
    assert!(again.status().is_leader);
    assert_eq!(again.status().health, Health::Healthy);
    // The tick of the start changes the numbers of the state, not its rules.
    assert_ne!(state_hash(&again), hash);
    create(&again, "quay").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_start_without_a_stop() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    create(&consensus, "hub").await.unwrap();
    let after = machine.crash(None);
    drop(consensus);
    let again = after.start().await.unwrap();
    assert!(has_rule(&again, "hub"));
}

#[tokio::test(start_paused = true)]
async fn a_second_founding_is_refused_and_a_cut_one_is_finished() {
    let machine = Machine::new(NODE);
    let consensus = machine.start().await.unwrap();
    assert!(!consensus.status().is_leader);
    // A crash after the group was formed and before its first command.
    consensus.raft.initialize(std::collections::BTreeMap::from([(NODE, EmptyNode {})])).await.unwrap();
    consensus.raft.shutdown().await.unwrap();
    let machine = machine.crash(None);
    let consensus = machine.start().await.unwrap();
    assert!(!consensus.view().load().is_founded());
    consensus.found(founding(NODE)).await.unwrap();
    assert!(consensus.view().load().is_founded());
    let second = consensus.found(founding(NODE)).await;
    assert_eq!(second, Err(ProposeError::Refused(Refusal::AlreadyFounded)));
}

#[tokio::test(start_paused = true)]
async fn two_foundings_at_once_make_one_cluster() {
    let consensus = Machine::new(NODE).start().await.unwrap();
    let (one, two) = tokio::join!(consensus.found(founding(NODE)), consensus.found(founding(NODE)));
    let refused = Err(ProposeError::Refused(Refusal::AlreadyFounded));
    assert!([(Ok(()), refused.clone()), (refused, Ok(()))].contains(&(one, two)));
}

#[tokio::test(start_paused = true)]
async fn each_start_has_a_number_of_its_own() {
    let machine = Machine::new(NODE);
    let dir = Machine::dir();
    let boots: Vec<u64> = (0..3).map(|_| crate::boot::next_boot(&machine.disk, &dir).unwrap().0).collect();
    assert_eq!(boots, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_barrier_shows_what_was_acknowledged_and_ends_without_a_leader() {
    let machine = Machine::new(NODE);
    let consensus = machine.start().await.unwrap();
    assert!(consensus.read_barrier().await.is_err(), "nobody leads");
    consensus.found(founding(NODE)).await.unwrap();
    create(&consensus, "hub").await.unwrap();
    let last = consensus.status().last_log.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let consensus = consensus.clone();
        all.spawn(async move { consensus.read_barrier().await });
    }
    while let Some(done) = all.join_next().await {
        assert!(done.unwrap().unwrap() >= last);
    }
    assert!(last > LogIndex(0));
    consensus.stop().await;
    assert!(consensus.read_barrier().await.is_err());
}

async fn on_disk(dir: &std::path::Path) -> Result<std::sync::Arc<Consensus>, StartError> {
    let parts = Parts { node: NODE, host: Host::system(), dir: dir.to_owned(), config: ConsensusConfig::default() };
    Consensus::start(parts, &mut Registry::default()).await
}

/// openraft's tasks let go of the state a moment after they were told to end.
async fn on_disk_again(dir: &std::path::Path) -> std::sync::Arc<Consensus> {
    loop {
        match on_disk(dir).await {
            Err(StartError::InUse(_)) => tokio::task::yield_now().await,
            other => return other.unwrap(),
        }
    }
}

#[tokio::test]
async fn on_a_real_disk_with_sled_the_same_holds() {
    let dir = tempfile::tempdir().unwrap();
    let consensus = on_disk(dir.path()).await.unwrap();
    consensus.found(founding(NODE)).await.unwrap();
    create(&consensus, "hub").await.unwrap();
    assert!(matches!(on_disk(dir.path()).await, Err(StartError::InUse(_))), "a folder has one node");
    consensus.stop().await;
    drop(consensus);
    let again = on_disk_again(dir.path()).await;
    assert!(has_rule(&again, "hub"));
    create(&again, "quay").await.unwrap();
}

#[tokio::test]
async fn a_damaged_sled_is_set_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let consensus = on_disk(dir.path()).await.unwrap();
    consensus.found(founding(NODE)).await.unwrap();
    create(&consensus, "hub").await.unwrap();
    consensus.stop().await;
    drop(consensus);
    // Only with the state's lock is it closed.
    drop(on_disk_again(dir.path()).await);
    let state = dir.path().join("state");
    while let Err(StartError::InUse(_)) = crate::home::SledHome::open(&state).map(drop) {
        tokio::task::yield_now().await;
    }
    for file in ["conf", "db"] {
        std::fs::write(state.join("0").join(file), vec![0x5a; 4096]).unwrap();
    }
    let again = on_disk_again(dir.path()).await;
    assert!(has_rule(&again, "hub"));
    assert!(state.join("damaged").join("db").exists());
    assert!(!state.join("0").exists());
}

#[tokio::test(start_paused = true)]
async fn figures_have_their_names() {
    let machine = Machine::new(NODE);
    let mut registry = Registry::default();
    let parts = Parts { node: NODE, host: machine.host(), dir: Machine::dir(), config: machine.config.clone() };
    let consensus = crate::start::start(parts, std::sync::Arc::new(machine.stores), &mut registry).await.unwrap();
    consensus.found(founding(NODE)).await.unwrap();
    let mut view = consensus.raft.metrics();
    // The keeper has seen the leader when it has seen a later change.
    while !text(&registry).contains("flotilla_raft_has_leader 1") {
        create(&consensus, "hub").await.ok();
        view.changed().await.unwrap();
    }
    let text = text(&registry);
    for name in ["flotilla_raft_apply_lag_entries", "flotilla_raft_log_bytes", "flotilla_raft_stopped 0"] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

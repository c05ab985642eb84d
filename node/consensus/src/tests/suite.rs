//! openraft's own judgement of a log and a state machine.

use std::{path::Path, sync::Arc};

use flotilla_base::NodeId;
use flotilla_runtime::Host;
use flotilla_storage::SegmentLogConfig;
use openraft::testing::{StoreBuilder, Suite};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::watch;

use super::world::Machine;
use crate::{
    ConsensusConfig,
    builder::Control,
    halt::Halt,
    home::{Home, SledHome},
    log_store::LogStore,
    metrics::Metrics,
    recover::recover,
    state_machine::StateMachine,
    types::{LogId, StorageError, TypeConfig},
};

fn control() -> Control {
    Control { stopping: watch::channel(false).1, metrics: Metrics::register(&mut Registry::default()) }
}

/// The suite cuts logs that no snapshot stands in for.
fn log_alone(host: &Host, dir: &Path, whole: LogStore) -> LogStore {
    drop(whole);
    let everything = LogId { index: u64::MAX, ..LogId::default() };
    let everything = LogId { leader_id: openraft::LeaderId::new(u64::MAX, NodeId(u64::MAX)), ..everything };
    let end = watch::channel(Some(everything)).1;
    let (dir, config) = (dir.join("raft"), SegmentLogConfig::default());
    LogStore::open(host.disk.clone(), host.blocking, &dir, config, Halt::default(), end).unwrap()
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ()> for InMemory {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError> {
        let machine = Machine::new(NodeId(0));
        let home: Arc<dyn Home> = Arc::new(machine.stores.clone());
        let found = recover(&machine.host(), &Machine::dir(), &machine.config, home, control()).unwrap();
        let log = log_alone(&machine.host(), &Machine::dir(), found.log);
        Ok(((), log, found.state))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let home: Arc<dyn Home> = Arc::new(SledHome::open(&dir.path().join("state")).unwrap());
        let found = recover(&Host::system(), dir.path(), &ConsensusConfig::default(), home, control()).unwrap();
        let log = log_alone(&Host::system(), dir.path(), found.log);
        Ok((dir, log, found.state))
    }
}

#[test]
fn log_and_state_machine_pass_the_suite_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn log_and_state_machine_pass_the_suite_on_disk() {
    Suite::test_all(OnDisk).unwrap();
}

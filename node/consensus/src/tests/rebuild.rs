//! A state that turns out to be damaged only when it is in use, or after a stop that was none.

use flotilla_base::store::{Batch, Store};

use super::world::{Machine, NODE, Sick, create, has_rule};
use crate::{Health, home::Home};

#[tokio::test(start_paused = true)]
async fn damage_that_an_entry_meets_is_repaired_by_the_next_start() {
    for sick in [Sick::Damage, Sick::Panic] {
        let machine = Machine::new(NODE);
        let consensus = machine.founded().await;
        create(&consensus, "hub").await.unwrap();
        machine.stores.sicken(Some(sick));
        create(&consensus, "quay").await.unwrap_err();
        assert!(matches!(consensus.status().health, Health::Stopped(_)), "{sick:?}");
        consensus.stop().await;
        // It can be opened and read; only the mark tells.
        machine.stores.sicken(None);
        let again = machine.start().await.unwrap();
        assert_eq!(again.state.applied().generation.number(), 1, "{sick:?}");
        // The entry had been committed.
        assert!(has_rule(&again, "hub") && has_rule(&again, "quay"), "{sick:?}");
        again.stop().await;
        let third = machine.start().await.unwrap();
        assert_eq!(third.state.applied().generation.number(), 1, "it is rebuilt once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_no_damage() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    machine.stores.sicken(Some(Sick::Full));
    create(&consensus, "quay").await.unwrap_err();
    consensus.stop().await;
    machine.stores.sicken(None);
    let again = machine.start().await.unwrap();
    assert_eq!(again.state.applied().generation.number(), 0);
    assert!(has_rule(&again, "quay"));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_a_crash_lost_is_missed() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    create(&consensus, "hub").await.unwrap();
    consensus.state.applied().generation.durable().unwrap();
    let whole = machine.crash(None).start().await.unwrap();
    assert_eq!(whole.state.applied().generation.number(), 0);

    let machine = machine.crash(None);
    let store = machine.stores.open(0).unwrap();
    let rules = flotilla_state::TABLES[3];
    let (key, _) = store.page(rules, &[], 1).unwrap().remove(0);
    let mut batch = Batch::default();
    batch.remove(rules, key);
    store.write(batch).unwrap();
    let again = machine.start().await.unwrap();
    assert_eq!(again.state.applied().generation.number(), 1);
    assert!(has_rule(&again, "hub"));
}

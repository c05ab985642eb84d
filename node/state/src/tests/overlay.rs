use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_base::{
    LogIndex,
    store::{Batch, Memory, PAGE_BYTES, Rows, Store, Table},
};
use proptest::prelude::*;

use crate::{Changes, Overlay, Tables, View, format, tests::support::*};

const TABLES: [Table; 3] = [Table(6), Table(7), Table(255)];

/// A table, a key of few, and a new value or none.
fn write() -> impl Strategy<Value = (usize, Vec<u8>, Option<u8>)> {
    (0..TABLES.len(), prop::collection::vec(0u8..3, 0..3), any::<Option<u8>>())
}

proptest! {
    /// Base, then writes over it, then queries: as if it were one map.
    #[test]
    fn an_overlay_reads_as_one_map(
        base in prop::collection::vec(write(), 0..40),
        over in prop::collection::vec(write(), 0..40),
        from in prop::collection::vec(0u8..3, 0..3),
        limit in 0usize..12,
    ) {
        let store = Memory::default();
        let mut model: BTreeMap<(Table, Vec<u8>), Bytes> = BTreeMap::new();
        let mut batch = Batch::default();
        for (table, key, value) in base {
            let value = value.map(|byte| Bytes::from(vec![byte]));
            batch.0.insert((TABLES[table], key), value);
        }
        for (key, value) in &batch.0 {
            value.clone().map(|value| model.insert(key.clone(), value));
        }
        store.write(batch).unwrap();
        let mut overlay = Overlay::over(&store).unwrap();
        for (table, key, value) in over {
            let (table, value) = (TABLES[table], value.map(|byte| Bytes::from(vec![byte])));
            overlay.write(table, key.clone(), value.clone()).unwrap();
            match value {
                Some(value) => model.insert((table, key), value),
                None => model.remove(&(table, key)),
            };
        }
        for table in TABLES {
            prop_assert_eq!(overlay.get(table, &from).unwrap(), model.get(&(table, from.clone())).cloned());
            let rows = model.iter().filter(|((t, key), _)| *t == table && *key >= from);
            let expected: Vec<_> = rows.take(limit).map(|((_, k), v)| (Bytes::from(k.clone()), v.clone())).collect();
            prop_assert_eq!(overlay.page(table, &from, limit).unwrap(), expected);
        }
    }
}

#[test]
fn a_page_is_read_on_when_writes_removed_its_rows() {
    let store = Memory::default();
    let mut batch = Batch::default();
    for n in 0u8..50 {
        batch.put(Table(6), [n], "x");
    }
    store.write(batch).unwrap();
    let mut overlay = Overlay::over(&store).unwrap();
    for n in 0u8..48 {
        overlay.remove(Table(6), vec![n]).unwrap();
    }
    let keys: Vec<Bytes> = overlay.page(Table(6), &[], 2).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [Bytes::from_static(&[48]), Bytes::from_static(&[49])]);
}

#[test]
fn long_rows_make_short_pages_and_none_is_left_out() {
    let store = Memory::default();
    let long = Bytes::from(vec![7; PAGE_BYTES / 4]);
    let mut batch = Batch::default();
    for n in (0u8..40).step_by(2) {
        batch.put(Table(6), [n], long.clone());
    }
    store.write(batch).unwrap();
    let mut overlay = Overlay::over(&store).unwrap();
    for n in (1u8..50).step_by(2) {
        overlay.write(Table(6), vec![n], Some(long.clone())).unwrap();
    }
    let expected: Vec<u8> = (0..50).filter(|n| n % 2 == 1 || *n < 40).collect();
    let (mut keys, mut from) = (Vec::new(), Vec::new());
    loop {
        let page = overlay.page(Table(6), &from, 1000).unwrap();
        assert!(page.len() <= 4);
        let Some((last, _)) = page.last() else { break };
        from = [last, [0].as_slice()].concat();
        keys.extend(page.iter().map(|(key, _)| key[0]));
    }
    assert_eq!(keys, expected);
    let listed = overlay.tables().under(Table(6), &[], None, 1000).unwrap();
    assert_eq!(listed.len(), expected.len(), "a list is as long as it was asked for");
    assert_eq!(overlay.tables().under(Table(6), &[], None, 7).unwrap().len(), 7);
}

#[test]
fn an_unchanged_row_is_no_write() {
    let store = Memory::default();
    let mut overlay = Overlay::over(&store).unwrap();
    overlay.put(format::SETTINGS, b"x".to_vec(), &1u8).unwrap();
    let (batch, changes, hash) = overlay.finish(LogIndex(1), None);
    assert!(changes.settings);
    store.write(batch).unwrap();
    let mut overlay = Overlay::over(&store).unwrap();
    overlay.put(format::SETTINGS, b"x".to_vec(), &1u8).unwrap();
    let (_, changes, again) = overlay.finish(LogIndex(2), None);
    assert_eq!((changes, again), (Changes::default(), hash));
}

#[test]
fn what_consensus_keeps_stays_until_it_has_more() {
    let store = Memory::default();
    for (index, extra) in [(1, Some("first")), (2, None)] {
        let (batch, _, hash) = Overlay::over(&store).unwrap().finish(LogIndex(index), extra.map(Bytes::from));
        store.write(batch).unwrap();
        let tables = Tables::of(&store);
        assert_eq!(tables.applied().unwrap(), Some(LogIndex(index)));
        assert_eq!(tables.consensus_record().unwrap(), Some(Bytes::from("first")));
        assert_eq!(hash, Default::default(), "each node's own bookkeeping is not hashed");
    }
}

#[test]
fn a_view_reloads_what_changed_and_shares_the_rest() {
    let mut world = World::new();
    let before = View::load(std::sync::Arc::new(world.replica.store.clone())).unwrap();
    assert!(before.is_founded() && before.rules.get(&prefix("hub")).is_some());
    assert_eq!(before.applied, LogIndex(2));
    world.now = world.now.plus(std::time::Duration::from_secs(1));
    world.ok(crate::Op::CreateCacheRule(Box::new(rule("quay"))));
    let changes = Changes { rules: true, ..Changes::default() };
    let after = before.after(LogIndex(3), changes).unwrap();
    assert!(after.rules.get(&prefix("quay")).is_some() && before.rules.get(&prefix("quay")).is_none());
    assert!(std::sync::Arc::ptr_eq(&before.templates, &after.templates));
    assert!(std::sync::Arc::ptr_eq(&before.settings, &after.settings));
    assert_eq!((after.applied, after.meta.time), (LogIndex(3), world.now));
    let shared = before.after(LogIndex(3), Changes::default()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before.rules, &shared.rules));
}

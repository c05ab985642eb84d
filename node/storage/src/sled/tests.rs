use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use flotilla_base::store::check_contract;

use super::*;

const T: Table = Table(3);
const NEVER: Threshold = Threshold { disk_bytes: u64::MAX, times_live: 4 };

fn store() -> (tempfile::TempDir, PathBuf, Sled) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let store = Sled::open(&dir).unwrap();
    (folder, dir, store)
}

fn put(store: &Sled, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
    let mut batch = Batch::default();
    batch.put(T, key, value);
    store.write(batch).unwrap();
}

#[test]
fn sled_keeps_the_contract() {
    let (_folder, _, store) = store();
    check_contract(&store).unwrap();
    assert_eq!(store.0.db.len(), 2, "no piece of a removed value is left beside the rows of other tables");
}

#[test]
fn a_value_that_shrinks_or_goes_leaves_no_piece_behind() {
    let (_folder, _, store) = store();
    for (len, items) in [(100_000, 8), (40_000, 4), (16_384, 1), (16_385, 3), (0, 1)] {
        put(&store, "key", vec![7; len]);
        assert_eq!(store.get(T, b"key").unwrap().unwrap().len(), len);
        assert_eq!(store.0.db.len(), items, "{len}");
    }
}

#[test]
fn keys_that_begin_alike_keep_their_order_and_their_own_pieces() {
    let (_folder, _, store) = store();
    let keys: [&[u8]; 5] = [b"", b"a", b"a\0", b"a\0\0\0\0\0", b"b"];
    for key in keys {
        put(&store, key, [key, &[9; 20_000]].concat());
    }
    let page = store.page(T, b"", 10).unwrap();
    assert_eq!(page.len(), keys.len());
    for ((key, value), want) in page.iter().zip(keys) {
        assert_eq!(key, want);
        assert_eq!(&value[..want.len()], want);
    }
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let (_folder, dir, store) = store();
    put(&store, "key", vec![1; 50_000]);
    store.durable().unwrap();
    drop(store);
    assert_eq!(Sled::open(&dir).unwrap().get(T, b"key").unwrap().unwrap(), vec![1; 50_000]);
}

#[test]
fn a_store_of_which_little_lives_is_rewritten() {
    let (_folder, dir, store) = store();
    for n in 0..200u32 {
        put(&store, n.to_be_bytes(), vec![n as u8; 40_000]);
    }
    for n in 2..200u32 {
        let mut batch = Batch::default();
        batch.remove(T, n.to_be_bytes());
        store.write(batch).unwrap();
    }
    store.durable().unwrap();
    drop(store);
    let size = || fs::metadata(dir.join("db")).unwrap().len();
    let before = size();
    drop(Sled::open_with(&dir, NEVER, FROZEN_BYTES).unwrap());
    assert!(size() * 2 > before, "a store below the threshold stays as it is");
    let store = Sled::open_with(&dir, Threshold { disk_bytes: 1 << 20, times_live: 4 }, FROZEN_BYTES).unwrap();
    assert!(size() * 2 < before, "{} of {before}", size());
    assert_eq!(store.page(T, &[], 10).unwrap().len(), 2);
    assert_eq!(store.get(T, &1u32.to_be_bytes()).unwrap().unwrap(), vec![1; 40_000]);
}

#[test]
fn a_rewrite_cut_between_its_renames_is_taken_back() {
    let (_folder, dir, store) = store();
    put(&store, "key", "value");
    store.durable().unwrap();
    drop(store);
    fs::rename(&dir, dir.with_extension("old")).unwrap();
    fs::create_dir(dir.with_extension("new")).unwrap();
    let store = Sled::open(&dir).unwrap();
    assert_eq!(store.get(T, b"key").unwrap().unwrap(), "value");
    assert!(!dir.with_extension("new").exists() && !dir.with_extension("old").exists());
}

#[test]
fn a_store_that_another_holds_is_an_error() {
    let (_folder, dir, _store) = store();
    assert!(matches!(Sled::open(&dir), Err(StoreError::Io { .. })));
}

#[test]
fn a_panic_of_sled_at_open_is_an_error() {
    assert!(matches!(caught(|| panic!("damaged log")), Err(StoreError::Io { .. })));
}

#[test]
fn a_frozen_view_does_not_move_while_others_write() {
    const KEYS: u32 = 3_000;
    let (_folder, _, store) = store();
    let value = |round: u32| Bytes::from(round.to_be_bytes().to_vec());
    let round = |round: u32| {
        let mut batch = Batch::default();
        // Each round holds every second key, with its number.
        for n in (0..KEYS).filter(|n| n % 2 == round % 2) {
            batch.put(T, n.to_be_bytes(), value(round));
        }
        for n in (0..KEYS).filter(|n| n % 2 != round % 2) {
            batch.remove(T, n.to_be_bytes());
        }
        store.write(batch).unwrap();
    };
    round(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(round);
        });
        for _ in 0..20 {
            let frozen = store.freeze().unwrap();
            let mut rows = Vec::new();
            let mut from = Vec::new();
            loop {
                let page = frozen.page(T, &from, 100).unwrap();
                let Some((last, _)) = page.last() else { break };
                from = [last.as_ref(), &[0]].concat();
                rows.extend(page);
            }
            assert_eq!(rows.len() as u32, KEYS / 2);
            let first = rows[0].1.clone();
            assert!(rows.iter().all(|(_, value)| *value == first), "rows of one round only");
            assert_eq!(frozen.get(T, &rows[7].0).unwrap().unwrap(), first);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_view_that_costs_more_than_its_budget_is_spent_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sled::open_with(&folder.path().join("state"), NEVER, 100_000).unwrap();
    for n in 0..20u32 {
        put(&store, n.to_be_bytes(), vec![1; 10_000]);
    }
    let frozen = store.freeze().unwrap();
    for n in 0..20u32 {
        put(&store, n.to_be_bytes(), vec![2; 10_000]);
    }
    assert!(matches!(frozen.page(T, &[], 10), Err(StoreError::FrozenTooLong)));
    assert!(matches!(frozen.get(T, &0u32.to_be_bytes()), Err(StoreError::FrozenTooLong)));
    assert_eq!(store.freeze().unwrap().page(T, &[], 100).unwrap().len(), 20);
}

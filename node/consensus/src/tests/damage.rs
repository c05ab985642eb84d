use std::path::Path;

use flotilla_base::store::{Batch, Memory, Rows, Store, Table};
use flotilla_runtime::{Disk, MemoryDisk};
use proptest::prelude::*;

use crate::{record::Record, snapshot};

fn rows(memory: &Memory) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in 0..=u8::MAX {
        let page = memory.page(Table(table), &[], 1000).unwrap();
        all.extend(page.into_iter().map(|(key, value)| (table, key.to_vec(), value.to_vec())));
    }
    all
}

fn written(memory: &Memory) -> (MemoryDisk, std::path::PathBuf) {
    let disk = MemoryDisk::default();
    let folder = snapshot::Folder::open(std::sync::Arc::new(disk.clone()), "/s".into()).unwrap();
    let mut meta = Record::default().snapshot_meta();
    meta.snapshot_id = "one".into();
    folder.write(&meta, memory).unwrap();
    (disk, Path::new("/s/one.snapshot").to_owned())
}

fn sample() -> Memory {
    let memory = Memory::default();
    let mut batch = Batch::default();
    for n in 0u8..20 {
        batch.put(Table(n % 3), vec![n], vec![n; 10]);
    }
    memory.write(batch).unwrap();
    memory
}

#[test]
fn no_changed_byte_of_a_snapshot_goes_unseen() {
    let memory = sample();
    let (disk, path) = written(&memory);
    let len = disk.open(&path).unwrap().len().unwrap();
    for offset in 0..usize::try_from(len).unwrap() {
        disk.corrupt(&path, offset);
        let loaded = snapshot::load(&*disk.open(&path).unwrap(), &Memory::default());
        assert!(loaded.is_err(), "byte {offset} of {len}");
        disk.corrupt(&path, offset);
    }
    for cut in 0..len {
        let file = disk.create(Path::new("/s/cut")).unwrap();
        let mut bytes = vec![0; usize::try_from(cut).unwrap()];
        disk.open(&path).unwrap().read_at(0, &mut bytes).unwrap();
        file.write_at(0, &bytes).unwrap();
        assert!(snapshot::load(&*file, &Memory::default()).is_err(), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_snapshot_gives_back_the_rows(
        given in proptest::collection::btree_map((0u8..4, proptest::collection::vec(any::<u8>(), 0..5)), 0usize..40_000, 0..300)
    ) {
        let memory = Memory::default();
        let mut batch = Batch::default();
        for ((table, key), len) in given {
            batch.put(Table(table), key, vec![7; len]);
        }
        memory.write(batch).unwrap();
        let (disk, path) = written(&memory);
        let back = Memory::default();
        snapshot::load(&*disk.open(&path).unwrap(), &back).unwrap();
        prop_assert_eq!(rows(&memory), rows(&back));
    }
}

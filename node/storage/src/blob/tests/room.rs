//! Who goes when there is no room, and that nothing else does.

use std::sync::Mutex;

use super::*;
use crate::test_disk::TestDisk;

/// Beyond the window of one use.
const LATER: Duration = Duration::from_secs(61);

/// Says no for what a test names.
#[derive(Default)]
struct Only(Mutex<Vec<Digest>>);

impl Evictable for Only {
    fn evictable(&self, digests: &[Digest]) -> Vec<bool> {
        let kept = self.0.lock().unwrap();
        digests.iter().map(|digest| !kept.contains(digest)).collect()
    }
}

fn small() -> BlobConfig {
    BlobConfig { max_bytes: ByteLen(1000), ..config() }
}

async fn open_small(disk: &(impl Disk + Clone), registry: &mut Registry) -> BlobStore {
    BlobStore::open(host(disk), small(), Arc::new(Everything), registry).await.unwrap()
}

fn metric(registry: &Registry, name: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

/// As `transfer` does it: from here, or by a fill; whether it is kept.
async fn pull(store: &BlobStore, bytes: &Bytes) -> bool {
    match store.find(&sha256(bytes)).await.unwrap() {
        Found::Sealed(reader) => {
            assert_eq!(read(reader).await.unwrap(), *bytes);
            true
        }
        Found::Partial(_) => panic!("partial"),
        Found::Absent => match fill(store, bytes).await {
            Ok(_) => true,
            Err(StorageError::Full { .. }) => false,
            Err(other) => panic!("{other}"),
        },
    }
}

async fn holds(store: &BlobStore, bytes: &Bytes) -> bool {
    matches!(store.look(&sha256(bytes)).await.unwrap(), Found::Sealed(_))
}

async fn later() {
    tokio::time::advance(LATER).await;
    // For the task that writes marks.
    tokio::task::yield_now().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_blobs_pulled_once_displaces_none_that_was_pulled_twice() {
    let (disk, mut registry) = (MemoryDisk::default(), Registry::default());
    let store = open_small(&disk, &mut registry).await;
    let twice = content(500, 1);
    assert!(pull(&store, &twice).await);
    later().await;
    assert!(pull(&store, &twice).await);
    for seed in 2..40 {
        later().await;
        assert!(pull(&store, &content(200, seed)).await, "a flood is kept as far as there is room");
        assert!(store.usage().used <= ByteLen(1000));
        assert!(holds(&store, &twice).await, "{seed}");
    }
    assert_eq!(store.usage().blobs, 3);
    assert_eq!(metric(&registry, "flotilla_storage_evicted_blobs_total"), 36);
    assert_eq!(metric(&registry, "flotilla_storage_evicted_bytes_total"), 36 * 200);
    assert_eq!(metric(&registry, "flotilla_storage_protected_bytes"), 500);
    assert_eq!(metric(&registry, "flotilla_storage_admission_refused_total"), 0);

    let newcomer = content(700, 50);
    for _ in 0..3 {
        assert!(!pull(&store, &newcomer).await, "asked for once, by a burst");
    }
    assert!(holds(&store, &twice).await && store.usage().blobs == 3, "and nothing went for it");
    assert_eq!(metric(&registry, "flotilla_storage_admission_refused_total"), 3);
    later().await;
    assert!(pull(&store, &newcomer).await, "asked for again");
    assert!(!holds(&store, &twice).await);
    assert_eq!(metric(&registry, "flotilla_storage_protected_bytes"), 700, "it has proven itself already");
    assert!(!pull(&store, &content(1001, 51)).await, "larger than all there is");
    assert!(holds(&store, &newcomer).await);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_use_and_looking_is_none() {
    let (disk, mut registry) = (MemoryDisk::default(), Registry::default());
    let store = open_small(&disk, &mut registry).await;
    let (burst, looked_at) = (content(400, 1), content(400, 2));
    assert!(pull(&store, &burst).await && pull(&store, &looked_at).await);
    for _ in 0..50 {
        assert!(pull(&store, &burst).await);
    }
    later().await;
    assert!(holds(&store, &looked_at).await);
    assert_eq!(metric(&registry, "flotilla_storage_protected_bytes"), 0);
    assert!(pull(&store, &burst).await);
    assert_eq!(metric(&registry, "flotilla_storage_protected_bytes"), 400);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_who_was_used_twice() {
    let (disk, mut registry) = (MemoryDisk::default(), Registry::default());
    let store = open_small(&disk, &mut registry).await;
    let (twice, once) = (content(500, 1), content(300, 2));
    assert!(pull(&store, &twice).await);
    later().await;
    assert!(pull(&store, &twice).await && pull(&store, &once).await);
    later().await;
    drop(store);
    let (disk, mut registry) = (disk.crash(None), Registry::default());
    let store = open_small(&disk, &mut registry).await;
    assert_eq!(metric(&registry, "flotilla_storage_protected_bytes"), 500);
    assert!(!pull(&store, &content(600, 3)).await);
    assert!(pull(&store, &content(400, 4)).await);
    assert!(holds(&store, &twice).await && !holds(&store, &once).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_written_or_young_stays() {
    let (disk, mut registry) = (MemoryDisk::default(), Registry::default());
    let store = open_small(&disk, &mut registry).await;
    let (pinned, young) = (content(400, 1), content(400, 2));
    assert!(pull(&store, &pinned).await);
    let reader = sealed(&store, &sha256(&pinned)).await;
    later().await;
    assert!(pull(&store, &young).await);
    assert!(!pull(&store, &content(300, 3)).await);
    assert!(holds(&store, &pinned).await && holds(&store, &young).await);
    later().await;
    let mut writer = store.begin(&sha256(&content(300, 3)), ByteLen(300)).await.unwrap();
    assert!(holds(&store, &pinned).await && !holds(&store, &young).await);
    writer.write(content(300, 3).slice(..100)).await.unwrap();
    assert!(!pull(&store, &content(400, 4)).await, "one is read, one is written");
    assert_eq!(read(reader).await.unwrap(), pinned);
    later().await;
    assert!(pull(&store, &content(400, 4)).await);
    assert!(!holds(&store, &pinned).await);
    writer.write(content(300, 3).slice(100..)).await.unwrap();
    assert_eq!(read(writer.publish().await.unwrap()).await.unwrap(), content(300, 3));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_fetch_again_stays() {
    let (disk, kept) = (MemoryDisk::default(), Arc::new(Only::default()));
    let store = BlobStore::open(host(&disk), small(), kept.clone(), &mut Registry::default()).await.unwrap();
    let (only, other) = (content(400, 1), content(400, 2));
    kept.0.lock().unwrap().push(sha256(&only));
    assert!(pull(&store, &only).await && pull(&store, &other).await);
    later().await;
    assert!(pull(&store, &content(600, 3)).await);
    assert!(holds(&store, &only).await && !holds(&store, &other).await);
    later().await;
    assert!(!pull(&store, &content(601, 4)).await, "it is the older one, and stays");
    later().await;
    assert!(!pull(&store, &content(601, 4)).await, "whoever asks");
    kept.0.lock().unwrap().clear();
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(pull(&store, &content(700, 5)).await, "a rule came back, and it is looked at again");
    assert!(!holds(&store, &only).await);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_of_the_file_system_makes_blobs_go_and_so_do_its_inodes() {
    let disk = TestDisk::default();
    let config = BlobConfig { max_bytes: ByteLen::mib(100), reserve: ByteLen(500), ..config() };
    disk.set_size(1500);
    let opened = BlobStore::open(host(&disk), config, Arc::new(Everything), &mut Registry::default()).await;
    let store = opened.unwrap();
    assert!(pull(&store, &content(400, 1)).await && pull(&store, &content(400, 2)).await);
    later().await;
    assert!(pull(&store, &content(500, 3)).await);
    assert_eq!(store.usage().used, ByteLen(900));
    later().await;
    disk.set_inodes(1023);
    assert!(pull(&store, &content(50, 4)).await);
    assert_eq!(store.usage().blobs, 2, "one went for its names");
}

#[tokio::test(start_paused = true)]
async fn a_smaller_budget_is_kept_from_the_next_fill_on() {
    let disk = MemoryDisk::default();
    let store = open_small(&disk, &mut Registry::default()).await;
    for seed in 1..=4 {
        assert!(pull(&store, &content(200, seed)).await);
        later().await;
        assert!(pull(&store, &content(200, seed)).await);
    }
    later().await;
    let config = BlobConfig { max_bytes: ByteLen(500), ..small() };
    let opened = BlobStore::open(host(&disk), config, Arc::new(Everything), &mut Registry::default()).await;
    let store = opened.unwrap();
    later().await;
    assert_eq!(store.usage().used, ByteLen(800));
    pull(&store, &content(100, 9)).await;
    assert!(store.usage().used <= ByteLen(500), "{:?}", store.usage());
    assert!(store.usage().used >= ByteLen(400), "and no more went than had to");
}

/// Pulls blobs through a store that cannot hold all of them, until the disk fails.
async fn history(disk: &MemoryDisk, blobs: &[Bytes]) {
    let config = BlobConfig { reuse_after: Duration::ZERO, ..small() };
    let opened = BlobStore::open(host(disk), config, Arc::new(Everything), &mut Registry::default()).await;
    let Ok(store) = opened else { return };
    for bytes in blobs {
        for _ in 0..2 {
            if let Ok(Found::Absent) = store.find(&sha256(bytes)).await {
                drop(fill(&store, bytes).await);
            }
        }
        later().await;
        assert!(store.usage().used <= ByteLen(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_every_step_of_eviction_leaves_whole_blobs_and_books_that_agree() {
    let blobs: Vec<Bytes> = [400, 300, 350, 200, 700, 100].iter().zip(1..).map(|(len, n)| content(*len, n)).collect();
    let whole = MemoryDisk::default();
    history(&whole, &blobs).await;
    for step in 1..=whole.steps() {
        for seed in [None, Some(step), Some(step + 10_000)] {
            let disk = MemoryDisk::default();
            disk.fail(Some(Fault::cut(step)));
            history(&disk, &blobs).await;
            let after = disk.crash(seed);
            let store = open_small(&after, &mut Registry::default()).await;
            let mut held = 0;
            for bytes in &blobs {
                if let Found::Sealed(reader) = store.find(&sha256(bytes)).await.unwrap() {
                    assert_eq!(read(reader).await.unwrap(), *bytes, "step {step}, seed {seed:?}");
                    held += bytes.len() as u64;
                }
            }
            let partials = files(&after, "partial");
            assert!(partials > 0 || store.usage().used == ByteLen(held), "step {step}, seed {seed:?}");
            later().await;
            // Also when what was removed is there again, and more is held than may be.
            drop(fill(&store, &content(900, 90)).await);
            assert!(store.usage().used <= ByteLen(1000), "step {step}, seed {seed:?}: {:?}", store.usage());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The budget is kept, what is pinned stays, and what was used twice goes only for what comes back.
    #[test]
    fn any_pulls_keep_the_budget_and_the_pinned(pulls in prop::collection::vec((0u8..24, 0u64..90, any::<bool>()), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let (disk, mut registry) = (MemoryDisk::default(), Registry::default());
            let store = open_small(&disk, &mut registry).await;
            let mut pins: Vec<(Bytes, BlobReader)> = Vec::new();
            for (n, wait_s, pin) in pulls {
                tokio::time::advance(Duration::from_secs(wait_s)).await;
                let bytes = content(40 * usize::from(n % 6 + 1), n);
                let kept = pull(&store, &bytes).await;
                prop_assert!(store.usage().used <= ByteLen(1000));
                if pin && kept {
                    pins.push((bytes.clone(), sealed(&store, &sha256(&bytes)).await));
                }
                if pins.len() > 3 {
                    let (bytes, reader) = pins.remove(0);
                    prop_assert!(read(reader).await.unwrap() == bytes);
                }
                for (bytes, _) in &pins {
                    prop_assert!(holds(&store, bytes).await, "a pinned blob went");
                }
                let files: u64 = metric(&registry, "flotilla_storage_protected_bytes");
                prop_assert!(files <= store.usage().used.0);
            }
            Ok(())
        })?;
    }
}

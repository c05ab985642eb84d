use std::{io, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};
use flotilla_oci::{Algorithm, Digest};
use flotilla_runtime::{Blocking, Disk, Fault, Host, MemoryDisk};
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::{pieces::PIECE_BYTES, *};

mod room;
mod trouble;

const P: usize = PIECE_BYTES as usize;
const DIR: &str = "/blobs";

/// Bytes that differ from piece to piece and from seed to seed.
fn content(len: usize, seed: u8) -> Bytes {
    (0..len).map(|n| (n / 7) as u8 ^ (n / P) as u8 ^ seed).collect()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, digest::digest(&digest::SHA256, bytes).as_ref()).unwrap()
}

fn host(disk: &(impl Disk + Clone)) -> Host {
    Host { disk: Arc::new(disk.clone()), blocking: Blocking::Inline, ..Host::system() }
}

fn config() -> BlobConfig {
    BlobConfig {
        dir: DIR.into(),
        max_bytes: ByteLen::mib(100),
        reserve: ByteLen::mib(1),
        verify_interval: Duration::from_secs(3600),
        reuse_after: Duration::from_secs(60),
    }
}

async fn open(disk: &(impl Disk + Clone)) -> BlobStore {
    BlobStore::open(host(disk), config(), Arc::new(Everything), &mut Registry::default()).await.unwrap()
}

async fn fill(store: &BlobStore, bytes: &Bytes) -> Result<BlobReader, StorageError> {
    let mut writer = store.begin(&sha256(bytes), ByteLen(bytes.len() as u64)).await?;
    let from = writer.resume_at() as usize;
    writer.write(bytes.slice(from..)).await?;
    writer.publish().await
}

async fn read(mut reader: BlobReader) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.chunk().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn sealed(store: &BlobStore, digest: &Digest) -> BlobReader {
    match store.find(digest).await.unwrap() {
        Found::Sealed(reader) => reader,
        Found::Partial(_) => panic!("partial"),
        Found::Absent => panic!("absent"),
    }
}

async fn is_absent(store: &BlobStore, digest: &Digest) -> bool {
    matches!(store.find(digest).await.unwrap(), Found::Absent)
}

fn files(disk: &impl Disk, folder: &str) -> usize {
    disk.list(&Path::new(DIR).join(folder)).unwrap().len()
}

#[tokio::test]
async fn what_is_published_is_found_after_a_restart() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    for len in [0, 1, 70_000, P - 1, P, P + 1, 2 * P + 500_000] {
        let bytes = content(len, 3);
        assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes, "{len}");
        assert!(matches!(fill(&store, &bytes).await, Err(StorageError::Sealed { .. })));
    }
    let again = open(&disk.crash(None)).await;
    assert_eq!(again.usage().blobs, 7);
    assert_eq!(again.usage().used, store.usage().used);
    for len in [0, 1, 70_000, P - 1, P, P + 1, 2 * P + 500_000] {
        let bytes = content(len, 3);
        assert_eq!(read(sealed(&again, &sha256(&bytes)).await).await.unwrap(), bytes, "{len}");
    }
    let wide = digest::digest(&digest::SHA512, b"wide");
    let wide = Digest::from_hash(Algorithm::Sha512, wide.as_ref()).unwrap();
    let mut writer = store.begin(&wide, ByteLen(4)).await.unwrap();
    writer.write(Bytes::from("wide")).await.unwrap();
    assert_eq!(read(writer.publish().await.unwrap()).await.unwrap(), b"wide");
}

#[tokio::test]
async fn a_mismatch_never_completes_a_body_and_leaves_nothing() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let (right, mut wrong) = (content(2 * P + 9, 1), content(2 * P + 9, 1).to_vec());
    wrong[5] ^= 1;
    let digest = sha256(&right);
    let mut writer = store.begin(&digest, ByteLen(right.len() as u64)).await.unwrap();
    let mut reader = writer.reader();
    let mut tail = writer.reader().range(ByteRange { start: 2 * P as u64, end: 2 * P as u64 + 1 });
    writer.write(wrong.into()).await.unwrap();
    while reader.position() < 2 * P as u64 {
        reader.chunk().await.unwrap().unwrap();
    }
    // All that is queued gets written; only the verdict is missing.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let held_back = |reader: &mut BlobReader| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        reader.poll_chunk(&mut cx).is_pending()
    };
    assert!(held_back(&mut reader) && held_back(&mut tail), "the last piece waits for the digest");
    assert!(matches!(writer.publish().await, Err(StorageError::Mismatch { .. })));
    for mut reader in [reader, tail] {
        let end = reader.chunk().await;
        assert!(matches!(end, Some(Err(StorageError::Mismatch { .. }))), "cut, not ended");
    }
    assert!(is_absent(&store, &digest).await);
    assert_eq!((files(&disk, "partial"), store.usage().used), (0, ByteLen(0)));
    fill(&store, &right).await.unwrap();
}

#[tokio::test]
async fn the_length_is_held_to_and_less_than_it_is_kept() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let bytes = content(P + 100, 1);
    let digest = sha256(&bytes);
    let begin = || store.begin(&digest, ByteLen(bytes.len() as u64));
    let mut writer = begin().await.unwrap();
    writer.write(bytes.slice(..P)).await.unwrap();
    assert!(matches!(begin().await, Err(StorageError::Busy { .. })));
    assert!(matches!(store.find(&digest).await.unwrap(), Found::Partial(_)));
    assert!(matches!(store.remove(&digest).await, Err(StorageError::Busy { .. })));
    assert!(matches!(writer.publish().await, Err(StorageError::Incomplete { .. })));
    assert!(is_absent(&store, &digest).await);
    let mut writer = begin().await.unwrap();
    assert_eq!(writer.resume_at(), P as u64);
    let too_long = writer.write(content(101, 1)).await;
    assert!(matches!(too_long, Err(StorageError::TooLong { .. })));
    drop(writer);
    assert_eq!(files(&disk, "partial"), 0);
}

#[tokio::test]
async fn an_interrupted_fill_goes_on_where_its_pieces_still_match() {
    let disk = MemoryDisk::default();
    let bytes = content(5 * P + 77, 1);
    let digest = sha256(&bytes);
    let len = ByteLen(bytes.len() as u64);
    let store = open(&disk).await;
    let mut writer = store.begin(&digest, len).await.unwrap();
    writer.write(bytes.slice(..4 * P + 600)).await.unwrap();
    let mut reader = writer.reader().range(ByteRange { start: 4 * P as u64, end: len.0 });
    writer.abandon().await;
    while let Some(Ok(_)) = reader.chunk().await {}
    assert!(matches!(store.begin(&digest, len).await.unwrap().resume_at(), n if n == 4 * P as u64));

    // After a loss of power, and with a piece that went bad meanwhile.
    let after = disk.crash(None);
    let path = Path::new(DIR).join("partial").join(format!("sha256-{}", digest.hex()));
    after.corrupt(&path, 2 * P + 5);
    let store = open(&after).await;
    assert!(store.usage().used.0 > 0, "what a partial holds counts");
    let writer = store.begin(&digest, len).await.unwrap();
    assert_eq!(writer.resume_at(), 2 * P as u64);
    drop(writer);
    let other = store.begin(&digest, ByteLen(len.0 - 1)).await.unwrap();
    assert_eq!(other.resume_at(), 0, "a partial of another length is not taken up");
    drop(other);
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_bad_piece_is_never_sent_and_the_blob_is_fetched_again() {
    let disk = MemoryDisk::default();
    let bytes = content(3 * P, 1);
    let digest = sha256(&bytes);
    drop(fill(&open(&disk).await, &bytes).await.unwrap());
    let path = Path::new(DIR).join("sealed").join(&digest.hex()[..2]).join(format!("sha256-{}", digest.hex()));
    disk.corrupt(&path, P + 12);
    let mut registry = Registry::default();
    let store = BlobStore::open(host(&disk), config(), Arc::new(Everything), &mut registry).await.unwrap();
    let elsewhere = ByteRange { start: 2 * P as u64, end: 2 * P as u64 + 10 };
    assert_eq!(read(sealed(&store, &digest).await.range(elsewhere)).await.unwrap(), bytes[2 * P..2 * P + 10]);
    let mut other = sealed(&store, &digest).await;
    let within = ByteRange { start: P as u64 + 100, end: P as u64 + 200 };
    let outcome = read(sealed(&store, &digest).await.range(within)).await;
    assert!(matches!(outcome, Err(StorageError::Quarantined { .. })), "the piece is bad, if not these bytes of it");
    assert!(matches!(other.chunk().await, Some(Err(StorageError::Quarantined { .. }))), "other readers are cut");
    assert!(is_absent(&store, &digest).await);
    assert_eq!((files(&disk, "quarantine"), store.usage().quarantined, store.usage().blobs), (1, 1, 0));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("flotilla_blobs_quarantined_total 1"), "{text}");
    assert!(text.contains("flotilla_storage_bytes{class=\"sealed\"} 0"), "{text}");
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
    assert_eq!(open(&disk).await.usage().quarantined, 1);
}

#[tokio::test(start_paused = true)]
async fn a_piece_is_hashed_at_its_first_read_and_once_per_interval() {
    let disk = MemoryDisk::default();
    let bytes = content(2 * P, 1);
    let digest = sha256(&bytes);
    drop(fill(&open(&disk).await, &bytes).await.unwrap());
    let store = open(&disk).await;
    let path = Path::new(DIR).join("sealed").join(&digest.hex()[..2]).join(format!("sha256-{}", digest.hex()));
    read(sealed(&store, &digest).await).await.unwrap();
    disk.corrupt(&path, 1);
    read(sealed(&store, &digest).await).await.expect("trusted for now");
    tokio::time::advance(Duration::from_secs(3599)).await;
    read(sealed(&store, &digest).await).await.expect("trusted until the interval is over");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(read(sealed(&store, &digest).await).await, Err(StorageError::Quarantined { .. })));
}

#[tokio::test]
async fn a_lost_outboard_is_made_again_from_bytes_that_match() {
    let disk = MemoryDisk::default();
    let (bytes, bad) = (content(2 * P + 1, 1), content(2 * P + 1, 2));
    for bytes in [&bytes, &bad] {
        drop(fill(&open(&disk).await, bytes).await.unwrap());
        let digest = sha256(bytes);
        let path = Path::new(DIR).join("sealed").join(&digest.hex()[..2]).join(format!("sha256-{}", digest.hex()));
        disk.corrupt(&path.with_extension("pieces"), 60);
        if bytes == &bad {
            disk.corrupt(&path, 60);
        }
    }
    let store = open(&disk).await;
    assert_eq!(read(sealed(&store, &sha256(&bytes)).await).await.unwrap(), bytes);
    assert!(is_absent(&store, &sha256(&bad)).await);
    assert_eq!(files(&disk, "quarantine"), 1);
}

#[tokio::test]
async fn a_blob_that_is_read_is_not_removed() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let bytes = content(P + 5, 1);
    let digest = sha256(&bytes);
    let reader = fill(&store, &bytes).await.unwrap();
    let again = reader.again();
    drop(reader);
    assert!(matches!(store.remove(&digest).await, Err(StorageError::Pinned { .. })));
    assert_eq!(read(again).await.unwrap(), bytes);
    store.remove(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert!(is_absent(&store, &digest).await);
    assert_eq!((store.usage().used, store.usage().blobs), (ByteLen(0), 0));
    assert!(is_absent(&open(&disk.crash(None)).await, &digest).await, "durably");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_partials_without_a_writer_make_room() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let digest = |n: u8| sha256(&[n]);
    let full = |outcome: Result<PartialWriter, StorageError>| matches!(outcome, Err(StorageError::Full { .. }));
    assert!(full(store.begin(&digest(0), ByteLen::mib(101)).await));
    let first = store.begin(&digest(1), ByteLen::mib(60)).await.unwrap();
    assert!(full(store.begin(&digest(2), ByteLen::mib(41)).await), "living writers keep what they were promised");
    drop(first);
    let mut idle = store.begin(&digest(3), ByteLen::mib(60)).await.unwrap();
    idle.write(content(30 * P, 1)).await.unwrap();
    idle.abandon().await;
    assert_eq!(store.usage().used, ByteLen::mib(30));
    let large = store.begin(&digest(4), ByteLen::mib(80)).await.unwrap();
    drop(large);
    disk.set_free(10 << 20);
    assert!(full(store.begin(&digest(5), ByteLen::mib(10)).await), "the reserve is left alone");
    assert!(store.begin(&digest(5), ByteLen::mib(9)).await.is_ok());
    assert_eq!(store.usage().free, ByteLen::mib(10));
}

#[tokio::test]
async fn a_disk_that_fills_up_cuts_readers_and_frees_the_partial() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let bytes = content(3 * P, 1);
    let digest = sha256(&bytes);
    let mut writer = store.begin(&digest, ByteLen(bytes.len() as u64)).await.unwrap();
    let mut reader = writer.reader();
    writer.write(bytes.slice(..P)).await.unwrap();
    assert!(reader.chunk().await.unwrap().is_ok());
    disk.fail(Some(Fault::once(1, io::ErrorKind::StorageFull)));
    let mut outcome = Ok(());
    for _ in 0..8 {
        outcome = writer.write(bytes.slice(P..P + 1000)).await;
        tokio::task::yield_now().await;
    }
    assert!(matches!(outcome, Err(StorageError::Full { .. })));
    let position = loop {
        match reader.chunk().await.unwrap() {
            Ok(_) => {}
            Err(StorageError::Full { .. }) => break reader.position(),
            Err(other) => panic!("{other}"),
        }
    };
    assert!(position <= P as u64);
    drop(writer);
    tokio::task::yield_now().await;
    assert_eq!((files(&disk, "partial"), store.usage().used), (0, ByteLen(0)));
}

/// Fills two blobs and removes the first, until the disk fails; says which are sealed for sure, and which are gone.
async fn history(disk: &MemoryDisk, blobs: &[Bytes]) -> (Vec<Digest>, Vec<Digest>) {
    let (mut sealed, mut removed) = (Vec::new(), Vec::new());
    let Ok(store) = BlobStore::open(host(disk), config(), Arc::new(Everything), &mut Registry::default()).await else {
        return (sealed, removed);
    };
    for bytes in blobs {
        if fill(&store, bytes).await.is_ok() {
            sealed.push(sha256(bytes));
        }
    }
    if let Some(first) = sealed.first().copied() {
        sealed.remove(0);
        if store.remove(&first).await.is_ok() {
            removed.push(first);
        }
    }
    (sealed, removed)
}

#[tokio::test]
async fn a_cut_at_every_step_loses_no_published_blob_and_publishes_no_wrong_one() {
    let blobs = [content(P + 300_000, 1), content(1000, 2), content(70_000, 3)];
    let whole = MemoryDisk::default();
    history(&whole, &blobs).await;
    for step in 1..=whole.steps() {
        for seed in [None, Some(step), Some(step + 10_000)] {
            let disk = MemoryDisk::default();
            disk.fail(Some(Fault::cut(step)));
            let (sealed_for_sure, removed) = history(&disk, &blobs).await;
            let after = disk.crash(seed);
            let store = open(&after).await;
            for bytes in &blobs {
                let digest = sha256(bytes);
                match store.find(&digest).await.unwrap() {
                    Found::Sealed(reader) => {
                        assert!(!removed.contains(&digest), "step {step}: removed, and there again");
                        assert_eq!(read(reader).await.unwrap(), *bytes, "step {step}, seed {seed:?}");
                    }
                    Found::Partial(_) => panic!("no writer lives"),
                    Found::Absent => {
                        assert!(!sealed_for_sure.contains(&digest), "step {step}, seed {seed:?}: lost");
                        let reader = fill(&store, bytes).await.expect("a partial that is left is taken up");
                        assert_eq!(read(reader).await.unwrap(), *bytes);
                    }
                }
            }
            let usage = store.usage();
            let bytes: usize = blobs.iter().map(Bytes::len).sum();
            assert_eq!((usage.blobs, usage.quarantined), (3, 0), "step {step}, seed {seed:?}");
            assert_eq!(usage.used, ByteLen(bytes as u64), "step {step}, seed {seed:?}: books and disk agree");
        }
    }
}

#[derive(Clone, Debug)]
struct Follower {
    /// Joins after this many writes.
    joins: usize,
    from: usize,
    upto: usize,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Invariant 2: followers of a growing blob, whenever they come and whatever range they want, get its bytes.
    #[test]
    fn followers_get_the_right_bytes(
        len in 0usize..3 * P + 1000,
        sizes in prop::collection::vec(1usize..700_000, 1..20),
        followers in prop::collection::vec((0usize..12, 0usize..3 * P, 0usize..3 * P), 1..6),
        cut in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let folder = tempfile::tempdir().unwrap();
            let config = BlobConfig { dir: folder.path().join("blobs"), reserve: ByteLen(0), ..config() };
            let store = BlobStore::open(Host::system(), config, Arc::new(Everything), &mut Registry::default()).await.unwrap();
            let bytes = content(len, 9);
            let digest = sha256(&bytes);
            let followers: Vec<_> = followers.into_iter().map(|(joins, a, b)| {
                Follower { joins, from: a.min(b).min(len), upto: a.max(b).min(len) }
            }).collect();
            let mut bodies = Vec::new();
            let mut writer = store.begin(&digest, ByteLen(len as u64)).await.unwrap();
            let mut sizes = sizes.into_iter().cycle();
            let mut writes = 0;
            loop {
                for follower in followers.iter().filter(|follower| follower.joins == writes) {
                    let range = ByteRange { start: follower.from as u64, end: follower.upto as u64 };
                    let reader = writer.reader().range(range);
                    bodies.push((follower.clone(), tokio::spawn(read(reader))));
                }
                let from = writer.resume_at() as usize;
                if from == len {
                    break;
                }
                let size = sizes.next().unwrap().min(len - from);
                writer.write(bytes.slice(from..from + size)).await.unwrap();
                writes += 1;
                if writes == 3 * cut {
                    // A writer that dies: its readers are cut, its successor goes on.
                    drop(writer);
                    for (_, body) in bodies.drain(..) {
                        match body.await.unwrap() {
                            Ok(_) | Err(StorageError::Abandoned { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    writer = store.begin(&digest, ByteLen(len as u64)).await.unwrap();
                    assert!(writer.resume_at() as usize <= from + size);
                }
            }
            let sealed = writer.publish().await.unwrap();
            for (follower, body) in bodies {
                let got = body.await.unwrap().unwrap();
                assert_eq!(got, bytes[follower.from..follower.upto], "{follower:?}");
            }
            assert_eq!(read(sealed).await.unwrap(), bytes);
        });
    }
}

/// The length of the next chunk, which is taken at once.
async fn taken(reader: &mut BlobReader) -> usize {
    reader.chunk().await.unwrap().unwrap().len()
}

#[tokio::test]
async fn clients_that_take_nothing_pin_little_and_the_others_go_on() {
    let store = open(&MemoryDisk::default()).await;
    let bytes = content(4 * P, 9);
    drop(fill(&store, &bytes).await.unwrap());
    let digest = sha256(&bytes);

    // What is taken is followed by whole pieces.
    let mut reader = sealed(&store, &digest).await;
    for _ in 0..4 {
        assert_eq!(taken(&mut reader).await, P);
    }
    // What is not taken is followed by little.
    let mut stalled = sealed(&store, &digest).await;
    let first = stalled.chunk().await.unwrap().unwrap();
    let second = stalled.chunk().await.unwrap().unwrap();
    assert_eq!((first.len(), second.len()), (P, 32 << 10));
    drop((first, second));
    assert_eq!(taken(&mut stalled).await, P - (32 << 10), "it takes again");
    drop(stalled);

    // Each of them holds a chunk; together no more than the budget and one small chunk each.
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stalled = sealed(&store, &digest).await;
        let chunk = stalled.chunk().await.unwrap().unwrap();
        held.push((stalled, chunk));
    }
    let sizes: Vec<usize> = held.iter().map(|(_, chunk)| chunk.len()).collect();
    assert_eq!(sizes.iter().filter(|&&len| len == P).count(), 128);
    assert_eq!(sizes.iter().filter(|&&len| len == 32 << 10).count(), 72);
    assert_eq!(read(sealed(&store, &digest).await).await.unwrap(), bytes, "an honest client goes on");
    drop(held);
    assert_eq!(taken(&mut sealed(&store, &digest).await).await, P, "and the budget is given back");
}

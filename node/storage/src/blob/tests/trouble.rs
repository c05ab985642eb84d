//! A disk that is short of room, or fails.

use super::*;
use crate::test_disk::TestDisk;

/// Leaves a partial of `pieces` pieces without a writer.
async fn leave(store: &BlobStore, digest: &Digest, pieces: usize) {
    let mut writer = store.begin(digest, ByteLen::mib(30)).await.unwrap();
    writer.write(content(pieces * P, 1)).await.unwrap();
    writer.abandon().await;
}

#[tokio::test]
async fn room_is_made_one_partial_at_a_time_and_never_in_vain() {
    let disk = TestDisk::default();
    let store = open(&disk).await;
    let digest = |n: u8| sha256(&[n]);
    for n in 1..=3 {
        leave(&store, &digest(n), 20).await;
    }
    let full = store.begin(&digest(9), ByteLen::mib(101)).await;
    assert!(matches!(full, Err(StorageError::Full { .. })));
    assert_eq!(store.usage().used, ByteLen::mib(60), "what can never fit costs nobody anything");
    drop(store.begin(&digest(9), ByteLen::mib(50)).await.unwrap());
    assert_eq!(store.usage().used, ByteLen::mib(40), "one was enough");
}

#[tokio::test]
async fn what_a_deleted_partial_frees_on_the_file_system_counts_at_once() {
    let disk = TestDisk::default();
    let store = open(&disk).await;
    leave(&store, &sha256(b"1"), 20).await;
    // With the reserve there is no room for 20 MiB more.
    disk.set_size(40 << 20);
    assert!(store.begin(&sha256(b"2"), ByteLen::mib(20)).await.is_ok());
}

#[tokio::test]
async fn a_partial_that_could_not_be_opened_is_kept_in_the_books() {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let bytes = content(3 * P, 1);
    let digest = sha256(&bytes);
    let path = Path::new(DIR).join("partial").join(format!("sha256-{}", digest.hex()));
    let mut writer = store.begin(&digest, ByteLen(bytes.len() as u64)).await.unwrap();
    writer.write(bytes.slice(..2 * P)).await.unwrap();
    writer.abandon().await;
    // Its journal is gone, so both files are made anew, and the first creation fails.
    disk.remove(&path.with_extension("pieces")).unwrap();
    disk.fail(Some(Fault::once(1, io::ErrorKind::PermissionDenied)));
    let refused = store.begin(&digest, ByteLen(bytes.len() as u64)).await;
    assert!(matches!(refused, Err(StorageError::Io { .. })));
    assert_eq!(store.usage().used, ByteLen(2 * P as u64));
    // A new one of which only half could be made leaves nothing.
    disk.fail(Some(Fault::once(2, io::ErrorKind::PermissionDenied)));
    assert!(store.begin(&sha256(b"new"), ByteLen(9)).await.is_err());
    assert_eq!(files(&disk, "partial"), 1);
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
    assert_eq!(store.usage().used, ByteLen(bytes.len() as u64));
}

fn sealed_path(digest: &Digest) -> std::path::PathBuf {
    Path::new(DIR).join("sealed").join(&digest.hex()[..2]).join(format!("sha256-{}", digest.hex()))
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;

#[tokio::test]
async fn a_blob_that_is_damaged_twice_is_kept_and_counted_once() {
    let disk = MemoryDisk::default();
    let bytes = content(P + 5, 1);
    let digest = sha256(&bytes);
    for _ in 0..2 {
        drop(fill(&open(&disk).await, &bytes).await.unwrap());
        disk.corrupt(&sealed_path(&digest), 12);
        let store = open(&disk).await;
        assert!(matches!(read(sealed(&store, &digest).await).await, Err(StorageError::Quarantined { .. })));
        assert_eq!((store.usage().quarantined, store.usage().used), (1, ByteLen(bytes.len() as u64)));
        let again = open(&disk).await.usage();
        assert_eq!((again.quarantined, again.used), (1, ByteLen(bytes.len() as u64)), "books and disk agree");
    }
}

#[tokio::test]
async fn a_damaged_blob_that_cannot_be_moved_stays_in_the_books_and_is_absent() {
    let disk = TestDisk::default();
    let bytes = content(P + 5, 1);
    let digest = sha256(&bytes);
    drop(fill(&open(&disk).await, &bytes).await.unwrap());
    disk.memory.corrupt(&sealed_path(&digest), 12);
    disk.stuck(&sealed_path(&digest));
    let store = open(&disk).await;
    assert!(matches!(read(sealed(&store, &digest).await).await, Err(StorageError::Quarantined { .. })));
    assert!(is_absent(&store, &digest).await);
    assert_eq!((store.usage().blobs, store.usage().quarantined), (1, 0));
    assert!(matches!(fill(&store, &bytes).await, Err(StorageError::Io { .. })), "its place is taken");
    disk.heal();
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
    assert_eq!((store.usage().blobs, store.usage().quarantined), (1, 1));
    assert_eq!(store.usage().used, open(&disk).await.usage().used);
}

#[tokio::test]
async fn what_cannot_be_read_is_made_again_or_set_aside_and_what_could_be_later_is_left() {
    let disk = TestDisk::default();
    let bytes = content(P + 5, 1);
    let digest = sha256(&bytes);
    drop(fill(&open(&disk).await, &bytes).await.unwrap());
    let (data, outboard) = (sealed_path(&digest), sealed_path(&digest).with_extension("pieces"));
    disk.unreadable(&outboard, EMFILE);
    assert!(matches!(open(&disk).await.find(&digest).await, Err(StorageError::Io { .. })));

    disk.unreadable(&outboard, EIO);
    disk.stuck(&outboard.with_extension("pieces.tmp"));
    assert_eq!(read(sealed(&open(&disk).await, &digest).await).await.unwrap(), bytes, "nothing can be written");
    disk.heal();
    disk.unreadable(&outboard, EIO);
    assert_eq!(read(sealed(&open(&disk).await, &digest).await).await.unwrap(), bytes);
    assert!(disk.open(&outboard).unwrap().read_at(0, &mut [0]).is_ok(), "a new file took its place");

    disk.unreadable(&outboard, EIO);
    disk.unreadable(&data, EMFILE);
    assert!(matches!(open(&disk).await.find(&digest).await, Err(StorageError::Io { .. })));
    disk.unreadable(&data, EIO);
    let store = open(&disk).await;
    assert!(is_absent(&store, &digest).await);
    assert_eq!((store.usage().blobs, store.usage().quarantined), (0, 1));
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_partial_whose_journal_cannot_be_read_begins_anew() {
    let disk = TestDisk::default();
    let bytes = content(2 * P, 1);
    let digest = sha256(&bytes);
    let store = open(&disk).await;
    let mut writer = store.begin(&digest, ByteLen(bytes.len() as u64)).await.unwrap();
    writer.write(bytes.slice(..P)).await.unwrap();
    writer.abandon().await;
    let journal = Path::new(DIR).join("partial").join(format!("sha256-{}.pieces", digest.hex()));
    disk.unreadable(&journal, EIO);
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
}

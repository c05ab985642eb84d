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
    let names = disk.list(&Path::new(DIR).join("partial")).unwrap();
    // Its journal is gone, so both files are made anew, and the first creation fails.
    disk.remove(&path.with_extension("pieces")).unwrap();
    disk.fail(Some(Fault::once(1, io::ErrorKind::PermissionDenied)));
    let refused = store.begin(&digest, ByteLen(bytes.len() as u64)).await;
    assert!(matches!(refused, Err(StorageError::Io { .. })));
    assert_eq!((names.len(), store.usage().used), (2, ByteLen(2 * P as u64)));
    // A new one of which only half could be made leaves nothing.
    disk.fail(Some(Fault::once(2, io::ErrorKind::PermissionDenied)));
    assert!(store.begin(&sha256(b"new"), ByteLen(9)).await.is_err());
    assert_eq!(files(&disk, "partial"), 1);
    assert_eq!(read(fill(&store, &bytes).await.unwrap()).await.unwrap(), bytes);
    assert_eq!(store.usage().used, ByteLen(bytes.len() as u64));
}

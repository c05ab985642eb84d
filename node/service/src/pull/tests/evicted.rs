//! Blobs that were here and went to make room.

use flotilla_storage::Evictable;
use flotilla_transfer::TransferError;

use super::*;

async fn held(bench: &Bench, name: &str, bytes: &Bytes) -> Digest {
    let digest = digest_of(bytes);
    bench.upstream.put_blob(TRUSTED, "some/app", digest, bytes);
    assert_eq!(drained(bench.blob(name, &digest).await.unwrap()).await.unwrap(), *bytes);
    bench.linked(name, &digest).await;
    digest
}

#[tokio::test]
async fn an_evicted_blob_is_known_and_fetched_again_and_never_called_absent() {
    let bench = Bench::new().await;
    let bytes = Bytes::from(vec![9; 70_000]);
    let digest = held(&bench, "dh/some/app", &bytes).await;
    bench.blobs.remove(&digest).await.unwrap();
    bench.upstream.asked();
    assert_eq!(bench.blob_len("dh/some/app", &digest).await.unwrap(), ByteLen(70_000));
    assert!(bench.upstream.asked().is_empty(), "the link knows how long it is");
    bench.upstream.answer_all_with(Some(503));
    let gone = bench.blob("dh/some/app", &digest).await.err().unwrap();
    assert!(matches!(gone, ServiceError::Upstream(_)), "{gone:?}");
    bench.upstream.answer_all_with(None);
    // A breaker may remember the trouble for a moment.
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match bench.blob("dh/some/app", &digest).await {
                Ok(served) => return served,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    assert_eq!(drained(again.await.unwrap()).await.unwrap(), bytes);
}

#[tokio::test]
async fn what_no_rule_leads_to_any_more_is_not_evicted() {
    let bench = Bench::new().await;
    let (one, other) = (Bytes::from(vec![10; 1_000]), Bytes::from(vec![11; 1_000]));
    let both = [held(&bench, "dh/some/app", &one).await, held(&bench, "dh2/some/app", &other).await];
    let unknown = digest_of(b"of nobody");
    let evictable = || bench.refetch.evictable(&[both[0], both[1], unknown]);
    assert_eq!(evictable(), [true, true, true]);
    bench.propose(Op::DeleteCacheRule { prefix: "dh".parse().unwrap() }).await;
    assert_eq!(evictable(), [false, true, true]);
    // A second repository that has an upstream does not help: the first could not serve it.
    bench.upstream.put_blob(TRUSTED, "some/app", both[0], &one);
    drained(bench.blob("dh2/some/app", &both[0]).await.unwrap()).await.unwrap();
    bench.linked("dh2/some/app", &both[0]).await;
    assert_eq!(evictable(), [false, true, true]);
    assert_eq!(drained(bench.blob("dh/some/app", &both[0]).await.unwrap()).await.unwrap(), one);
    // Lost in another way, it is lost; but it is not absent.
    bench.blobs.remove(&both[0]).await.unwrap();
    let lost = bench.blob("dh/some/app", &both[0]).await.err().unwrap();
    assert!(matches!(lost, ServiceError::Transfer(TransferError::Lost(_))), "{lost:?}");
    bench.propose(bench::rule("dh", TRUSTED)).await;
    assert_eq!(evictable(), [true, true, true]);
    assert_eq!(drained(bench.blob("dh/some/app", &both[0]).await.unwrap()).await.unwrap(), one);
}

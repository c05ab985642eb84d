//! One upstream, or clients that crawl, do not take what others need; and no room costs no second request.

use super::*;

/// Nothing fits.
async fn full() -> Bench {
    let host = Host { disk: Arc::new(MemoryDisk::default()), ..Host::system() };
    Bench::with(host, ByteLen(100)).await
}

async fn passing(bench: &Bench, bytes: &Bytes, rule: &str) -> flotilla_runtime::ByteStream {
    through(bench.transfer.open(&wanted(bytes, rule)).await.unwrap()).1
}

#[tokio::test]
async fn a_blob_that_finds_no_room_is_asked_for_once() {
    let bench = full().await;
    let bytes = blob_of(200, LEN);
    bench.fetch.script("a", [Reply::body(&bytes)]);
    let body = passing(&bench, &bytes, "a").await;
    assert_eq!(fake::drained_stream(body).await.unwrap(), bytes);
    assert_eq!(bench.fetch.opened(), [("a".to_owned(), 0)]);
    assert_eq!(bench.transfer.fills_in_flight(), 0);
}

#[tokio::test]
async fn what_one_asker_is_handed_is_not_given_to_another_as_well() {
    let bench = full().await;
    let bytes = blob_of(201, LEN);
    let gate = bench.fetch.script_gated("a", Reply::body(&bytes));
    bench.fetch.script("a", [Reply::body(&bytes)]);
    bench.fetch.script("b", [Reply::body(&bytes)]);
    let mut askers = tokio::task::JoinSet::new();
    for (count, rule) in [(1, "a"), (2, "a"), (3, "b")] {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, rule));
        askers.spawn(async move { fake::drained_stream(through(transfer.open(&wanted).await.unwrap()).1).await });
        bench.fetch.asked("a").await;
        bench.followers(&fake::digest_of(&bytes), count).await;
    }
    gate.send(()).unwrap();
    while let Some(got) = askers.join_next().await {
        assert_eq!(got.unwrap().unwrap(), bytes);
    }
    let mut opened = bench.fetch.opened();
    opened.sort();
    assert_eq!(opened, [("a".to_owned(), 0), ("a".to_owned(), 0), ("b".to_owned(), 0)]);
}

#[tokio::test]
async fn an_upstream_that_stalls_makes_no_misses_elsewhere_busy() {
    let bench = Bench::new().await;
    let mut askers = tokio::task::JoinSet::new();
    let mut gates = Vec::new();
    let stalled = |n: usize| blob_of(1_000 + n as u64, 100);
    for n in 0..crate::transfer::FILLS_PER_UPSTREAM {
        gates.push(bench.fetch.script_gated("stalls", Reply::body(&stalled(n))));
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&stalled(n), "stalls"));
        askers.spawn(async move { transfer.open(&wanted).await.map(|_| ()) });
    }
    bench.fetch.asked_times(crate::transfer::FILLS_PER_UPSTREAM).await;
    let more = bench.transfer.open(&wanted(&stalled(999), "stalls")).await;
    assert!(matches!(more, Err(TransferError::Busy)));
    let bytes = blob_of(202, LEN);
    bench.fetch.script("works", [Reply::body(&bytes)]);
    assert_eq!(drained(local(bench.transfer.open(&wanted(&bytes, "works")).await.unwrap())).await.unwrap(), bytes);
    drop(gates);
    askers.shutdown().await;
}

#[tokio::test]
async fn bodies_that_pass_by_wait_for_each_other_and_fills_do_not() {
    let bench = full().await;
    let blobs: Vec<Bytes> = (0..=fake::PASSES as u64).map(|n| blob_of(210 + n, LEN)).collect();
    bench.fetch.script("a", blobs.iter().map(Reply::body));
    let mut held = Vec::new();
    for bytes in &blobs[..fake::PASSES] {
        held.push(passing(&bench, bytes, "a").await);
    }
    // What the fill of the last one opens is let go, and asked for again in its turn.
    let last = &blobs[fake::PASSES];
    let mut next = std::pin::pin!(passing(&bench, last, "a"));
    assert!(tokio::time::timeout(Duration::from_millis(100), next.as_mut()).await.is_err());
    let small = blob_of(220, 90);
    bench.fetch.script("b", [Reply::body(&blobs[0])]);
    assert_eq!(fake::drained_stream(passing(&bench, &blobs[0], "b").await).await.unwrap(), blobs[0]);
    bench.fetch.script("a", [Reply::body(&small), Reply::body(last)]);
    assert_eq!(drained(local(bench.transfer.open(&wanted(&small, "a")).await.unwrap())).await.unwrap(), small);
    held.pop();
    assert_eq!(fake::drained_stream(next.await).await.unwrap(), *last);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_crawls_is_cut_when_others_wait_for_its_place() {
    let bench = full().await;
    let blobs: Vec<Bytes> = (0..fake::PASSES as u64).map(|n| blob_of(230 + n, LEN)).collect();
    bench.fetch.script("a", blobs.iter().map(Reply::body));
    let mut crawls = passing(&bench, &blobs[0], "a").await;
    let crawl = async |body: &mut flotilla_runtime::ByteStream, times: usize| {
        for _ in 0..times {
            if let Err(error) = body.chunk().await.unwrap() {
                return Some(TransferError::of_passing(fake::digest_of(&blobs[0]), error));
            }
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        None
    };
    assert!(crawl(&mut crawls, 20).await.is_none(), "it is in nobody's way");
    let others = passing(&bench, &blobs[1], "a").await;
    assert!(matches!(crawl(&mut crawls, 20).await, Some(TransferError::SlowClient(_))));
    assert!(crawls.chunk().await.is_none(), "its place is free, whether it is dropped or not");
    assert!(bench.metric("flotilla_passthrough_slow_clients_total 1"));
    bench.fetch.script("a", [Reply::body(&blobs[0])]);
    let again = passing(&bench, &blobs[0], "a").await;
    assert_eq!(fake::drained_stream(again).await.unwrap(), blobs[0], "the upstream is not blamed");
    assert_eq!(fake::drained_stream(others).await.unwrap(), blobs[1]);
}

#[tokio::test]
async fn nobody_joins_for_nothing_what_would_have_to_be_begun_anew_for_him() {
    let bench = Bench::new().await;
    let bytes = blob_of(240, LEN);
    let gate = bench.fetch.script_gated("unbelieved", Reply::body(&bytes));
    let (transfer, unproven) = (bench.transfer.clone(), wanted(&bytes, "unbelieved"));
    let turn = Turn::from(unproven.class);
    let fill = tokio::spawn(async move {
        let done: Delivered = Arc::new(|_| ());
        transfer.open_unproven(&unproven, &turn, &done).await.map(|blob| blob.map(local))
    });
    bench.fetch.asked("unbelieved").await;
    assert!(bench.transfer.open_begun(&wanted(&bytes, "a")).await.unwrap().is_none());
    gate.send(()).unwrap();
    let reader = fill.await.unwrap().unwrap().unwrap();
    assert_eq!(drained(reader).await.unwrap(), bytes, "and nobody made it give way");
    assert_eq!(bench.fetch.opened(), [("unbelieved".to_owned(), 0)]);
}

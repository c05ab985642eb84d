//! The data plane over the real store and scripted origins.

mod fair;
mod fake;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};
use flotilla_runtime::{Fault, Host, MemoryDisk};
use flotilla_storage::Found;
use flotilla_upstream::{Class, Turn};

use self::fake::{Bench, Reply, blob_of, drained, origin, through};
use crate::{Blob, Delivered, TransferError, Wanted, transfer::FILLS_ANONYMOUS};

/// Larger than the piece that the store holds back.
const LEN: usize = 3 << 20;

fn wanted(bytes: &Bytes, rule: &str) -> Wanted {
    Wanted { digest: fake::digest_of(bytes), len: None, origin: Some(origin(rule)), class: Class::Authenticated }
}

fn unheard() -> Delivered {
    Arc::new(|_| ())
}

fn local(blob: Blob) -> crate::Reader {
    match blob {
        Blob::Local(reader) => reader,
        Blob::Through { .. } => panic!("the blob should come from the store"),
    }
}

#[tokio::test]
async fn many_askers_cost_one_fetch_and_all_get_the_bytes() {
    let bench = Bench::new().await;
    let bytes = blob_of(1, LEN);
    bench.fetch.script("a", [Reply::body(&bytes)]);
    let wanted = wanted(&bytes, "a");
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (transfer, wanted) = (bench.transfer.clone(), wanted.clone());
        askers.spawn(async move { drained(local(transfer.open(&wanted).await.unwrap())).await.unwrap() });
    }
    while let Some(got) = askers.join_next().await {
        assert_eq!(got.unwrap(), bytes);
    }
    assert_eq!(bench.fetch.opened(), [("a".to_owned(), 0)]);
    assert!(bench.transfer.sealed(&wanted.digest).await);
    let again = local(bench.transfer.open(&wanted).await.unwrap());
    assert!(again.sealing().is_none(), "what is sealed is served without a fill");
    assert_eq!(drained(again.range(ByteRange { start: 5, end: 9 })).await.unwrap(), bytes.slice(5..9));
}

#[tokio::test]
async fn who_signed_in_and_joins_a_fill_of_an_anonymous_caller_waits_no_longer_than_alone() {
    let bench = Bench::new().await;
    let bytes = blob_of(1, LEN);
    let gate = bench.fetch.script_gated("a", Reply::body(&bytes));
    let signed_in = wanted(&bytes, "a");
    let anonymous = Wanted { class: Class::Anonymous, ..signed_in.clone() };
    assert!(bench.transfer.open_begun(&anonymous).await.unwrap().is_none(), "nothing is begun for it");
    assert!(bench.fetch.opened().is_empty());
    let first = tokio::spawn({
        let (transfer, wanted) = (bench.transfer.clone(), anonymous.clone());
        async move { drained(local(transfer.open(&wanted).await.unwrap())).await.unwrap() }
    });
    bench.fetch.asked("a").await;
    assert_eq!(bench.fetch.classes(), [Class::Anonymous]);
    let second = tokio::spawn({
        let (transfer, wanted) = (bench.transfer.clone(), signed_in.clone());
        async move { drained(local(transfer.open_begun(&wanted).await.unwrap().unwrap())).await.unwrap() }
    });
    bench.transfer.followers(&signed_in.digest, 2).await;
    assert_eq!(bench.fetch.classes(), [Class::Authenticated]);
    gate.send(()).unwrap();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (bytes.clone(), bytes));
    assert_eq!(bench.fetch.opened().len(), 1);
    assert!(bench.transfer.open_begun(&anonymous).await.unwrap().is_some(), "it is here");
}

#[tokio::test]
async fn anonymous_callers_leave_fills_to_those_who_signed_in() {
    let bench = Bench::new().await;
    let mut gates = Vec::new();
    let mut askers = tokio::task::JoinSet::new();
    let mut ask = |n: usize, rule: &'static str, class| {
        let bytes = blob_of(u64::try_from(n).unwrap(), 10);
        gates.push(bench.fetch.script_gated(rule, Reply::body(&bytes)));
        let (transfer, wanted) = (bench.transfer.clone(), Wanted { class, ..wanted(&bytes, rule) });
        askers.spawn(async move { transfer.open(&wanted).await.map(|_| ()) });
    };
    for n in 0..FILLS_ANONYMOUS {
        ask(n, ["a", "b"][n % 2], Class::Anonymous);
    }
    bench.fetch.asked_times(FILLS_ANONYMOUS).await;
    let one_more = Wanted { class: Class::Anonymous, ..wanted(&blob_of(1000, 10), "c") };
    assert!(matches!(bench.transfer.open(&one_more).await, Err(TransferError::Busy)), "of all fills");
    // Of those of one upstream, too, they have had theirs.
    for (more, rule) in [(0, "a"), (1, "c")] {
        ask(FILLS_ANONYMOUS + more, rule, Class::Authenticated);
        bench.fetch.asked_times(FILLS_ANONYMOUS + more + 1).await;
    }
}

#[tokio::test]
async fn the_head_and_the_first_bytes_leave_before_the_rest_has_come() {
    let bench = Bench::new().await;
    let bytes = blob_of(2, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    let mut reader = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    assert_eq!(reader.len(), ByteLen(LEN as u64));
    feed.send(Ok(bytes.slice(..10))).await.unwrap();
    assert_eq!(reader.chunk().await.unwrap().unwrap(), bytes.slice(..10));
    feed.send(Ok(bytes.slice(10..))).await.unwrap();
    assert_eq!(drained(reader).await.unwrap(), bytes.slice(10..));
}

#[tokio::test]
async fn a_fill_goes_on_without_its_client() {
    let bench = Bench::new().await;
    let bytes = blob_of(3, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    let wanted = wanted(&bytes, "a");
    drop(bench.transfer.open(&wanted).await.unwrap());
    feed.send(Ok(bytes.clone())).await.unwrap();
    assert!(bench.transfer.sealed(&wanted.digest).await);
}

#[tokio::test]
async fn a_cut_fill_is_taken_up_where_it_ended() {
    let bench = Bench::new().await;
    let bytes = blob_of(4, LEN);
    bench.fetch.script("a", [Reply::cut(&bytes, 2 << 20), Reply::body(&bytes), Reply::body(&bytes)]);
    let wanted = wanted(&bytes, "a");
    let reader = local(bench.transfer.open(&wanted).await.unwrap());
    assert!(matches!(drained(reader).await, Err(TransferError::Upstream(_))), "the client is told why");
    assert!(!bench.transfer.sealed(&wanted.digest).await);
    assert_eq!(drained(local(bench.transfer.open(&wanted).await.unwrap())).await.unwrap(), bytes);
    let opened = bench.fetch.opened();
    // Without a known length the head tells that there is a part already; then only the rest is asked for.
    assert_eq!(opened.last(), Some(&("a".to_owned(), 2 << 20)), "{opened:?}");
}

#[tokio::test]
async fn the_next_source_goes_on_where_the_first_was_cut() {
    let bench = Bench::new().await;
    let bytes = blob_of(5, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    bench.fetch.script("b", [Reply::body(&bytes)]);
    let first = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    let second = local(bench.transfer.open(&wanted(&bytes, "b")).await.unwrap());
    feed.send(Ok(bytes.slice(..1_000_000))).await.unwrap();
    feed.send(Err(fake::cut())).await.unwrap();
    assert_eq!(drained(first).await.unwrap(), bytes);
    assert_eq!(drained(second).await.unwrap(), bytes);
    assert_eq!(bench.fetch.opened(), [("a".to_owned(), 0), ("b".to_owned(), 1_000_000)]);
}

#[tokio::test]
async fn wrong_bytes_never_complete_and_are_not_kept() {
    let bench = Bench::new().await;
    let (bytes, other) = (blob_of(6, LEN), blob_of(7, LEN));
    bench.fetch.script("a", [Reply::body(&other)]);
    let wanted = wanted(&bytes, "a");
    let mut reader = local(bench.transfer.open(&wanted).await.unwrap());
    let mut got = 0;
    let error = loop {
        match reader.chunk().await.unwrap() {
            Ok(chunk) => got += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TransferError::Mismatch(_)), "{error:?}");
    assert!(got < LEN);
    assert!(!bench.transfer.sealed(&wanted.digest).await);
    let again = bench.transfer.open(&wanted).await;
    assert!(matches!(again, Err(TransferError::Mismatch(_))), "a poisoned source is left alone for a while");
    assert_eq!(bench.fetch.opened().len(), 1);
}

#[tokio::test]
async fn a_patchwork_that_does_not_match_is_fetched_once_more_from_one_source() {
    let bench = Bench::new().await;
    let (bytes, other) = (blob_of(8, LEN), blob_of(9, LEN));
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    bench.fetch.script("b", [Reply::body(&bytes), Reply::body(&bytes)]);
    let first = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    let second = bench.transfer.open(&wanted(&bytes, "b")).await.unwrap();
    feed.send(Ok(other.slice(..1_000_000))).await.unwrap();
    feed.send(Err(fake::cut())).await.unwrap();
    assert!(drained(first).await.is_err(), "who got wrong bytes is cut");
    drop(second);
    assert!(bench.transfer.sealed(&wanted(&bytes, "b").digest).await);
    assert_eq!(bench.fetch.opened().last(), Some(&("b".to_owned(), 0)));
}

#[tokio::test]
async fn nowhere_is_said_only_when_the_own_source_said_so() {
    let bench = Bench::new().await;
    let bytes = blob_of(10, 100);
    bench.fetch.script("gone", [Reply::Absent]);
    bench.fetch.script("busy", [Reply::Throttled]);
    for _ in 0..2 {
        let gone = bench.transfer.open(&wanted(&bytes, "gone")).await;
        assert!(matches!(gone, Err(TransferError::Nowhere(_))));
        let busy = bench.transfer.open(&wanted(&bytes, "busy")).await;
        assert!(matches!(busy, Err(TransferError::Upstream(_))));
    }
    assert_eq!(bench.fetch.opened().len(), 2, "both answers are remembered");
    let none = Wanted { origin: None, ..wanted(&bytes, "gone") };
    assert!(matches!(bench.transfer.open(&none).await, Err(TransferError::Nowhere(_))));
}

#[tokio::test]
async fn a_source_without_the_blob_does_not_fail_those_whose_source_has_it() {
    let bench = Bench::new().await;
    let bytes = blob_of(11, LEN);
    let gate = bench.fetch.script_gated("a", Reply::Absent);
    bench.fetch.script("b", [Reply::body(&bytes)]);
    let opening = |rule| {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, rule));
        tokio::spawn(async move { transfer.open(&wanted).await })
    };
    let unproven = {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, "a"));
        bench.fetch.trust("a");
        tokio::spawn(async move { transfer.open_unproven(&wanted, &Class::Authenticated.into(), &unheard()).await })
    };
    bench.fetch.asked("a").await;
    let second = opening("b");
    bench.followers(&wanted(&bytes, "b").digest, 2).await;
    gate.send(()).unwrap();
    assert_eq!(drained(local(second.await.unwrap().unwrap())).await.unwrap(), bytes);
    let unproven = unproven.await.unwrap();
    assert!(matches!(unproven, Err(TransferError::Nowhere(_))), "it proved nothing, and gets nothing (6)");
}

/// What the first one's request came through is no business of those who join.
#[tokio::test]
async fn a_circle_fails_the_one_who_came_in_it() {
    let bench = Bench::new().await;
    let bytes = blob_of(12, LEN);
    let gate = bench.fetch.script_gated("a", Reply::Circle);
    bench.fetch.script("a", [Reply::body(&bytes)]);
    bench.fetch.trust("a");
    let opening = || {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, "a"));
        tokio::spawn(async move { transfer.open(&wanted).await })
    };
    let first = opening();
    bench.fetch.asked("a").await;
    let unproven = {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, "a"));
        tokio::spawn(async move { transfer.open_unproven(&wanted, &Class::Authenticated.into(), &unheard()).await })
    };
    let second = opening();
    // One of them holds on to it twice.
    bench.followers(&wanted(&bytes, "a").digest, 4).await;
    gate.send(()).unwrap();
    assert!(first.await.unwrap().err().unwrap().is_circle());
    assert_eq!(drained(local(second.await.unwrap().unwrap())).await.unwrap(), bytes);
    assert_eq!(drained(local(unproven.await.unwrap().unwrap().unwrap())).await.unwrap(), bytes);
    assert_eq!(bench.fetch.opened().len(), 2, "once more, for both");
}

#[tokio::test]
async fn what_an_unbelieved_origin_leads_takes_nobody_elses_bytes() {
    let bench = Bench::new().await;
    let bytes = blob_of(12, LEN);
    bench.fetch.script("hostile", [Reply::cut(&bytes, 2 << 20)]);
    bench.fetch.script("good", [Reply::body(&bytes)]);
    let unproven = bench
        .transfer
        .open_unproven(&wanted(&bytes, "hostile"), &Class::Authenticated.into(), &unheard())
        .await
        .unwrap();
    let hostile = local(unproven.unwrap());
    let sealing = hostile.sealing().unwrap();
    assert!(drained(hostile).await.is_err());
    assert!(!sealing.sealed().await);
    assert_eq!(drained(local(bench.transfer.open(&wanted(&bytes, "good")).await.unwrap())).await.unwrap(), bytes);
    assert_eq!(bench.fetch.opened().last(), Some(&("good".to_owned(), 0)), "nobody goes on from what it left");
    let held = bench
        .transfer
        .open_unproven(&wanted(&bytes, "hostile"), &Class::Authenticated.into(), &unheard())
        .await
        .unwrap();
    assert!(held.is_none(), "what is here proves nothing for another repository (6)");
}

#[tokio::test]
async fn what_an_unbelieved_origin_sends_feeds_nobody_who_did_not_ask_it() {
    let bench = Bench::new().await;
    let (bytes, garbage) = (blob_of(21, LEN), blob_of(22, LEN));
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("hostile", [reply, Reply::body(&bytes)]);
    bench.fetch.script("good", [Reply::body(&bytes)]);
    let unproven = bench
        .transfer
        .open_unproven(&wanted(&bytes, "hostile"), &Class::Authenticated.into(), &unheard())
        .await
        .unwrap();
    let mut hostile = local(unproven.unwrap());
    feed.send(Ok(garbage.slice(..1_500_000))).await.unwrap();
    let unread = hostile.again();
    hostile.chunk().await.unwrap().unwrap();
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (transfer, wanted) = (bench.transfer.clone(), wanted(&bytes, "good"));
        askers.spawn(async move { drained(local(transfer.open(&wanted).await.unwrap())).await.unwrap() });
    }
    while let Some(got) = askers.join_next().await {
        assert!(got.unwrap() == bytes);
    }
    assert!(drained(hostile).await.is_err(), "what it has is not proven, and not completed (2)");
    assert!(drained(unread).await.unwrap() == bytes);
    let opened = bench.fetch.opened();
    let good = opened.iter().filter(|(rule, _)| rule == "good").count();
    assert_eq!((good, opened.len()), (1, 3), "the good one once, the other again for who waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_crawls_is_left_for_one_that_was_not_tried() {
    let host = Host { disk: Arc::new(MemoryDisk::default()), ..Host::system() };
    let bench = Bench::with(host, ByteLen::gib(1)).await;
    let bytes = blob_of(23, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    bench.fetch.script("b", [Reply::body(&bytes)]);
    let first = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    feed.send(Ok(bytes.slice(..1_000))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.fetch.opened().len(), 1, "without another it goes on");
    let second = local(bench.transfer.open(&wanted(&bytes, "b")).await.unwrap());
    let begun = tokio::time::Instant::now();
    assert_eq!(drained(second).await.unwrap(), bytes);
    assert_eq!(drained(first).await.unwrap(), bytes);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(bench.fetch.opened(), [("a".to_owned(), 0), ("b".to_owned(), 1_000)]);
}

#[tokio::test]
async fn a_part_that_others_brought_is_not_shown_to_an_unbelieved_origin() {
    let bench = Bench::new().await;
    let bytes = blob_of(13, LEN);
    bench.fetch.script("good", [Reply::cut(&bytes, 2 << 20)]);
    bench.fetch.script("hostile", [Reply::fed(LEN).0, Reply::cut(&bytes, 0)]);
    let good = local(bench.transfer.open(&wanted(&bytes, "good")).await.unwrap());
    assert!(drained(good).await.is_err());
    let blob = bench
        .transfer
        .open_unproven(&wanted(&bytes, "hostile"), &Class::Authenticated.into(), &unheard())
        .await
        .unwrap()
        .unwrap();
    let (_, body) = through(blob);
    assert!(fake::drained_stream(body).await.is_err(), "nothing but what it delivers itself: nothing");
}

#[tokio::test]
async fn a_through_stream_is_verified_and_tells_when_it_matched() {
    let bench = Bench::new().await;
    let (bytes, other) = (blob_of(14, LEN), blob_of(15, LEN));
    bench.fetch.script("right", [Reply::body(&bytes)]);
    bench.fetch.script("wrong", [Reply::body(&other)]);
    let (told, tell) = std::sync::mpsc::channel();
    for rule in ["right", "wrong"] {
        let told = told.clone();
        let done: Delivered = Arc::new(move |len| told.send((rule, len)).unwrap());
        let (len, body) = through(bench.transfer.through(&wanted(&bytes, rule), &done).await.unwrap());
        assert_eq!(len, ByteLen(LEN as u64));
        let got = fake::drained_stream(body).await;
        if rule == "right" {
            assert_eq!(got.unwrap(), bytes);
        } else {
            assert!(got.unwrap_err() <= LEN - (1 << 20), "the last piece is held back (2)");
        }
    }
    drop(told);
    assert_eq!(tell.iter().collect::<Vec<_>>(), [("right", ByteLen(LEN as u64))]);
    assert!(bench.transfer.held(&wanted(&bytes, "right").digest).await.unwrap().is_none());
}

#[tokio::test]
async fn a_blob_that_does_not_fit_passes_through() {
    let bench = Bench::with(Host::system(), ByteLen(LEN as u64 - 1)).await;
    let bytes = blob_of(16, LEN);
    bench.fetch.script("a", [Reply::body(&bytes)]);
    let (len, body) = through(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    assert_eq!(len, ByteLen(LEN as u64));
    assert_eq!(fake::drained_stream(body).await.unwrap(), bytes);
    assert!(bench.metric("flotilla_passthrough_total{reason=\"disk_full\"} 1"));
}

#[tokio::test]
async fn a_disk_that_becomes_full_on_the_way_does_not_cut_the_readers() {
    let disk = MemoryDisk::default();
    let bench = Bench::with(Host { disk: Arc::new(disk.clone()), ..Host::system() }, ByteLen::gib(1)).await;
    let bytes = blob_of(17, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply, Reply::body(&bytes), Reply::body(&bytes)]);
    let mut whole = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    let range = whole.again().range(ByteRange { start: 500_000, end: 2_500_000 });
    feed.send(Ok(bytes.slice(..1_000_000))).await.unwrap();
    let first = whole.chunk().await.unwrap().unwrap();
    disk.fail(Some(Fault::once(1, std::io::ErrorKind::StorageFull)));
    feed.send(Ok(bytes.slice(1_000_000..))).await.unwrap();
    let rest = drained(whole).await.unwrap();
    assert_eq!([first, rest].concat(), bytes);
    assert_eq!(drained(range).await.unwrap(), bytes.slice(500_000..2_500_000));
    assert!(bench.metric("flotilla_passthrough_total{reason=\"rescue\"} 2"));
    assert!(matches!(bench.blobs.find(&wanted(&bytes, "a").digest).await.unwrap(), Found::Absent));
}

#[tokio::test]
async fn a_disk_that_takes_no_partials_lets_blobs_pass_through() {
    let disk = MemoryDisk::default();
    let bench = Bench::with(Host { disk: Arc::new(disk.clone()), ..Host::system() }, ByteLen::gib(1)).await;
    let bytes = blob_of(21, LEN);
    bench.fetch.script("a", [Reply::body(&bytes), Reply::body(&bytes)]);
    disk.fail(Some(Fault { step: 1, lasting: true, kind: std::io::ErrorKind::ReadOnlyFilesystem }));
    let (len, body) = through(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    assert_eq!(len, ByteLen(LEN as u64));
    assert_eq!(fake::drained_stream(body).await.unwrap(), bytes);
    assert!(bench.metric("flotilla_passthrough_total{reason=\"disk_failed\"} 1"));
}

#[tokio::test]
async fn a_disk_that_fails_on_the_way_does_not_cut_the_readers() {
    let disk = MemoryDisk::default();
    let bench = Bench::with(Host { disk: Arc::new(disk.clone()), ..Host::system() }, ByteLen::gib(1)).await;
    let bytes = blob_of(22, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply, Reply::body(&bytes)]);
    let mut whole = local(bench.transfer.open(&wanted(&bytes, "a")).await.unwrap());
    feed.send(Ok(bytes.slice(..1_000_000))).await.unwrap();
    let first = whole.chunk().await.unwrap().unwrap();
    disk.fail(Some(Fault::once(1, std::io::ErrorKind::Other)));
    feed.send(Ok(bytes.slice(1_000_000..))).await.unwrap();
    assert_eq!([first, drained(whole).await.unwrap()].concat(), bytes);
}

#[tokio::test]
async fn a_held_piece_that_went_bad_is_replaced_by_the_origin_under_the_reader() {
    let (disk, dir) = (MemoryDisk::default(), std::path::Path::new("/blobs"));
    let host = || Host { disk: Arc::new(disk.clone()), ..Host::system() };
    let bytes = blob_of(19, LEN);
    let wanted = wanted(&bytes, "a");
    let bench = Bench::at(dir, host(), ByteLen::gib(1)).await;
    bench.fetch.script("a", [Reply::body(&bytes)]);
    drained(local(bench.transfer.open(&wanted).await.unwrap())).await.unwrap();
    assert!(bench.transfer.sealed(&wanted.digest).await);
    let hex = wanted.digest.hex();
    let again = Bench::at(dir, host(), ByteLen::gib(1)).await;
    again.fetch.script("a", [Reply::body(&bytes)]);
    disk.corrupt(&fake::data_of(dir, &hex), (1 << 20) + 5);
    assert_eq!(drained(local(again.transfer.open(&wanted).await.unwrap())).await.unwrap(), bytes);
    assert_eq!(again.fetch.opened(), [("a".to_owned(), 0)]);
    assert!(again.transfer.held(&wanted.digest).await.unwrap().is_none(), "the bad one is set aside");
}

#[tokio::test]
async fn a_blob_of_known_length_is_resumed_after_a_restart_with_one_request() {
    let (disk, dir) = (MemoryDisk::default(), std::path::Path::new("/blobs"));
    let host = || Host { disk: Arc::new(disk.clone()), ..Host::system() };
    let bytes = blob_of(20, LEN);
    let wanted = Wanted { len: Some(ByteLen(LEN as u64)), ..wanted(&bytes, "a") };
    let bench = Bench::at(dir, host(), ByteLen::gib(1)).await;
    bench.fetch.script("a", [Reply::cut(&bytes, 2 << 20)]);
    let cut = drained(local(bench.transfer.open(&wanted).await.unwrap())).await;
    assert!(cut.is_err());
    assert!(!bench.transfer.sealed(&wanted.digest).await);
    let again = Bench::at(dir, host(), ByteLen::gib(1)).await;
    again.fetch.script("a", [Reply::body(&bytes)]);
    assert_eq!(drained(local(again.transfer.open(&wanted).await.unwrap())).await.unwrap(), bytes);
    assert_eq!(again.fetch.opened(), [("a".to_owned(), 2 << 20)]);
}

#[tokio::test]
async fn too_many_fills_without_a_client_pause_the_oldest_and_its_part_is_kept() {
    let bench = Bench::new().await;
    let mut feeds = Vec::new();
    let oldest = blob_of(100, LEN);
    for n in 0..=crate::transfer::ORPHANS_MOST {
        let bytes = blob_of(100 + n as u64, LEN);
        let rule = format!("r{n}");
        let (reply, feed) = Reply::fed(LEN);
        bench.fetch.script(&rule, [reply, Reply::body(&bytes), Reply::body(&bytes)]);
        let mut reader = local(bench.transfer.open(&wanted(&bytes, &rule)).await.unwrap());
        feed.send(Ok(bytes.slice(..1_500_000))).await.unwrap();
        reader.chunk().await.unwrap().unwrap();
        feeds.push(feed);
    }
    assert!(!bench.transfer.sealed(&wanted(&oldest, "r0").digest).await, "the oldest has ended");
    assert_eq!(bench.transfer.fills_in_flight(), crate::transfer::ORPHANS_MOST as u64);
    assert_eq!(drained(local(bench.transfer.open(&wanted(&oldest, "r0")).await.unwrap())).await.unwrap(), oldest);
    let resumed = bench.fetch.opened().into_iter().any(|(rule, from)| rule == "r0" && from >= 1 << 20);
    assert!(resumed, "{:?}", bench.fetch.opened());
}

#[tokio::test]
async fn a_stopping_node_ends_fills_that_nobody_follows_and_keeps_their_part() {
    let bench = Bench::new().await;
    let bytes = blob_of(18, LEN);
    let (reply, feed) = Reply::fed(LEN);
    bench.fetch.script("a", [reply]);
    let wanted = wanted(&bytes, "a");
    let mut reader = local(bench.transfer.open(&wanted).await.unwrap());
    feed.send(Ok(bytes.slice(..1_500_000))).await.unwrap();
    reader.chunk().await.unwrap().unwrap();
    drop(reader);
    assert!(bench.host.tasks.finish(Duration::from_secs(5)).await, "every fill has ended");
    let writer = bench.blobs.begin(&wanted.digest, ByteLen(LEN as u64)).await.unwrap();
    assert!(writer.resume_at() >= 1 << 20);
    assert!(matches!(bench.transfer.open(&wanted).await, Err(TransferError::Stopping)));
}

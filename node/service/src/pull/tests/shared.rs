//! Work that several callers share, where one of them is not what the others are: he claims to come through other
//! caches, or the rule is another one since he began.

use std::time::Duration;

use bytes::Bytes;
use flotilla_runtime::Trail;
use flotilla_state::Op;
use tokio::time::timeout;

use super::{
    EXPIRED,
    bench::{self, Bench, TRUSTED, UNTRUSTED, digest_of, drained, manifest},
    is_absent,
    upstream::FORGED_HOP,
};
use crate::pull::Freshness;

const SHORT: Duration = Duration::from_millis(5);

fn forged() -> Trail {
    Trail::new(vec![FORGED_HOP.to_owned()])
}

#[tokio::test]
async fn a_forged_circle_freezes_no_tag() {
    let bench = Bench::new().await;
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("old", &[]));
    bench.manifest("dh/nginx", "1").await.unwrap();
    let new = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("new", &[]));
    bench.advance(EXPIRED);
    let attacker = bench.anonymous("198.51.100.1");
    let attack = forged().scope(bench.manifest_as(&attacker, "dh/nginx", "1")).await.unwrap();
    assert_eq!(attack.freshness, Freshness::Stale, "what is held is served also in a circle");
    let served = bench.manifest("dh/nginx", "1").await.unwrap();
    assert_eq!((served.digest, served.freshness), (new, Freshness::Miss), "the next one asks at once");
}

#[tokio::test]
async fn a_forged_circle_fails_nobody_who_waits_for_the_same() {
    let bench = Bench::new().await;
    for (host, prefix) in [(TRUSTED, "dh"), (UNTRUSTED, "ex")] {
        let layer = Bytes::from(host);
        let digest = digest_of(&layer);
        let app = manifest(host, &[digest]);
        let by_digest = bench.upstream.put_manifest(host, "some/app", "1", &app).to_string();
        bench.upstream.put_manifest(host, "other/app", "1", &app);
        bench.upstream.put_blob(host, "some/app", digest, &layer);
        let (name, other) = (format!("{prefix}/some/app"), format!("{prefix}/other/app"));
        bench.upstream.hold_back(Some("/app/"));
        let attacker = bench.anonymous("198.51.100.1");
        let mut attacks = [
            Box::pin(forged().scope(bench.manifest_as(&attacker, &name, "1"))),
            Box::pin(forged().scope(bench.manifest_as(&attacker, &other, &by_digest))),
        ];
        let mut attack = Box::pin(forged().scope(bench.blob_as(&attacker, &name, &digest)));
        for one in &mut attacks {
            assert!(timeout(SHORT, one).await.is_err());
        }
        assert!(timeout(SHORT, &mut attack).await.is_err());
        let anonymous = bench.anonymous("192.0.2.1");
        let mut pulls = [
            Box::pin(bench.manifest_as(&anonymous, &name, "1")),
            Box::pin(bench.manifest_as(&anonymous, &other, &by_digest)),
        ];
        let mut pull = Box::pin(bench.blob_as(&anonymous, &name, &digest));
        for one in &mut pulls {
            assert!(timeout(SHORT, one).await.is_err());
        }
        assert!(timeout(SHORT, &mut pull).await.is_err(), "it waits with the attacker");
        bench.upstream.hold_back(None);
        for one in attacks {
            one.await.unwrap_err();
        }
        assert!(attack.await.is_err());
        for one in pulls {
            assert_eq!(one.await.unwrap().bytes, app);
        }
        assert_eq!(drained(pull.await.unwrap()).await.unwrap(), layer);
    }
}

/// Puts a rule to another upstream in the place of `dh`.
async fn replace_rule(bench: &Bench) {
    bench.propose(Op::DeleteCacheRule { prefix: "dh".parse().unwrap() }).await;
    bench.propose(bench::rule("dh", UNTRUSTED)).await;
}

#[tokio::test]
async fn a_length_is_told_under_the_rule_that_told_it() {
    let bench = Bench::new().await;
    let layer = Bytes::from_static(b"of the first upstream alone");
    bench.upstream.put_blob(TRUSTED, "some/app", digest_of(&layer), &layer);
    assert_eq!(bench.blob_len("dh/some/app", &digest_of(&layer)).await.unwrap().0, 27);
    replace_rule(&bench).await;
    assert!(is_absent(&bench.blob_len("dh/some/app", &digest_of(&layer)).await));
}

#[tokio::test]
async fn a_proof_counts_for_nobody_who_asks_under_another_rule() {
    let bench = Bench::new().await;
    let layer = Bytes::from_static(b"held for another repository");
    let digest = digest_of(&layer);
    bench.upstream.put_blob(TRUSTED, "other/app", digest, &layer);
    drained(bench.blob("dh2/other/app", &digest).await.unwrap()).await.unwrap();
    bench.linked("dh2/other/app", &digest).await;
    // Its own upstream has it, too, and takes its time to say so.
    bench.upstream.put_blob(TRUSTED, "some/app", digest, &layer);
    bench.upstream.hold_back(Some("/some/app/blobs/"));
    let mut first = Box::pin(bench.blob("dh/some/app", &digest));
    assert!(timeout(SHORT, &mut first).await.is_err());
    bench.upstream.is_asked(&format!("HEAD /{TRUSTED}/v2/some/app/blobs/")).await;
    replace_rule(&bench).await;
    let mut second = Box::pin(bench.blob("dh/some/app", &digest));
    assert!(timeout(SHORT, &mut second).await.is_err(), "it joins the proof");
    bench.upstream.hold_back(None);
    assert!(first.await.is_ok(), "he began when it was right");
    assert!(is_absent(&second.await), "the upstream of the rule as it is does not have it");
}

//! What callers may cause, and that nobody suffers for what another one causes.

use std::time::Duration;

use bytes::Bytes;
use flotilla_upstream::UpstreamError;

use super::{
    EXPIRED,
    bench::{Bench, Limits, TRUSTED, UNTRUSTED, digest_of, drained, manifest},
    is_absent, join,
};
use crate::{Caller, CallerLimits, Freshness, Limit, LimitsConfig, PullConfig, Rate, ServiceError};

const NONE: CallerLimits = CallerLimits {
    misses_per_minute: Rate::Unlimited,
    new_repositories_per_minute: Rate::Unlimited,
    revalidations_per_minute: Rate::Unlimited,
    upstream_bytes_per_minute: Rate::Unlimited,
};

/// The same for both kinds of callers.
async fn limited(limits: CallerLimits) -> Bench {
    let callers = LimitsConfig { anonymous: limits.clone(), principal: limits, ..LimitsConfig::default() };
    Bench::within(PullConfig::default(), Limits { callers, ..Limits::default() }).await
}

fn is_limited<T>(result: &Result<T, ServiceError>, limit: Limit) -> bool {
    matches!(result, Err(ServiceError::Limited { what, retry_after })
        if *what == limit && *retry_after > Duration::ZERO && *retry_after <= Duration::from_secs(600))
}

fn put_manifests(bench: &Bench, count: usize) {
    for n in 0..count {
        bench.upstream.put_manifest(TRUSTED, "library/app", &n.to_string(), &manifest(&n.to_string(), &[]));
    }
}

#[tokio::test]
async fn who_has_had_his_misses_is_served_what_is_held_and_others_go_on() {
    let bench = limited(CallerLimits { misses_per_minute: Rate::PerMinute(3), ..NONE }).await;
    put_manifests(&bench, 8);
    let (one, neighbour) = (bench.anonymous("192.0.2.1"), bench.anonymous("192.0.2.200"));
    for tag in ["0", "1", "2"] {
        assert_eq!(bench.manifest_as(&one, "dh/app", tag).await.unwrap().freshness, Freshness::Miss);
    }
    bench.upstream.asked();
    for caller in [&one, &neighbour] {
        assert!(is_limited(&bench.manifest_as(caller, "dh/app", "3").await, Limit::Misses));
        let digest = manifest("4", &[]);
        let by_digest = bench.manifest_as(caller, "dh/app", &digest_of(&digest).to_string()).await;
        assert!(is_limited(&by_digest, Limit::Misses));
        assert!(is_limited(&bench.blob_as(caller, "dh/app", &digest_of(b"layer")).await, Limit::Misses));
        assert_eq!(bench.manifest_as(caller, "dh/app", "1").await.unwrap().freshness, Freshness::Hit);
    }
    assert!(bench.upstream.asked().is_empty(), "upstream hears of nothing that is refused");
    let others = [bench.anonymous("192.0.3.1"), bench.anonymous("2001:db8::1"), bench.user("ci"), bench.user("dev")];
    for (caller, tag) in others.iter().zip(["3", "4", "5", "6"]) {
        assert_eq!(bench.manifest_as(caller, "dh/app", tag).await.unwrap().freshness, Freshness::Miss, "{caller:?}");
    }
    assert!(bench.metric(r#"flotilla_limited_total{what="misses",who="anonymous"} 6"#));
    assert!(bench.metric(r#"flotilla_limit_entries{who="anonymous"} 3"#));
    assert!(bench.metric(r#"flotilla_limit_entries{who="principal"} 2"#));
}

#[tokio::test]
async fn who_joins_pays_nothing() {
    let bench = limited(CallerLimits { misses_per_minute: Rate::PerMinute(3), ..NONE }).await;
    let bytes = Bytes::from(vec![7; 100_000]);
    let digest = digest_of(&bytes);
    let image = manifest("app", &[digest]);
    bench.upstream.put_manifest(TRUSTED, "library/app", "1", &image);
    bench.upstream.put_blob(TRUSTED, "library/app", digest, &bytes);
    let caller = bench.anonymous("192.0.2.1");
    for pulled in join((0..20).map(|_| bench.manifest_as(&caller, "dh/app", "1")).collect()).await {
        assert_eq!(pulled.unwrap().bytes, image);
    }
    for pulled in join((0..20).map(|_| bench.blob_as(&caller, "dh/app", &digest)).collect()).await {
        assert_eq!(drained(pulled.unwrap()).await.unwrap(), bytes);
    }
    bench.linked("dh/app", &digest).await;
    // Held: free however often.
    for _ in 0..20 {
        bench.manifest_as(&caller, "dh/app", "1").await.unwrap();
        assert_eq!(bench.blob_as(&caller, "dh/app", &digest).await.unwrap().freshness, Freshness::Hit);
    }
    assert!(is_absent(&bench.manifest_as(&caller, "dh/app", "none").await), "the third");
    assert!(is_absent(&bench.manifest_as(&caller, "dh/app", "none").await), "a known absence asks nobody");
    assert!(is_limited(&bench.manifest_as(&caller, "dh/app", "none2").await, Limit::Misses));
}

#[tokio::test]
async fn a_held_tag_is_served_when_its_validation_is_over_the_limit() {
    let bench = limited(CallerLimits { revalidations_per_minute: Rate::PerMinute(1), ..NONE }).await;
    put_manifests(&bench, 2);
    let caller = bench.anonymous("192.0.2.1");
    for tag in ["0", "1"] {
        bench.manifest_as(&caller, "dh/app", tag).await.unwrap();
    }
    bench.advance(EXPIRED);
    bench.upstream.asked();
    assert_eq!(bench.manifest_as(&caller, "dh/app", "0").await.unwrap().freshness, Freshness::Miss);
    assert_eq!(bench.manifest_as(&caller, "dh/app", "1").await.unwrap().freshness, Freshness::Stale);
    assert_eq!(bench.upstream.asked().len(), 1);
    assert!(bench.metric(r#"flotilla_limited_total{what="revalidations",who="anonymous"} 1"#));
    // It waits for nobody else.
    assert_eq!(bench.manifest_as(&bench.user("ci"), "dh/app", "1").await.unwrap().freshness, Freshness::Miss);
}

#[tokio::test]
async fn new_repositories_are_limited_and_a_name_without_an_image_makes_none() {
    let bench = limited(CallerLimits { new_repositories_per_minute: Rate::PerMinute(3), ..NONE }).await;
    let caller = bench.anonymous("192.0.2.1");
    for name in ["a", "b", "c", "d"] {
        bench.upstream.put_manifest(TRUSTED, &format!("library/{name}"), "1", &manifest(name, &[]));
        bench.upstream.put_manifest(TRUSTED, &format!("library/{name}"), "2", &manifest("2", &[]));
    }
    assert!(is_absent(&bench.manifest_as(&caller, "dh/none", "1").await));
    assert!(!bench.is_repository("dh/none"), "a repository comes with its first manifest, or not at all");
    for name in ["dh/a", "dh/b"] {
        bench.manifest_as(&caller, name, "1").await.unwrap();
        assert!(bench.is_repository(name));
    }
    assert!(is_limited(&bench.manifest_as(&caller, "dh/c", "1").await, Limit::NewRepositories));
    assert!(!bench.is_repository("dh/c"));
    bench.manifest_as(&caller, "dh/a", "2").await.unwrap();
}

#[tokio::test]
async fn bytes_that_upstream_sent_are_paid_for_before_the_next_miss() {
    let bench = limited(CallerLimits { upstream_bytes_per_minute: Rate::PerMinute(1 << 20), ..NONE }).await;
    let blobs: Vec<Bytes> = (0..3).map(|n| Bytes::from(vec![n; 3 << 19])).collect();
    for (host, blob) in [(TRUSTED, &blobs[0]), (TRUSTED, &blobs[1]), (UNTRUSTED, &blobs[2])] {
        let name = if host == TRUSTED { "library/app" } else { "some/app" };
        bench.upstream.put_blob(host, name, digest_of(blob), blob);
    }
    let (caller, other) = (bench.anonymous("192.0.2.1"), bench.anonymous("192.0.3.1"));
    let first = digest_of(&blobs[0]);
    let pulled = bench.blob_as(&caller, "dh/app", &first).await.unwrap();
    assert_eq!(drained(pulled).await.unwrap(), blobs[0], "larger than the bucket, and served whole");
    bench.linked("dh/app", &first).await;
    let second = digest_of(&blobs[1]);
    assert!(is_limited(&bench.blob_as(&caller, "dh/app", &second).await, Limit::UpstreamBytes));
    assert_eq!(bench.blob_as(&caller, "dh/app", &first).await.unwrap().freshness, Freshness::Hit);
    drained(bench.blob_as(&other, "ex/some/app", &digest_of(&blobs[2])).await.unwrap()).await.unwrap();
    assert!(is_limited(&bench.blob_as(&other, "dh/app", &second).await, Limit::UpstreamBytes), "of any upstream");
}

/// The attack: anonymous callers from everywhere ask for blobs that upstream does not begin to send.
#[tokio::test]
async fn anonymous_misses_that_stall_leave_an_upstream_to_those_who_signed_in() {
    let bench = Bench::within(PullConfig::default(), Limits { concurrency: 8, ..Limits::default() }).await;
    let layer = Bytes::from_static(b"layer");
    bench.upstream.put_manifest(TRUSTED, "library/held", "1", &manifest("held", &[]));
    bench.manifest("dh/held", "1").await.unwrap();
    let image = manifest("app", &[digest_of(&layer)]);
    bench.upstream.put_manifest(TRUSTED, "library/app", "1", &image);
    bench.upstream.put_blob(TRUSTED, "library/app", digest_of(&layer), &layer);
    bench.upstream.hold_back(Some("/attacked/"));
    bench.upstream.asked();
    let attackers: Vec<Caller> = (0..40).map(|n| bench.anonymous(&format!("198.51.{n}.1"))).collect();
    let mut attacks = tokio::task::JoinSet::new();
    for (n, attacker) in attackers.into_iter().enumerate() {
        let (pull, target) = (bench.pull.clone(), bench.target("dh/attacked/app"));
        attacks.spawn(async move {
            let permit = crate::Permit { caller: &attacker, action: flotilla_registry::access::Action("x") };
            if n % 2 == 0 {
                let _ = pull.blob(permit, &target, &digest_of(&n.to_le_bytes())).await;
            } else {
                let _ = pull.manifest(permit, &target, &n.to_string().parse().unwrap()).await;
            }
        });
    }
    // As many as get through: half of the places.
    while bench.upstream.seen("/attacked/") < 4 {
        tokio::task::yield_now().await;
    }
    let user = bench.user("ci");
    let pulls = async {
        assert_eq!(bench.manifest_as(&user, "dh/app", "1").await.unwrap().bytes, image);
        let pulled = bench.blob_as(&user, "dh/app", &digest_of(&layer)).await.unwrap();
        assert_eq!(drained(pulled).await.unwrap(), layer);
        bench.advance(EXPIRED);
        let held = bench.manifest_as(&bench.anonymous("192.0.2.1"), "dh/held", "1").await.unwrap();
        assert_eq!(held.freshness, Freshness::Miss, "whoever pulls it, a held tag is validated");
    };
    tokio::time::timeout(Duration::from_secs(5), pulls).await.expect("it does not wait behind the attack");
    assert_eq!(bench.upstream.seen("/attacked/"), 4, "of 8 places");
    attacks.shutdown().await;
    bench.upstream.hold_back(None);
}

#[tokio::test]
async fn who_signed_in_and_joins_what_anonymous_callers_wait_for_is_not_held_up_with_them() {
    let bench = Bench::within(PullConfig::default(), Limits { concurrency: 2, ..Limits::default() }).await;
    for (host, name) in [(TRUSTED, "dh/some/app"), (UNTRUSTED, "ex/some/app")] {
        let layer = Bytes::from(host);
        let digest = digest_of(&layer);
        let app = manifest(host, &[digest]);
        bench.upstream.put_manifest(host, "some/app", "1", &app);
        bench.upstream.put_blob(host, "some/app", digest, &layer);
        let host_part = if name.starts_with("dh") { "/attacked/" } else { "/stalled/" };
        bench.upstream.hold_back(Some(host_part));
        let attacker = bench.anonymous("198.51.100.1");
        let prefix = name.split('/').next().unwrap();
        let stalled = format!("{prefix}{host_part}app");
        let mut stall = Box::pin(bench.manifest_as(&attacker, &stalled, "1"));
        let mut first = Box::pin(bench.manifest_as(&attacker, name, "1"));
        let mut first_blob = Box::pin(bench.blob_as(&attacker, name, &digest));
        // The only place of anonymous callers is taken, and these two wait for it.
        for _ in 0..20 {
            let short = Duration::from_millis(5);
            assert!(tokio::time::timeout(short, &mut stall).await.is_err());
            assert!(tokio::time::timeout(short, &mut first).await.is_err());
            assert!(tokio::time::timeout(short, &mut first_blob).await.is_err());
        }
        let user = bench.user("ci");
        let joined = async {
            assert_eq!(bench.manifest_as(&user, name, "1").await.unwrap().bytes, app);
            assert_eq!(drained(bench.blob_as(&user, name, &digest).await.unwrap()).await.unwrap(), layer);
        };
        tokio::time::timeout(Duration::from_secs(5), joined).await.expect("it rises with who joins");
        assert_eq!(first.await.unwrap().bytes, app, "and takes those with it who waited");
        assert_eq!(drained(first_blob.await.unwrap()).await.unwrap(), layer);
        drop(stall);
        bench.upstream.hold_back(None);
        let asked = bench.upstream.asked();
        let gets = asked.iter().filter(|asked| asked.contains("/some/app/") && asked.starts_with("GET")).count();
        assert_eq!(gets, 2, "one for each, whoever waits: {asked:?}");
    }
}

#[tokio::test]
async fn the_last_tenth_of_a_rate_limit_is_for_those_who_sign_in_and_for_what_is_held() {
    let bench = Bench::new().await;
    put_manifests(&bench, 4);
    let (anonymous, user) = (bench.anonymous("192.0.2.1"), bench.user("ci"));
    bench.upstream.tell_quota(9, 100);
    bench.manifest_as(&anonymous, "dh/app", "0").await.unwrap();
    let refused = bench.manifest_as(&anonymous, "dh/app", "1").await;
    let is_reserved = matches!(&refused, Err(ServiceError::Upstream(UpstreamError::Reserved { retry_after, .. }))
        if *retry_after > Duration::from_secs(800));
    assert!(is_reserved, "{refused:?}");
    assert_eq!(bench.manifest_as(&user, "dh/app", "1").await.unwrap().freshness, Freshness::Miss);
    bench.advance(EXPIRED);
    assert_eq!(bench.manifest_as(&anonymous, "dh/app", "0").await.unwrap().freshness, Freshness::Miss);
    // The validation has told that it is well again.
    bench.upstream.tell_quota(80, 100);
    bench.manifest_as(&user, "dh/app", "2").await.unwrap();
    assert_eq!(bench.manifest_as(&anonymous, "dh/app", "3").await.unwrap().freshness, Freshness::Miss);
}

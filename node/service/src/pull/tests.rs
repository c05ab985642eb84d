mod bench;
mod evicted;
mod limits;
mod shared;
mod upstream;

use std::time::Duration;

use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, MediaType};
use flotilla_registry::{Glob, Refusal, cache_rule::CacheRuleOptions, image::ImageId, repository::Mutability};
use flotilla_state::Op;
use flotilla_upstream::UpstreamError;

use self::bench::{Bench, Limits, TRUSTED, TTL, UNTRUSTED, digest_of, drained, manifest};
use super::{Freshness, PullConfig, Source, Validation};
use crate::ServiceError;

/// Past the spread of ±10 %.
const EXPIRED: Duration = Duration::from_secs(TTL.as_secs() * 2);

fn is_absent<T>(result: &Result<T, ServiceError>) -> bool {
    matches!(
        result,
        Err(ServiceError::NoManifest { .. }
            | ServiceError::NoBlob { .. }
            | ServiceError::Refused(Refusal::NoRepository(_)))
    )
}

#[tokio::test]
async fn a_first_pull_imports_and_later_ones_ask_nobody() {
    let bench = Bench::new().await;
    let bytes = manifest("a", &[]);
    let digest = bench.upstream.put_manifest(TRUSTED, "library/nginx", "latest", &bytes);
    let first = bench.manifest("dh/nginx", "latest").await.unwrap();
    assert_eq!((first.digest, &first.bytes, first.freshness), (digest, &bytes, Freshness::Miss));
    bench.upstream.asked();
    for reference in ["latest", &digest.to_string()] {
        let again = bench.manifest("dh/nginx", reference).await.unwrap();
        assert_eq!((&again.bytes, again.freshness, again.source), (&bytes, Freshness::Hit, Source::Local));
    }
    assert!(bench.upstream.asked().is_empty());
}

#[tokio::test]
async fn many_first_pulls_cost_one_request() {
    let bench = Bench::new().await;
    let bytes = manifest("a", &[]);
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "latest", &bytes);
    let pull = |_| bench.manifest("dh/nginx", "latest");
    let pulls: Vec<_> = (0..20).map(pull).collect();
    for served in join(pulls).await {
        assert_eq!(served.unwrap().bytes, bytes);
    }
    assert_eq!(bench.upstream.count("GET"), 1);
}

/// Runs all at once.
async fn join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, result) in &mut futures {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
            ready &= result.is_some();
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, result)| result).collect()
}

#[tokio::test]
async fn a_manifest_too_long_for_one_entry_is_imported_in_parts() {
    let bench = Bench::new().await;
    let bytes = manifest(&"long ".repeat(40_000), &[]);
    bench.upstream.put_manifest(TRUSTED, "library/big", "1", &bytes);
    assert_eq!(bench.manifest("dh/big", "1").await.unwrap().freshness, Freshness::Miss);
    bench.upstream.clear();
    let held = bench.manifest("dh/big", "1").await.unwrap();
    assert_eq!((held.bytes, held.freshness), (bytes, Freshness::Hit));
}

#[tokio::test]
async fn an_unchanged_tag_costs_one_head_and_is_fresh_again() {
    let bench = Bench::new().await;
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("a", &[]));
    bench.manifest("dh/nginx", "1").await.unwrap();
    bench.upstream.asked();
    bench.advance(EXPIRED);
    assert_eq!(bench.manifest("dh/nginx", "1").await.unwrap().freshness, Freshness::Miss);
    assert_eq!(bench.manifest("dh/nginx", "1").await.unwrap().freshness, Freshness::Hit);
    let asked = bench.upstream.asked();
    assert!(asked.len() == 1 && asked[0].starts_with("HEAD"), "{asked:?}");
    bench.pull.flush().await;
    let view = bench.consensus.view().load();
    let tag = view.tables().tag(&"dh/nginx".parse().unwrap(), &"1".parse().unwrap()).unwrap().unwrap();
    assert!(tag.validated_at > tag.moved_at, "and known to the cluster");
}

#[tokio::test]
async fn a_moved_tag_moves_and_a_frozen_one_does_not() {
    let bench = Bench::new().await;
    let old = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("old", &[]));
    for name in ["dh/nginx", "dh2/nginx"] {
        assert_eq!(bench.manifest(name, "1").await.unwrap().digest, old);
    }
    let freeze = Op::PutMutability { name: "dh2/nginx".parse().unwrap(), mutability: Mutability::Immutable };
    bench.propose(freeze).await;
    let new = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("new", &[]));
    bench.advance(EXPIRED);
    assert_eq!(bench.manifest("dh/nginx", "1").await.unwrap().digest, new);
    assert_eq!(bench.manifest("dh2/nginx", "1").await.unwrap().digest, old);
    let refreshed = bench.refresh("dh2/nginx", "1").await;
    assert_eq!((refreshed.digest, refreshed.validation), (Some(old), Validation::Frozen));
    let refreshed = bench.refresh("dh/nginx", "1").await;
    assert_eq!((refreshed.digest, refreshed.validation), (Some(new), Validation::Unchanged));
}

#[tokio::test]
async fn upstream_trouble_never_fails_what_is_held() {
    for status in [401, 403, 404, 429, 500, 503] {
        let bench = Bench::new().await;
        let digest = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("a", &[]));
        bench.manifest("dh/nginx", "1").await.unwrap();
        bench.upstream.answer_all_with(Some(status));
        bench.advance(EXPIRED);
        let served = bench.manifest("dh/nginx", "1").await.unwrap();
        assert_eq!((served.digest, served.freshness), (digest, Freshness::Stale), "{status}");
        let refreshed = bench.refresh("dh/nginx", "1").await;
        assert_eq!(refreshed.validation == Validation::MissingUpstream, status == 404, "{refreshed:?}");
        bench.upstream.asked();
        assert_eq!(bench.manifest("dh/nginx", "1").await.unwrap().freshness, Freshness::Stale);
        assert!(bench.upstream.asked().is_empty(), "{status}: it is left alone for a while");
    }
}

#[tokio::test]
async fn a_slow_upstream_does_not_hold_up_what_is_held_and_its_answer_counts() {
    let bench = Bench::with(PullConfig { revalidate_wait_seconds: 0, ..PullConfig::default() }).await;
    let old = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("old", &[]));
    bench.manifest("dh/nginx", "1").await.unwrap();
    let new = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("new", &[]));
    bench.upstream.set_open(false);
    bench.advance(EXPIRED);
    let served = bench.manifest("dh/nginx", "1").await.unwrap();
    assert_eq!((served.digest, served.freshness), (old, Freshness::Stale));
    bench.upstream.set_open(true);
    assert_eq!(bench.refresh("dh/nginx", "1").await.digest, Some(new), "who waits joins the check that runs");
}

#[tokio::test]
async fn a_tag_that_moved_while_upstream_was_asked_is_asked_for_again() {
    let bench = Bench::new().await;
    let (a, b, c) = (manifest("a", &[]), manifest("b", &[]), manifest("c", &[]));
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &a);
    bench.manifest("dh/nginx", "1").await.unwrap();
    // Another validator imports C while this one has heard of B; by the next question upstream is back at A.
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &b);
    bench.upstream.asked();
    bench.upstream.set_open(false);
    bench.advance(EXPIRED);
    let refresh = bench.refresh("dh/nginx", "1");
    let meddle = async {
        bench.upstream.is_asked("HEAD").await;
        let target = bench.target("dh/nginx");
        let read = bench.pull.read(&target, Some(&"1".parse().unwrap())).unwrap();
        let image = super::import::Image {
            digest: digest_of(&c),
            media_type: MediaType(MediaType::OCI_MANIFEST.into()),
            bytes: c.clone(),
        };
        let tag = "1".parse().unwrap();
        let import = bench.pull.import(&target, &read, Some(&tag), &image).await.unwrap();
        assert!(matches!(import, super::import::Import::Done));
        bench.upstream.set_open(true);
        bench.upstream.is_asked(&format!("GET /{TRUSTED}/v2/library/nginx/manifests/{}", digest_of(&b))).await;
        bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &a);
    };
    let (refreshed, ()) = tokio::join!(refresh, meddle);
    // B was imported from the version that was read first: refused. The second question decides.
    assert_ne!(refreshed.digest, Some(digest_of(&c)));
    assert_eq!(refreshed.previous, Some(digest_of(&c)), "{refreshed:?}");
}

#[tokio::test]
async fn absence_is_remembered_and_trouble_is_no_absence() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        assert!(is_absent(&bench.manifest("dh/nginx", "none").await));
    }
    assert_eq!(bench.upstream.count("GET"), 1);
    bench.upstream.answer_all_with(Some(403));
    let asked = bench.upstream.count("GET");
    for _ in 0..3 {
        let denied = bench.manifest("dh/nginx", "private").await;
        assert!(matches!(denied, Err(ServiceError::Upstream(_))), "{denied:?}");
    }
    assert_eq!(bench.upstream.count("GET"), asked + 1, "a refusal is remembered as an absence is");
    bench.upstream.answer_all_with(Some(503));
    let trouble = bench.manifest("dh/nginx", "other").await;
    assert!(matches!(trouble, Err(ServiceError::Upstream(_))), "{trouble:?}");
    let own = bench.manifest("own/app", "1").await;
    assert!(is_absent(&own), "{own:?}");
}

#[tokio::test]
async fn an_upstream_that_throttles_is_left_alone_by_every_miss() {
    let bench = Bench::new().await;
    bench.upstream.answer_all_with(Some(429));
    for name in ["dh/a", "dh/b", "dh2/c"] {
        let throttled = bench.manifest(name, "1").await;
        assert!(matches!(throttled, Err(ServiceError::Upstream(UpstreamError::Throttled { .. }))), "{throttled:?}");
    }
    let by_digest = bench.manifest("dh/a", &digest_of(b"x").to_string()).await;
    assert!(matches!(by_digest, Err(ServiceError::Upstream(UpstreamError::Throttled { .. }))));
    let asked = bench.upstream.asked();
    assert!(asked.iter().all(|asked| asked.contains("library/a")), "{asked:?}");
}

#[tokio::test]
async fn a_cold_blob_costs_one_get_and_no_head_for_all_who_ask() {
    for (rule, host) in [("dh", TRUSTED), ("ex", UNTRUSTED)] {
        let bench = Bench::new().await;
        let bytes = Bytes::from(vec![7; 3 << 20]);
        let digest = digest_of(&bytes);
        let name = format!("{rule}/some/app");
        bench.upstream.put_blob(host, "some/app", digest, &bytes);
        let pulls = (0..20).map(|_| async { drained(bench.blob(&name, &digest).await.unwrap()).await.unwrap() });
        for got in join(pulls.collect()).await {
            assert_eq!(got, bytes);
        }
        bench.linked(&name, &digest).await;
        let again = bench.blob(&name, &digest).await.unwrap();
        assert_eq!((again.source, again.freshness), (Source::Local, Freshness::Hit));
        assert_eq!(bench.blob_len(&name, &digest).await.unwrap().0, bytes.len() as u64);
        let asked = bench.upstream.asked();
        assert!(asked.len() == 1 && asked[0].starts_with("GET"), "{host}: {asked:?}");
    }
}

#[tokio::test]
async fn a_digest_that_is_held_for_one_repository_leaks_to_no_other() {
    let bench = Bench::new().await;
    let secret = Bytes::from(vec![9; 2 << 20]);
    let digest = digest_of(&secret);
    bench.upstream.put_blob(TRUSTED, "team/private", digest, &secret);
    drained(bench.blob("dh/team/private", &digest).await.unwrap()).await.unwrap();
    bench.linked("dh/team/private", &digest).await;

    // Named by a manifest of another repository, whose upstream does not have it.
    for (host, name) in [(TRUSTED, "dh/evil/app"), (UNTRUSTED, "ex/evil/app")] {
        bench.upstream.put_manifest(host, "evil/app", "1", &manifest("evil", &[digest]));
        bench.manifest(name, "1").await.unwrap();
        assert!(is_absent(&bench.blob(name, &digest).await));
        assert!(is_absent(&bench.blob_len(name, &digest).await));
    }
    // Claimed by an upstream that is not believed, with other bytes of the same length.
    bench.upstream.put_blob(UNTRUSTED, "liar/app", digest, &Bytes::from(vec![0; secret.len()]));
    let lie = bench.blob("ex/liar/app", &digest).await.unwrap();
    assert_eq!(lie.source, Source::Passthrough);
    assert_eq!(drained(lie).await, None, "cut before its end");
    assert!(!bench.is_linked("ex/liar/app", &digest));
    // An own repository that no rule covers.
    assert!(is_absent(&bench.blob("own/app", &digest).await));
}

#[tokio::test]
async fn a_blob_that_is_here_is_shown_once_the_own_upstream_proves_to_have_it() {
    let bench = Bench::new().await;
    let bytes = Bytes::from(vec![5; 2 << 20]);
    let digest = digest_of(&bytes);
    for (host, name) in [(TRUSTED, "first/app"), (TRUSTED, "second/app"), (UNTRUSTED, "third/app")] {
        bench.upstream.put_blob(host, name, digest, &bytes);
    }
    drained(bench.blob("dh/first/app", &digest).await.unwrap()).await.unwrap();
    bench.upstream.asked();

    let believed = bench.blob("dh/second/app", &digest).await.unwrap();
    assert_eq!(drained(believed).await.unwrap(), bytes);
    let asked = bench.upstream.asked();
    assert!(asked.len() == 1 && asked[0].starts_with("HEAD"), "{asked:?}");
    bench.linked("dh/second/app", &digest).await;

    let delivered = bench.blob("ex/third/app", &digest).await.unwrap();
    assert_eq!(delivered.source, Source::Passthrough);
    assert_eq!(drained(delivered).await.unwrap(), bytes);
    bench.linked("ex/third/app", &digest).await;
    assert_eq!(bench.blob("ex/third/app", &digest).await.unwrap().source, Source::Local);
}

#[tokio::test]
async fn what_passes_by_takes_one_place_at_its_upstream_and_is_linked_once_it_matched() {
    let limits = Limits { store: ByteLen::mib(1), concurrency: 1, ..Limits::default() };
    let bench = Bench::within(PullConfig::default(), limits).await;
    let bytes = Bytes::from(vec![4; 3 << 20]);
    let digest = digest_of(&bytes);
    for (host, name) in [(UNTRUSTED, "ex/some/app"), (TRUSTED, "dh/some/app")] {
        bench.upstream.put_blob(host, "some/app", digest, &bytes);
        let pulled = tokio::time::timeout(Duration::from_secs(8), bench.blob(name, &digest)).await;
        let pulled = pulled.expect("it does not wait for itself").unwrap();
        assert_eq!(pulled.source, Source::Passthrough);
        assert!(!bench.is_linked(name, &digest));
        assert_eq!(drained(pulled).await.unwrap(), bytes);
        bench.linked(name, &digest).await;
    }
}

#[tokio::test]
async fn a_manifest_is_what_the_own_upstream_calls_it_and_gone_when_it_is_deleted() {
    let bench = Bench::new().await;
    // Its bytes do not say what it is.
    let named = String::from_utf8(manifest("a", &[]).to_vec()).unwrap();
    let bytes = Bytes::from(named.replace(MediaType::OCI_MANIFEST, ""));
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let digest = bench.upstream.put_manifest_as(docker, UNTRUSTED, "some/app", "1", &bytes);
    bench.upstream.put_manifest(TRUSTED, "some/app", "1", &bytes);
    for _ in 0..2 {
        for (name, media_type) in [("ex/some/app", docker), ("dh/some/app", MediaType::OCI_MANIFEST)] {
            let served = bench.manifest(name, "1").await.unwrap();
            assert_eq!((served.media_type.0.as_str(), &served.bytes), (media_type, &bytes), "{name}");
        }
    }
    let images = vec![ImageId { digest: Some(digest), tag: None }];
    bench.propose(Op::DeleteImages { repository: "dh/some/app".parse().unwrap(), images }).await;
    let view = bench.consensus.view().load();
    let held = bench.pull.held(&view, &"dh/some/app".parse().unwrap(), &digest, Freshness::Stale);
    assert!(matches!(held, Err(super::failure::Failure::Absent)), "{held:?}");
}

#[tokio::test]
async fn an_unbelieved_upstream_without_a_length_is_not_told_what_others_hold() {
    let bench = Bench::new().await;
    let bytes = Bytes::from(vec![3; 2 << 20]);
    let digest = digest_of(&bytes);
    for (host, name) in [(TRUSTED, "first/app"), (TRUSTED, "second/app"), (UNTRUSTED, "liar/app")] {
        bench.upstream.put_blob(host, name, digest, &bytes);
    }
    drained(bench.blob("dh/first/app", &digest).await.unwrap()).await.unwrap();
    bench.linked("dh/first/app", &digest).await;
    bench.upstream.hide_len();
    let guess = bench.blob_len("ex/liar/app", &digest).await;
    assert!(matches!(guess, Err(ServiceError::Upstream(UpstreamError::Malformed { .. }))), "{guess:?}");
    assert_eq!(bench.blob_len("dh/second/app", &digest).await.unwrap().0, bytes.len() as u64);
}

#[tokio::test]
async fn a_blob_is_linked_though_the_client_that_proved_it_left() {
    let bench = Bench::new().await;
    let bytes = Bytes::from(vec![2; 2 << 20]);
    let digest = digest_of(&bytes);
    bench.upstream.put_blob(TRUSTED, "some/app", digest, &bytes);
    bench.upstream.set_open(false);
    tokio::select! {
        _ = bench.blob("dh/some/app", &digest) => panic!("upstream has not answered"),
        () = bench.upstream.is_asked("GET") => {}
    }
    bench.upstream.set_open(true);
    bench.linked("dh/some/app", &digest).await;
}

#[tokio::test]
async fn a_proven_blob_is_told_the_length_of_whatever_its_upstream_says() {
    let bench = Bench::new().await;
    let bytes = Bytes::from(vec![1; 2 << 20]);
    let digest = digest_of(&bytes);
    bench.upstream.put_blob(TRUSTED, "some/app", digest, &bytes);
    bench.consensus.stop().await;
    drained(bench.blob("dh/some/app", &digest).await.unwrap()).await.unwrap();
    assert!(bench.pull.transfer.sealed(&digest).await);
    bench.upstream.answer_all_with(Some(403));
    assert_eq!(drained(bench.blob("dh/some/app", &digest).await.unwrap()).await.unwrap(), bytes);
    assert_eq!(bench.blob_len("dh/some/app", &digest).await.unwrap().0, bytes.len() as u64);
}

#[tokio::test]
async fn a_manifest_by_digest_is_linked_by_the_own_upstream_only() {
    let bench = Bench::new().await;
    let bytes = manifest("private", &[]);
    let digest: Digest = bench.upstream.put_manifest(TRUSTED, "team/private", "1", &bytes);
    let pulled = bench.manifest("dh/team/private", &digest.to_string()).await.unwrap();
    assert_eq!((pulled.bytes, pulled.freshness), (bytes, Freshness::Miss));
    for name in ["dh/evil/app", "ex/evil/app", "own/app"] {
        assert!(is_absent(&bench.manifest(name, &digest.to_string()).await), "{name}");
    }
}

#[tokio::test]
async fn where_a_template_is_demanded_a_repository_without_one_is_not_made() {
    let bench = Bench::new().await;
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("a", &[]));
    let name = "PULL_THROUGH_REPOSITORY_CREATION".to_owned();
    bench.propose(Op::PutAccountSetting { name, value: "TEMPLATE_REQUIRED".into() }).await;
    let refused = bench.manifest("dh/nginx", "1").await;
    assert!(matches!(refused, Err(ServiceError::Refused(Refusal::NoTemplate(_)))), "{refused:?}");
    assert!(bench.consensus.view().load().tables().repository(&"dh/nginx".parse().unwrap()).unwrap().is_none());
}

#[tokio::test]
async fn pulls_are_counted_by_kind_and_result() {
    let bench = Bench::new().await;
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("a", &[]));
    for reference in ["1", "1", "none"] {
        let _ = bench.manifest("dh/nginx", reference).await;
    }
    bench.pull.count_denied("blob");
    for line in [
        "flotilla_pulls_total{kind=\"manifest\",result=\"miss\"} 1",
        "flotilla_pulls_total{kind=\"manifest\",result=\"hit\"} 1",
        "flotilla_pulls_total{kind=\"manifest\",result=\"notfound\"} 1",
        "flotilla_pulls_total{kind=\"blob\",result=\"denied\"} 1",
    ] {
        assert!(bench.metric(line), "{line}");
    }
}

#[tokio::test]
async fn a_stopped_group_passes_images_through() {
    let bench = Bench::new().await;
    let bytes = manifest("a", &[]);
    bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &bytes);
    bench.upstream.put_manifest(TRUSTED, "library/redis", "1", &bytes);
    bench.manifest("dh/nginx", "1").await.unwrap();
    bench.consensus.stop().await;
    let served = bench.manifest("dh/redis", "1").await.unwrap();
    assert_eq!((served.bytes, served.freshness), (bytes, Freshness::Passthrough));
    assert_eq!(bench.manifest("dh/nginx", "1").await.unwrap().freshness, Freshness::Hit);
    let unknown = bench.manifest("dh/nginx", "2").await;
    assert!(matches!(unknown, Err(ServiceError::Unavailable { .. })), "unknown is not absent (13): {unknown:?}");
}

#[tokio::test]
async fn pulls_are_counted_by_repository_where_it_is_asked_for() {
    let line = "flotilla_repository_pulls_total{repository=\"dh/nginx\"} 2";
    for asked in [true, false] {
        let bench = Bench::with(PullConfig { repository_metrics: asked, ..PullConfig::default() }).await;
        bench.upstream.put_manifest(TRUSTED, "library/nginx", "latest", &manifest("a", &[]));
        for _ in 0..2 {
            bench.manifest("dh/nginx", "latest").await.unwrap();
        }
        assert_eq!(bench.metric(line), asked);
    }
}

#[tokio::test]
async fn a_filter_holds_also_for_pulls_that_were_mapped_before_it() {
    let bench = Bench::new().await;
    let digest = bench.upstream.put_manifest(TRUSTED, "library/nginx", "1", &manifest("a", &[]));
    let held = bench.upstream.put_manifest(TRUSTED, "library/held", "1", &manifest("b", &[]));
    bench.manifest("dh/held", "1").await.unwrap();
    let (puller, target, of_held) = (bench.user("a"), bench.target("dh/nginx"), bench.target("dh/held"));
    bench.upstream.asked();
    let options = CacheRuleOptions { deny: vec![Glob("library/*".into())], ..CacheRuleOptions::default() };
    bench.set_options("dh", options).await;
    bench.advance(EXPIRED);
    for reference in ["1".to_owned(), digest.to_string()] {
        let refused = bench.pull.serve_manifest(&puller, &target, &reference.parse().unwrap()).await;
        assert!(matches!(refused, Err(ServiceError::Filtered { .. })), "{reference}: {refused:?}");
    }
    let served = bench.pull.serve_manifest(&puller, &of_held, &"1".parse().unwrap()).await.unwrap();
    assert_eq!((served.digest, served.freshness), (held, Freshness::Stale));
    assert!(matches!(
        bench.pull.refresh_tags(&puller, &bench.target("dh/held"), None).await,
        Err(ServiceError::Filtered { .. })
    ));
    assert!(bench.upstream.asked().is_empty());
    assert!(matches!(bench.manifest("dh2/nginx", "1").await, Ok(served) if served.digest == digest), "another rule's");
}

use flotilla_oci::{MediaType, Reference};
use flotilla_runtime::Trail;

use super::{
    Node, blob, digest, name, read,
    server::{Reply, Server},
    tag,
};
use crate::{Probe, UpstreamError};

const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn manifest() -> Reply {
    Reply::ok(MANIFEST)
        .header("Content-Type", format!("{TYPE}; charset=utf-8"))
        .header("Docker-Content-Digest", digest(MANIFEST).to_string())
}

#[tokio::test]
async fn a_manifest_is_fetched_and_asked_for_as_the_spec_says() {
    let server = Server::start(|_| manifest().header("RateLimit-Remaining", "76;w=21600")).await;
    let node = Node::with(&server, |config| config.hop_header_id = "cluster-7".to_owned());
    let upstream = node.anonymous();

    let head = upstream.head(&name(), &tag()).await.unwrap();
    assert_eq!(head.digest, Some(digest(MANIFEST)));
    assert_eq!(head.media_type, Some(MediaType(TYPE.to_owned())));
    assert_eq!(head.len.unwrap().0, MANIFEST.len() as u64);

    for reference in [tag(), Reference::Digest(digest(MANIFEST))] {
        let fetched = upstream.manifest(&name(), &reference).await.unwrap();
        assert_eq!((fetched.digest, &fetched.bytes[..]), (digest(MANIFEST), MANIFEST));
        assert_eq!(fetched.media_type, Some(MediaType(TYPE.to_owned())));
    }

    let log = server.log();
    assert_eq!((log[0].method.as_str(), log[0].target.as_str()), ("HEAD", "/v2/team/app/manifests/latest"));
    assert_eq!(log[2].target, format!("/v2/team/app/manifests/{}", digest(MANIFEST)));
    for request in &log {
        let accept = request.header("accept").unwrap();
        assert_eq!(accept.split(", ").count(), 4);
        assert!(accept.contains(TYPE) && !accept.contains("*") && !accept.contains("v1+prettyjws"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert_eq!(request.header("flotilla-hop"), Some("cluster-7"));
        assert!(request.header("user-agent").unwrap().starts_with("flotilla/"));
        assert_eq!(request.header("authorization"), None);
    }
    assert_eq!(server.accepted(), 1, "one connection serves all");
    assert_eq!(node.bytes(), 2 * MANIFEST.len() as u64);
    assert_eq!(node.requests("200"), 3);
    assert_eq!(node.metric(r#"flotilla_upstream_ratelimit_remaining{upstream="registry.example"}"#), 76);
}

#[tokio::test]
async fn a_request_carries_all_clusters_that_it_came_through() {
    // The first body is cut, so that it is resumed while it is read: outside of the request that opened it.
    let server = Server::start(|request| match request.nth {
        0 => Reply::ok(blob(1000)).cut_at(500),
        _ => Reply::blob(request, &blob(1000)),
    })
    .await;
    let upstream = Node::with(&server, |config| config.hop_header_id = "ours".to_owned()).anonymous();
    let trail = Trail::new(vec!["first".to_owned(), "second".to_owned()]);
    let digest = digest(&blob(1000));
    let download = trail.scope(async { upstream.blob(&name(), &digest, 0).await }).await.unwrap();
    assert!(read(download).await.1.is_ok());
    let hops: Vec<_> = server.log().iter().map(|request| request.header("flotilla-hop").unwrap().to_owned()).collect();
    assert_eq!(hops, ["first, second, ours", "first, second, ours"]);
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_an_error() {
    let other = digest(b"other");
    let server = Server::start(move |request| match request.target.as_str() {
        "/v2/team/app/manifests/html" => Reply::ok("<html>").header("Content-Type", "text/html; charset=utf-8"),
        "/v2/team/app/manifests/header" => Reply::ok(MANIFEST).header("Docker-Content-Digest", other.to_string()),
        "/v2/team/app/manifests/garbage" => Reply::ok(MANIFEST).header("Docker-Content-Digest", "sha256:x"),
        "/v2/team/app/manifests/gzip" => Reply::ok(MANIFEST).header("Content-Encoding", "gzip"),
        "/v2/team/app/manifests/long" => Reply::ok(blob((4 << 20) + 1)),
        "/v2/team/app/manifests/endless" => Reply::ok(blob((4 << 20) + 1)).chunked(),
        "/v2/team/app/manifests/short" => manifest().cut_at(5),
        _ => Reply::ok(MANIFEST),
    })
    .await;
    let node = Node::new(&server);
    let upstream = node.anonymous();
    let fetch = async |reference: &str| upstream.manifest(&name(), &reference.parse().unwrap()).await.unwrap_err();

    assert!(matches!(fetch("html").await, UpstreamError::NotARegistry { .. }));
    assert!(matches!(fetch("header").await, UpstreamError::Mismatch { .. }));
    assert!(matches!(fetch(&other.to_string()).await, UpstreamError::Mismatch { .. }));
    assert!(matches!(fetch("garbage").await, UpstreamError::Malformed { .. }));
    assert!(matches!(fetch("gzip").await, UpstreamError::Malformed { .. }));
    assert!(matches!(fetch("long").await, UpstreamError::TooLarge { .. }));
    assert!(matches!(fetch("endless").await, UpstreamError::TooLarge { .. }));
    assert!(matches!(fetch("short").await, UpstreamError::Unavailable { .. }));
    assert!(matches!(
        upstream.head(&name(), &"html".parse().unwrap()).await.unwrap_err(),
        UpstreamError::NotARegistry { .. }
    ));
}

#[tokio::test]
async fn statuses_have_their_meaning() {
    let server = Server::start(|request| {
        let status = request.target.rsplit('-').next().unwrap();
        Reply::new(status.parse().unwrap()).body("{}")
    })
    .await;
    let node = Node::new(&server);
    let upstream = node.anonymous();
    let head = async |status: u16| upstream.head(&name(), &format!("s-{status}").parse().unwrap()).await.unwrap_err();
    for status in [404, 410] {
        let error = head(status).await;
        assert!(error.is_definite_absence(), "{error}");
    }
    for status in [400, 401, 403, 405, 429, 503] {
        let error = head(status).await;
        assert!(!error.is_definite_absence(), "{error}");
        assert!(error.to_string().contains("registry.example"), "{error}");
    }
    assert!(matches!(head(401).await, UpstreamError::Unauthorized { .. }));
    assert!(matches!(head(403).await, UpstreamError::Denied { .. }));
    assert!(matches!(head(405).await, UpstreamError::Status { status: 405, .. }));
}

#[tokio::test]
async fn referrers_are_fetched_where_the_upstream_knows_them() {
    let server = Server::start(|request| match request.target.contains("artifactType") {
        true => Reply::ok("{}").header("OCI-Filters-Applied", "artifactType"),
        false => Reply::new(404),
    })
    .await;
    let node = Node::new(&server);
    let subject = digest(b"x");
    assert_eq!(node.anonymous().referrers(&name(), &subject, None).await.unwrap(), None);
    let kind = MediaType("application/a+b&c".to_owned());
    assert_eq!(&node.anonymous().referrers(&name(), &subject, Some(&kind)).await.unwrap().unwrap()[..], b"{}");
    assert!(server.log()[1].target.ends_with("?artifactType=application%2Fa%2Bb%26c"));
}

#[tokio::test]
async fn a_base_url_with_a_path_is_put_before_everything() {
    let server = Server::start(|_| manifest()).await;
    let node = Node::with(&server, |config| {
        let own = config.hosts.get_mut(super::HOST).unwrap();
        own.base_url = Some(format!("{}/", server.url("/mirror/hub")).parse().unwrap());
    });
    node.anonymous().head(&name(), &tag()).await.unwrap();
    assert_eq!(server.log()[0].target, "/mirror/hub/v2/team/app/manifests/latest");
}

#[tokio::test]
async fn a_probe_tells_a_registry_from_a_web_site() {
    let open = Server::start(|_| Reply::ok("{}").header("Content-Type", "application/json")).await;
    assert_eq!(Node::new(&open).anonymous().probe().await.unwrap(), Probe::Open);
    assert_eq!(open.log()[0].target, "/v2/");
    for reply in [
        (|| Reply::ok("<html>").header("Content-Type", "text/html")) as fn() -> Reply,
        || Reply::new(404),
        || Reply::new(401),
    ] {
        let site = Server::start(move |_| reply()).await;
        let verdict = Node::new(&site).anonymous().probe().await;
        assert!(matches!(verdict, Err(UpstreamError::NotARegistry { .. })), "{verdict:?}");
    }
}

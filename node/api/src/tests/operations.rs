use super::world::{KEY_ID, World, basic};
use crate::http::test_client::{get, send};

#[tokio::test]
async fn health_readiness_and_metrics_need_no_credentials() {
    let world = World::new(false).await;
    assert_eq!(world.get("/healthz", &[]).await.text(), "ok\n");
    let ready = world.get("/readyz", &[]).await;
    assert_eq!((ready.status, ready.text()), (200, "ready\n"));
    let verbose: serde_json::Value = serde_json::from_slice(&world.get("/readyz?verbose", &[]).await.body).unwrap();
    assert_eq!((&verbose["ready"], &verbose["isLeader"], &verbose["name"]), (&true.into(), &true.into(), &"n1".into()));
    assert!(world.get("/", &[]).await.text().starts_with("flotilla"));
    assert_eq!(world.get("/nothing", &[]).await.status, 404);
    assert_eq!(send(world.to, "DELETE", "/", &[], b"").await.status, 405);
}

#[tokio::test]
async fn pulls_are_counted_by_door_and_source() {
    let world = World::new(true).await;
    let (_, manifest) = world.upstream.put_image("a/b", "v1", b"layer");
    for _ in 0..3 {
        world.get("/v2/quay/a/b/manifests/v1", &[]).await;
    }
    let metrics = world.get("/metrics", &[]).await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text();
    let local = format!("flotilla_pull_bytes_total{{source=\"local\"}} {}", 2 * manifest.len());
    for line in [
        local.as_str(),
        "flotilla_http_requests_total{api=\"oci\",code=\"200\"} 3",
        "flotilla_pull_ttfb_seconds_count 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn denied_pulls_are_counted_and_the_way_to_a_login_is_none() {
    let world = World::new(false).await;
    let wrong = basic(KEY_ID, "wrong");
    let blob = format!("/v2/quay/a/b/blobs/sha256:{}", "ab".repeat(32));
    for (path, lines) in [
        ("/v2/quay/a/b/manifests/v1", &[][..]),
        ("/v2/quay/a/b/manifests/v1", &[wrong.as_str()]),
        (&blob, &[wrong.as_str()]),
        ("/v2/quay/a/b/tags/list", &[wrong.as_str()]),
    ] {
        assert_eq!(world.get(path, lines).await.status, 401);
    }
    let metrics = world.get("/metrics", &[]).await;
    let denied: Vec<&str> = metrics.text().lines().filter(|line| line.contains("\"denied\"")).collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.iter().all(|line| line.ends_with(" 1")), "{denied:?}");
}

#[tokio::test]
async fn a_stopping_node_is_not_ready() {
    let world = World::new(true).await;
    let to = world.to;
    // The connection is there before the listener is closed.
    let asked = get(to, "/readyz", &[]).await;
    assert_eq!(asked.status, 200);
    assert!(world.server.drain().await);
    assert!(tokio::net::TcpStream::connect(to).await.is_err());
}

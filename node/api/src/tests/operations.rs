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

#[tokio::test]
async fn a_mirror_and_an_admin_listener_are_nothing_else() {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let world = World::with(true, |mut doors| {
        doors.mirror.listen.push(any);
        doors.mirror.hosts.push("mirror.example".into());
        doors.admin.listen.push(any);
        doors
    })
    .await;
    let (registry, mirror, admin) = (world.to, world.server.mirror_addresses()[0], world.server.admin_addresses()[0]);
    let by_host = &["Host: mirror.example"][..];
    for (to, lines, path, status) in [
        (registry, &[][..], "/metrics", 404),
        (registry, &[], "/", 200),
        (registry, &[], "/v2/", 401),
        (mirror, &[], "/v2/", 401),
        (mirror, &[], "/healthz", 200),
        (mirror, &[], "/readyz", 200),
        (mirror, &[], "/metrics", 404),
        (mirror, &[], "/", 404),
        (registry, by_host, "/v2/", 401),
        (registry, by_host, "/", 404),
        (admin, &[], "/metrics", 200),
        (admin, &[], "/healthz", 200),
        (admin, by_host, "/v2/", 404),
        (admin, &[], "/v2/", 404),
    ] {
        assert_eq!(get(to, path, lines).await.status, status, "{path} of {to} {lines:?}");
    }
    assert!(get(admin, "/readyz?verbose", &[]).await.text().starts_with('{'));
    for plain in [registry, mirror] {
        assert_eq!(get(plain, "/readyz?verbose", &[]).await.text(), "ready\n");
    }
    let call = &["X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"][..];
    assert_eq!(send(registry, "POST", "/", call, b"{}").await.status, 400, "the AWS API answers");
    for elsewhere in [mirror, admin] {
        assert_eq!(send(elsewhere, "POST", "/", call, b"{}").await.status, 404);
    }
    // A mirror's clients are sent for tokens to where they are.
    let challenge = get(registry, "/v2/", by_host).await;
    assert!(challenge.header("www-authenticate").contains("realm=\"http://mirror.example/v2/token\""), "{challenge:?}");
}

#[tokio::test]
async fn credentials_on_an_open_wire_are_refused_before_they_are_looked_at() {
    let proxied = |plaintext: bool| {
        World::with(true, move |mut doors| {
            doors.http.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
            doors.http.allow_plaintext = plaintext;
            doors
        })
    };
    let world = proxied(false).await;
    let login = basic(KEY_ID, "wrong");
    let from = "X-Forwarded-For: 192.0.2.1";
    for (path, lines, status) in [
        ("/v2/", &[from, login.as_str()][..], 403),
        ("/v2/quay/a/b/manifests/v1", &[from, &login], 403),
        ("/v2/token", &[from, &login], 403),
        ("/v2/", &[from, "Authorization: Bearer x"], 403),
        ("/v2/token", &[from], 200),
        ("/v2/", &[from, &login, "X-Forwarded-Proto: https"], 401),
        ("/v2/", &[&login], 401),
    ] {
        let reply = get(world.to, path, lines).await;
        assert_eq!(reply.status, status, "{path} {lines:?}");
        if status == 403 {
            assert!(reply.text().contains("plain HTTP") && reply.text().contains("allow_plaintext"));
        }
    }
    let form = format!("grant_type=password&username={KEY_ID}&password=wrong");
    let form_type = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(send(world.to, "POST", "/v2/token", &[from, form_type], form.as_bytes()).await.status, 403);
    let call = [
        from,
        "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
        "Content-Type: application/x-amz-json-1.1",
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIANOBODY/20260101/us-east-1/ecr/aws4_request",
    ];
    let refused = send(world.to, "POST", "/", &call, b"{}").await;
    assert!(refused.text().contains("AccessDeniedException") && refused.text().contains("plain HTTP"), "{refused:?}");
    let looked_at = send(world.to, "POST", "/", &call[1..], b"{}").await;
    assert!(!looked_at.text().contains("plain HTTP"), "{looked_at:?}");
    let metrics = get(world.to, "/metrics", &[]).await;
    assert!(metrics.text().contains("flotilla_http_refused_total{reason=\"plaintext\"} 6"), "{}", metrics.text());
    assert_eq!(get(proxied(true).await.to, "/v2/", &[from, &login]).await.status, 401);
}

#[tokio::test]
async fn a_request_that_came_through_this_cluster_is_refused() {
    let world = World::new(true).await;
    let own = format!("flotilla-hop: other, {}", flotilla_base::ClusterId(1));
    let refused = world.get("/v2/quay/a/b/manifests/v1", &[&own]).await;
    assert_eq!(refused.status, 508);
    assert!(refused.text().starts_with("{\"errors\":[{"), "{}", refused.text());
    assert_eq!(world.get("/v2/", &["flotilla-hop: other"]).await.status, 401);
    assert_eq!(world.get("/v2/", &["flotilla-hop: 1,2,3,4", "flotilla-hop: 5,6,7,8"]).await.status, 401);
    assert_eq!(world.get("/v2/", &["flotilla-hop: 1,2,3,4", "flotilla-hop: 5,6,7,8,9"]).await.status, 508);
}

//! Content, as a client sees it.

use super::{upstream::digest_of, world::World};
use crate::http::test_client::send;

const MIB: usize = 1 << 20;

fn layer() -> Vec<u8> {
    (0..3 * MIB + 17).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn a_manifest_is_served_verbatim_by_tag_and_digest() {
    let world = World::new(true).await;
    let (digest, manifest) = world.upstream.put_image("library/app", "v1", &layer());
    let etag = format!("\"{digest}\"");
    let first = world.get("/v2/quay/library/app/manifests/v1", &["Accept: text/plain"]).await;
    assert_eq!((first.status, first.header("x-flotilla-cache")), (200, "miss"));
    for reference in ["v1", &digest.to_string()] {
        let reply = world.get(&format!("/v2/quay/library/app/manifests/{reference}"), &[]).await;
        assert_eq!((reply.status, &reply.body), (200, &manifest));
        assert_eq!(reply.header("content-type"), "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(reply.header("docker-content-digest"), digest.to_string());
        assert_eq!(reply.header("etag"), etag);
        assert_eq!(reply.header("x-flotilla-cache"), "hit");
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
    }
    let head = send(world.to, "HEAD", "/v2/quay/library/app/manifests/v1", &[], b"").await;
    assert_eq!((head.header("content-length"), head.body.len()), (manifest.len().to_string().as_str(), 0));
    let unchanged = world.get("/v2/quay/library/app/manifests/v1", &[&format!("If-None-Match: {etag}")]).await;
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.header("etag")), (304, 0, etag.as_str()));
}

#[tokio::test]
async fn a_blob_is_served_whole_and_in_parts() {
    let world = World::new(true).await;
    let layer = layer();
    world.upstream.put_image("library/app", "v1", &layer);
    world.get("/v2/quay/library/app/manifests/v1", &[]).await;
    let path = format!("/v2/quay/library/app/blobs/{}", digest_of(&layer));
    // Cold, then from disk.
    for _ in 0..2 {
        let reply = world.get(&path, &[]).await;
        assert_eq!((reply.status, reply.body == layer), (200, true));
        assert_eq!(reply.header("content-type"), "application/octet-stream");
        assert_eq!(reply.header("accept-ranges"), "bytes");
    }
    let head = send(world.to, "HEAD", &path, &["Range: bytes=0-1"], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, layer.len().to_string().as_str()));

    let len = layer.len();
    for (range, start, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        (format!("bytes={}-{}", MIB - 1, MIB), MIB - 1, MIB + 1),
        ("bytes=2000000-".to_owned(), 2_000_000, len),
        ("bytes=-5".to_owned(), len - 5, len),
    ] {
        let reply = world.get(&path, &[&format!("Range: {range}")]).await;
        assert_eq!((reply.status, reply.body == layer[start..end]), (206, true), "{range}");
        assert_eq!(reply.header("content-range"), format!("bytes {start}-{}/{len}", end - 1));
    }
    let reply = world.get(&path, &["Range: bytes=9000000-"]).await;
    assert_eq!((reply.status, reply.header("content-range")), (416, format!("bytes */{len}").as_str()));
    let stale = world.get(&path, &["Range: bytes=0-0", "If-Range: \"sha256:00\""]).await;
    assert_eq!((stale.status, stale.body.len()), (200, len));
    let reply = world.get(&path, &["If-None-Match: *"]).await;
    assert_eq!(reply.status, 304);
}

#[tokio::test]
async fn several_ranges_are_parts_in_the_order_of_the_request() {
    let world = World::new(true).await;
    let layer = layer();
    world.upstream.put_image("library/app", "v1", &layer);
    world.get("/v2/quay/library/app/manifests/v1", &[]).await;
    let path = format!("/v2/quay/library/app/blobs/{}", digest_of(&layer));
    let reply = world.get(&path, &["Range: bytes=2000000-2000003,0-1"]).await;
    assert_eq!(reply.status, 206);
    let boundary = reply.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let mut expected = Vec::new();
    for (start, end) in [(2_000_000, 2_000_004), (0, 2)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{}/{}\r\n\r\n",
            end - 1,
            layer.len()
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&layer[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(reply.body, expected);
    assert_eq!(reply.header("content-length"), expected.len().to_string());
}

#[tokio::test]
async fn a_blob_that_is_lost_is_fetched_for_one_range_and_not_for_every_part() {
    for (range, is_whole) in [("bytes=2000000-2000003", true), ("bytes=2000000-2000003,0-1", false)] {
        let world = World::new(true).await;
        let layer = layer();
        world.upstream.put_image("library/app", "v1", &layer);
        world.get("/v2/quay/library/app/manifests/v1", &[]).await;
        let path = format!("/v2/quay/library/app/blobs/{}", digest_of(&layer));
        // The first client has the last byte a moment before the blob is sealed.
        while world.get(&path, &[]).await.header("x-flotilla-cache") != "hit" {}
        world.empty_blob(layer.len());
        let reply = world.get(&path, &[&format!("Range: {range}")]).await;
        let announced: usize = reply.header("content-length").parse().unwrap();
        assert_eq!((reply.status, reply.body.len() == announced), (206, is_whole), "{range}");
    }
}

#[tokio::test]
async fn wrong_bytes_never_look_complete() {
    let world = World::new(true).await;
    let layer = layer();
    world.upstream.put_image("library/app", "v1", &layer);
    let mut wrong = layer.clone();
    wrong[42] ^= 1;
    world.upstream.put_blob("library/app", digest_of(&layer), &wrong);
    world.get("/v2/quay/library/app/manifests/v1", &[]).await;
    let reply = world.get(&format!("/v2/quay/library/app/blobs/{}", digest_of(&layer)), &[]).await;
    // Either told before the head has left, or cut short of what it announced; the client saw an end, not a reset.
    if reply.status == 200 {
        assert_eq!(reply.header("content-length"), layer.len().to_string());
        assert!(reply.body.len() < layer.len());
    } else {
        assert_eq!(reply.status, 502);
    }
}

#[tokio::test]
async fn what_is_held_is_served_when_upstream_fails_and_the_rest_is_told() {
    let world = World::new(true).await;
    let layer = layer();
    let (_, manifest) = world.upstream.put_image("library/app", "v1", &layer);
    world.get("/v2/quay/library/app/manifests/v1", &[]).await;
    let blob = format!("/v2/quay/library/app/blobs/{}", digest_of(&layer));
    assert_eq!(world.get(&blob, &[]).await.body, layer);
    world.upstream.fail();
    assert_eq!(world.get("/v2/quay/library/app/manifests/v1", &[]).await.body, manifest);
    assert_eq!(world.get(&blob, &[]).await.body, layer);
    let absent = world.get("/v2/quay/library/other/manifests/v1", &[]).await;
    assert!(absent.status >= 500, "{}", absent.status);
    assert!(!absent.header("retry-after").is_empty());
    assert!(!absent.text().contains("detail"), "{}", absent.text());
    let absent = world.pull("/v2/quay/library/other/manifests/v1", &[]).await;
    let error: serde_json::Value = serde_json::from_slice(&absent.body).unwrap();
    assert_eq!(error["errors"][0]["detail"]["requestId"], absent.header("x-request-id"));
}

#[tokio::test]
async fn absence_has_the_words_of_ecr() {
    let world = World::new(true).await;
    let reply = world.get("/v2/quay/library/app/manifests/v1", &[]).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.text(), r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"Requested image not found"}]}"#);
    let reply = world.get("/v2/own/app/manifests/v1", &[]).await;
    let text = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"The repository with name 'own/app' does not exist in the registry with id '123456789012'"}]}"#;
    assert_eq!((reply.status, reply.text()), (404, text));
}

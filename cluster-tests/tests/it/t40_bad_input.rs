//! Malformed requests at the registry's door: a precise error of the protocol, no question to upstream, nothing changed.

use cluster_tests::{Image, aws::Aws, http::Head};
use serde_json::json;

use crate::common::{APP, blob_path, client, manifest_path, pull, with_image};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn malformed_names_references_and_pages_have_precise_errors() {
    let image = Image::oci(400, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let long = "a".repeat(300);
    let cases: &[(&str, &[&str])] = &[
        ("/v2/docker-hub/UPPER/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/a..b/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/-a/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub//a/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/a%20b/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/%2e%2e/a/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/../a/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/a%00b/manifests/latest", &["NAME_INVALID"]),
        ("/v2/docker-hub/a%ff/manifests/latest", &["NAME_INVALID", "UNSUPPORTED"]),
        (&format!("/v2/docker-hub/{long}/manifests/latest"), &["NAME_INVALID"]),
        ("/v2/manifests/latest", &["NAME_INVALID", "NAME_UNKNOWN", "UNSUPPORTED"]),
        ("/v2/nobody/knows/manifests/latest", &["NAME_UNKNOWN"]),
        ("/v2/docker-hub/library/app/manifests/.tag", &["TAG_INVALID", "MANIFEST_INVALID", "MANIFEST_UNKNOWN"]),
        (
            "/v2/docker-hub/library/app/manifests/a%2fb",
            &["TAG_INVALID", "MANIFEST_INVALID", "NAME_INVALID", "MANIFEST_UNKNOWN", "UNSUPPORTED"],
        ),
        (
            &format!("/v2/docker-hub/library/app/manifests/{}", "t".repeat(129)),
            &["TAG_INVALID", "MANIFEST_INVALID", "MANIFEST_UNKNOWN"],
        ),
        ("/v2/docker-hub/library/app/manifests/sha256:short", &["DIGEST_INVALID"]),
        (&format!("/v2/docker-hub/library/app/manifests/md5:{ZEROS}"), &["DIGEST_INVALID"]),
        (&format!("/v2/docker-hub/library/app/manifests/sha256:{}", ZEROS.replace('0', "A")), &["DIGEST_INVALID"]),
        ("/v2/docker-hub/library/app/blobs/latest", &["DIGEST_INVALID"]),
        ("/v2/docker-hub/library/app/blobs/sha256:", &["DIGEST_INVALID"]),
        (
            &format!("/v2/docker-hub/library/app/blobs/sha256:../{}", &ZEROS[3..]),
            &["DIGEST_INVALID", "NAME_INVALID", "UNSUPPORTED"],
        ),
        ("/v2/docker-hub/library/app/blobs/sha256%3Ashort", &["DIGEST_INVALID"]),
        ("/v2/docker-hub/library/app/tags/list?n=-1", &["PAGINATION_NUMBER_INVALID"]),
        ("/v2/docker-hub/library/app/tags/list?n=many", &["PAGINATION_NUMBER_INVALID"]),
        (
            "/v2/docker-hub/library/app/tags/list?n=99999999999999999999999",
            &["PAGINATION_NUMBER_INVALID", "NAME_UNKNOWN"],
        ),
        ("/v2/docker-hub/library/app/nothing", &["UNSUPPORTED", "NAME_UNKNOWN", "NAME_INVALID"]),
    ];
    for (path, codes) in cases {
        let answer = client.get(path);
        let code = answer.error_code();
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(codes.contains(&code.as_str()), "{path}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.is_empty(), "{path}");
    }
    assert_eq!(hub.requests().len(), 0, "nobody asks upstream for nonsense: {:?}", hub.requests());
    assert_eq!(Aws::root(&flotilla).ecr("DescribeRepositories", &json!({}))["repositories"], json!([]));
    pull(&client, APP, "latest", &image);
}

#[test]
fn methods_that_are_not_served_say_so() {
    let image = Image::oci(401, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    for (method, path) in [
        ("PUT", manifest_path(APP, "latest")),
        ("DELETE", manifest_path(APP, "latest")),
        ("DELETE", blob_path(APP, &image.layers()[0])),
        ("POST", format!("/v2/{APP}/blobs/uploads/")),
        ("PATCH", blob_path(APP, &image.layers()[0])),
        ("BREW", "/v2/".to_owned()),
    ] {
        let answer = client.request(method, &path, &[], b"");
        assert!([401, 403, 404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
        assert!(
            ["UNSUPPORTED", "UNAUTHORIZED", "DENIED"].contains(&answer.error_code().as_str()),
            "{method} {path}: {}",
            answer.text()
        );
    }
    pull(&client, APP, "latest", &image);
}

/// Sends bytes that are no request of HTTP, or a hostile one.
fn raw(flotilla: &cluster_tests::Flotilla, bytes: &[u8]) -> Option<Head> {
    let client = flotilla.client().patient(std::time::Duration::from_secs(10));
    client.connect().unwrap().send_raw("GET", bytes).ok()
}

#[test]
fn what_is_not_http_ends_with_an_error_and_the_server_lives() {
    let image = Image::oci(402, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let host = flotilla.host().to_owned();
    let large = "x".repeat(200_000);
    let many = "X-A: b\r\n".repeat(5000);
    let cases = [
        "\r\n\r\n\r\nGET\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Large: {large}\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        format!("GET /{large} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nBad Name: x\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n"),
        "GET http://other.example/v2/ HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/1.1\r\n\r\n".to_owned(),
    ];
    for case in &cases {
        let shown = &case[..case.len().min(80)];
        if let Some(head) = raw(&flotilla, case.as_bytes()) {
            assert!((400..=505).contains(&head.status), "{shown:?}: {}", head.status);
        }
        assert_eq!(flotilla.client().get("/healthz").status, 200, "after {shown:?}");
    }
    let mut invalid = format!("GET /v2/{APP}/manifests/latest HTTP/1.1\r\nHost: {host}\r\nAccept: ").into_bytes();
    invalid.extend([0xff, 0xfe, b'\r', b'\n', b'\r', b'\n']);
    let _ = raw(&flotilla, &invalid);
    assert_eq!(hub.requests().iter().filter(|request| !request.path.starts_with("/v2/library/app")).count(), 0);
    pull(&client(&flotilla), APP, "latest", &image);
}

#[test]
fn odd_range_headers_never_break_a_download() {
    let image = Image::oci(403, &[100_000]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let layer = &image.layers()[0];
    pull(&client, APP, "latest", &image);
    let many = format!("bytes={}", (0..1000).map(|i| format!("{i}-{i}")).collect::<Vec<_>>().join(","));
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=1-0",
        "bytes=0-18446744073709551615",
        "bytes=18446744073709551616-",
        "bytes=99999999999999999999-",
        "bytes=-18446744073709551616",
        "bytes=0-0,",
        "bytes = 0-1",
        "bytes=0-1;",
        "Bytes=0-0",
        &many,
    ] {
        let answer = client.request("GET", &blob_path(APP, layer), &[("Range", range)], b"");
        assert!([200, 206, 416].contains(&answer.status), "{range}: {}", answer.status);
        if answer.status == 200 {
            assert!(answer.body == layer.bytes(), "{range}");
        }
    }
}

#[test]
fn a_client_that_sends_its_head_slowly_is_let_go() {
    use std::io::{Read, Write};
    let (_hub, flotilla) = with_image(&Image::oci(404, &[10]));
    let mut slow = std::net::TcpStream::connect(flotilla.client().address()).unwrap();
    slow.write_all(b"GET /v2/ HT").unwrap();
    slow.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut answer = Vec::new();
    // Ends by the server's time-out, with an answer or without one.
    slow.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
}

//! The main job: what upstream has, a client gets, byte for byte, fetched once.

use std::time::Duration;

use cluster_tests::{
    Content, Image, Upstream, image,
    upstream::{Fault, On, Times},
    wait_for,
};

use crate::common::{APP, MIB, SOON, before, blob_path, client, manifest_path, pull, whole, with_image};

#[test]
fn images_of_every_shape_pull_whole_and_a_second_time_without_upstream() {
    let pair = |seed| vec![Image::oci(seed, &[9000]), Image::oci_for("arm64", seed + 1, &[9000])];
    let images = [
        ("single", Image::oci(1, &[3 * MIB, 70_000, 0])),
        ("docker", Image::docker(2, &[70_000])),
        ("index", Image::index(pair(3))),
        ("list", Image::docker_list(vec![Image::docker(5, &[500]), Image::docker(6, &[500])])),
        ("nested", Image::index(vec![Image::index(pair(7)), Image::oci(9, &[10])])),
        ("artifact", Image::artifact(10)),
        ("layers", Image::oci(11, &[100; 41])),
    ];
    let hub = Upstream::start();
    for (name, image) in &images {
        hub.put(&format!("shapes/{name}"), "v1", image);
    }
    let mut flotilla = before(&hub).start();
    let client = client(&flotilla);
    for (name, image) in &images {
        pull(&client, &format!("docker-hub/shapes/{name}"), "v1", image);
    }
    hub.forget_requests();
    for (name, image) in &images {
        pull(&client, &format!("docker-hub/shapes/{name}"), "v1", image);
    }
    assert_eq!(hub.requests().len(), 0, "all of it is held: {:?}", hub.requests());
    assert!(flotilla.terminate().success());
}

#[test]
fn fifty_clients_on_one_cold_blob_cost_one_upstream_get() {
    let image = Image::oci(20, &[256 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let layer = &image.layers()[0];
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..50).map(|_| scope.spawn(|| client.fetch(&blob_path(APP, layer), &[]))).collect();
        for fetch in fetches {
            whole(&fetch.join().unwrap(), layer);
        }
    });
    assert_eq!(hub.blob_gets(layer.digest()), 1);
    assert_eq!(hub.blob_bytes_sent(layer.digest()), layer.len());
}

#[test]
fn many_clients_on_one_cold_tag_cost_one_manifest() {
    let image = Image::oci(21, &[1000]);
    let (hub, flotilla) = with_image(&image);
    // Slow enough that all of them come while it runs.
    hub.fault(On::manifests(), Times::Always, Fault::DelayHead(Duration::from_millis(300)));
    let client = client(&flotilla);
    std::thread::scope(|scope| {
        let gets: Vec<_> = (0..20).map(|_| scope.spawn(|| client.get(&manifest_path(APP, "latest")))).collect();
        for get in gets {
            assert_eq!(get.join().unwrap().body, image.manifest.bytes());
        }
    });
    assert!(hub.count("GET", "/manifests/latest") + hub.count("GET", image.digest()) <= 1, "{:?}", hub.requests());
}

#[test]
fn the_first_pull_may_be_by_digest() {
    let image = Image::index(vec![Image::oci(30, &[5000]), Image::oci_for("arm64", 31, &[5000])]);
    let hub = Upstream::start();
    hub.put_untagged("library/app", &image);
    let flotilla = before(&hub).start();
    pull(&client(&flotilla), APP, image.digest(), &image);
    assert_eq!(client(&flotilla).get(&manifest_path(APP, "latest")).error_code(), "MANIFEST_UNKNOWN");
}

#[test]
fn a_blob_may_be_asked_for_before_any_manifest() {
    let image = Image::oci(32, &[50_000]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let layer = &image.layers()[0];
    let head = client.head(&blob_path(APP, layer));
    assert_eq!((head.status, head.header("content-length")), (200, Some(layer.len().to_string().as_str())));
    whole(&client.fetch(&blob_path(APP, layer), &[]), layer);
}

#[test]
fn heads_say_what_gets_do() {
    let image = Image::oci(33, &[50_000]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    for path in [manifest_path(APP, "latest"), manifest_path(APP, image.digest()), blob_path(APP, &image.layers()[0])] {
        let (head, get) = (client.head(&path), client.get(&path));
        for name in ["content-length", "content-type", "docker-content-digest", "etag", "x-content-type-options"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
            assert!(get.header(name).is_some(), "{name} of {path}");
        }
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(get.header("x-content-type-options"), Some("nosniff"));
    }
    let blob = client.get(&blob_path(APP, &image.layers()[0]));
    assert_eq!(blob.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let image = Image::oci(34, &[50_000]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    for path in [manifest_path(APP, "latest"), blob_path(APP, &image.layers()[0])] {
        let etag = client.get(&path).header("etag").unwrap().to_owned();
        for known in [etag.as_str(), "*", &format!("\"other\", {etag}"), &format!("W/{etag}")] {
            let again = client.request("GET", &path, &[("If-None-Match", known)], b"");
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} with {known}");
        }
        assert_eq!(client.request("GET", &path, &[("If-None-Match", "\"other\"")], b"").status, 200);
    }
}

#[test]
fn ranges_of_a_held_blob() {
    let image = Image::oci(35, &[3 * MIB]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let layer = &image.layers()[0];
    let path = blob_path(APP, layer);
    whole(&client.fetch(&path, &[]), layer);
    let len = layer.len();
    for (range, start, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=1000000-2000000".to_owned(), 1_000_000, 2_000_001),
        (format!("bytes={}-", len - 5), len - 5, len),
        ("bytes=-7".to_owned(), len - 7, len),
        (format!("bytes=-{}", len * 2), 0, len),
        (format!("bytes=10-{}", len * 2), 10, len),
    ] {
        let part = client.request("GET", &path, &[("Range", &range)], b"");
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {start}-{}/{len}", end - 1).as_str()), "{range}");
        assert!(part.body == layer.range(start, end), "{range}");
    }
    for range in [format!("bytes={len}-"), "bytes=-0".to_owned()] {
        let refused = client.request("GET", &path, &[("Range", &range)], b"");
        assert_eq!(refused.status, 416, "{range}");
        assert_eq!(refused.header("content-range"), Some(format!("bytes */{len}").as_str()), "{range}");
    }
    // RFC 9110, 14.2: what is not understood is ignored.
    for range in ["pieces=0-1", "bytes=5-2", "bytes=a-b"] {
        assert_eq!(client.request("GET", &path, &[("Range", range)], b"").status, 200, "{range}");
    }
    let stale = [("Range", "bytes=0-9"), ("If-Range", "\"other\"")];
    assert_eq!(client.request("GET", &path, &stale, b"").status, 200, "If-Range of another entity");
}

#[test]
fn several_ranges_come_as_multipart() {
    let image = Image::oci(36, &[MIB]);
    let (_hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    let layer = &image.layers()[0];
    let path = blob_path(APP, layer);
    let parts = client.request("GET", &path, &[("Range", "bytes=0-99,200000-200999,-10")], b"");
    assert_eq!(parts.status, 206);
    let kind = parts.header("content-type").unwrap();
    let boundary =
        kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{kind}")).trim_matches('"');
    let len = layer.len();
    let mut wanted = Vec::new();
    for (start, end) in [(0, 100), (200_000, 201_000), (len - 10, len)] {
        wanted.push((format!("bytes {start}-{}/{len}", end - 1), layer.range(start, end)));
    }
    assert_eq!(multipart(&parts.body, boundary), wanted);
}

/// `Content-Range` and bytes of each part.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, bytes::Bytes)> {
    let find = |from: usize, what: &str| {
        let at = body[from..].windows(what.len()).position(|window| window == what.as_bytes());
        at.map(|at| from + at)
    };
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut at = find(0, &delimiter).expect("a first delimiter") + delimiter.len();
    while !body[at..].starts_with(b"--") {
        let head_end = find(at, "\r\n\r\n").expect("the head of a part ends");
        let head = std::str::from_utf8(&body[at..head_end]).expect("the head of a part is text");
        let range =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-range: ").map(str::to_owned));
        // By its length, since the bytes of a part may look like anything.
        let range = range.expect("a part says its range");
        let bounds = range.strip_prefix("bytes ").and_then(|rest| rest.split('/').next()?.split_once('-')).unwrap();
        let len = bounds.1.parse::<usize>().unwrap() - bounds.0.parse::<usize>().unwrap() + 1;
        let start = head_end + 4;
        parts.push((range, bytes::Bytes::copy_from_slice(&body[start..start + len])));
        assert!(body[start + len..].starts_with(format!("\r\n{delimiter}").as_bytes()), "a delimiter after each part");
        at = start + len + 2 + delimiter.len();
    }
    parts
}

#[test]
fn a_range_on_a_miss_is_answered_from_the_growing_blob() {
    let image = Image::oci(37, &[32 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    // The rest of it never comes while the test runs.
    hub.fault(
        On::blob(layer.digest()).by("GET"),
        Times::Always,
        Fault::Trickle { step_bytes: 64 << 10, every: Duration::from_millis(20) },
    );
    let path = blob_path(APP, layer);
    let part = client(&flotilla).request("GET", &path, &[("Range", "bytes=1000-1999")], b"");
    assert_eq!(part.status, 206);
    assert!(part.body == layer.range(1000, 2000));
    let sent: u64 = hub.blob_bytes_sent(layer.digest());
    assert!(sent < layer.len(), "the range did not wait for the whole: {sent}");
}

#[test]
fn a_fill_outlives_its_client() {
    let image = Image::oci(38, &[16 * MIB]);
    let (mut hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    let step = Fault::Trickle { step_bytes: 256 << 10, every: Duration::from_millis(5) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    {
        let mut connection = flotilla.client().connect().unwrap();
        connection.send("GET", &blob_path(APP, layer), &[], b"").unwrap();
        assert!(connection.read_body(&mut [0; 1000]).unwrap() > 0);
    }
    wait_for("the fill to go on without a client", SOON, || hub.blob_bytes_sent(layer.digest()) == layer.len());
    wait_for("the blob to be held", SOON, || flotilla.metrics().sum("flotilla_fills_in_flight", &[]) == Some(0.0));
    hub.off();
    whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
}

#[test]
fn tags_and_catalog_come_in_pages() {
    let hub = Upstream::start();
    let image = Image::oci(39, &[100]);
    for name in ["a", "b", "c", "d", "e"] {
        hub.put(&format!("pages/{name}"), "t", &image);
        hub.put("pages/a", &format!("tag-{name}"), &image);
    }
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    for name in ["a", "b", "c", "d", "e"] {
        pull(&client, &format!("docker-hub/pages/{name}"), "t", &image);
        pull(&client, "docker-hub/pages/a", &format!("tag-{name}"), &image);
    }
    let tags = paged(&client, "/v2/docker-hub/pages/a/tags/list?n=2", "tags");
    assert_eq!(tags, ["t", "tag-a", "tag-b", "tag-c", "tag-d", "tag-e"]);
    // The catalog is everybody's names: it is for those who signed in.
    let aws = cluster_tests::aws::Aws::root(&flotilla);
    let token = aws.ecr("GetAuthorizationToken", &serde_json::json!({}));
    let basic = format!("Basic {}", token["authorizationData"][0]["authorizationToken"].as_str().unwrap());
    let repositories = paged(&client.with("Authorization", &basic), "/v2/_catalog?n=2", "repositories");
    assert_eq!(repositories, ["a", "b", "c", "d", "e"].map(|name| format!("docker-hub/pages/{name}")));
}

/// All pages, each no longer than `n` says.
fn paged(client: &cluster_tests::Client, first: &str, member: &str) -> Vec<String> {
    let (mut path, mut all) = (first.to_owned(), Vec::new());
    loop {
        let page = client.get(&path);
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        let items = page.json()[member].as_array().unwrap().clone();
        assert!(items.len() <= 2, "{path}: {items:?}");
        all.extend(items.iter().map(|item| item.as_str().unwrap().to_owned()));
        let Some(link) = page.header("link") else { return all };
        let (target, rel) = link.trim_start_matches('<').split_once('>').unwrap();
        assert!(rel.contains("rel=\"next\""), "{link}");
        path = target.strip_prefix(&format!("http://{}", client.address())).unwrap_or(target).to_owned();
    }
}

#[test]
fn the_content_type_served_is_that_of_the_bytes() {
    let image = Image::oci(40, &[100]);
    let (_hub, flotilla) = with_image(&image);
    // A client that asks for less still gets the bytes that the digest names.
    let narrow = flotilla.client().with("Accept", image::DOCKER_MANIFEST);
    assert_eq!(narrow.get(&manifest_path(APP, "latest")).header("content-type"), Some(image::OCI_MANIFEST));
    let none = flotilla.client();
    assert_eq!(none.get(&manifest_path(APP, "latest")).status, 200);
}

#[test]
fn the_empty_blob_is_a_blob() {
    let hub = Upstream::start();
    let empty = Content::held("");
    hub.put("library/app", "latest", &Image::oci(41, &[1]));
    hub.put_blob("library/app", &empty);
    let flotilla = before(&hub).start();
    whole(&client(&flotilla).fetch(&blob_path(APP, &empty), &[]), &empty);
}

use std::time::{Duration, Instant};

use super::*;
use crate::{Client, image};

fn image() -> Image {
    Image::oci(11, &[300_000, 5_000])
}

fn with_image() -> (Upstream, Client, Image) {
    let (upstream, image) = (Upstream::start(), image());
    upstream.put("library/app", "latest", &image);
    let client = Client::new(&upstream.url());
    (upstream, client, image)
}

fn blob_path(content: &Content) -> String {
    format!("/v2/library/app/blobs/{}", content.digest())
}

#[test]
fn it_serves_manifests_blobs_and_ranges_and_counts_them() {
    let (upstream, client, image) = with_image();
    let manifest = client.get("/v2/library/app/manifests/latest");
    assert_eq!((manifest.status, manifest.body), (200, image.manifest.bytes().to_vec()));
    assert_eq!(manifest.headers.iter().find(|(name, _)| name == "Content-Type").unwrap().1, image::OCI_MANIFEST);
    let layer = &image.layers()[0];
    let fetched = client.fetch(&blob_path(layer), &[]);
    assert!(fetched.complete && fetched.digest == layer.digest());
    let part = client.request("GET", &blob_path(layer), &[("Range", "bytes=1000-1999")], b"");
    assert_eq!((part.status, part.body), (206, layer.range(1000, 2000).to_vec()));
    assert_eq!(client.request("GET", &blob_path(layer), &[("Range", "bytes=999999999-")], b"").status, 416);
    assert_eq!(upstream.blob_gets(layer.digest()), 3);
    assert_eq!(upstream.count("GET", "/manifests/latest"), 1);
    let whole_and_part = layer.len() + 1000..layer.len() + 2000;
    assert!(whole_and_part.contains(&upstream.blob_bytes_sent(layer.digest())));
    assert_eq!(client.get("/v2/library/other/manifests/latest").status, 404);
}

#[test]
fn bodies_are_cut_both_ways_and_stall() {
    let (upstream, client, image) = with_image();
    let layer = &image.layers()[0];
    for how in [Cut::Fin, Cut::Reset] {
        upstream.fault(On::blob(layer.digest()), Times::Once, Fault::CutBody { after_bytes: 100_000, how });
        let fetched = client.fetch(&blob_path(layer), &[]);
        assert_eq!(fetched.status, 200);
        assert!(!fetched.complete && fetched.received_bytes <= 100_000, "{fetched:?}");
        let kind =
            if how == Cut::Fin { std::io::ErrorKind::UnexpectedEof } else { std::io::ErrorKind::ConnectionReset };
        assert_eq!(fetched.error, Some(kind));
    }
    upstream.fault(On::blobs(), Times::Once, Fault::Stall { after_bytes: 1000 });
    let stalled = client.clone().patient(Duration::from_millis(200)).fetch(&blob_path(layer), &[]);
    assert_eq!((stalled.received_bytes, stalled.complete), (1000, false));
    assert!(client.fetch(&blob_path(layer), &[]).complete, "healed");
}

#[test]
fn it_lies_about_bytes_length_and_kind() {
    let (upstream, client, image) = with_image();
    let layer = &image.layers()[0];
    upstream.fault(On::blobs(), Times::Once, Fault::WrongBytes);
    let wrong = client.fetch(&blob_path(layer), &[]);
    assert!(wrong.complete && wrong.received_bytes == layer.len() && wrong.digest != layer.digest());
    upstream.fault(On::blobs(), Times::Once, Fault::WrongLength(10));
    assert!(!client.fetch(&blob_path(layer), &[]).complete);
    upstream.fault(On::blobs(), Times::Once, Fault::WrongLength(-10));
    let short = client.fetch(&blob_path(layer), &[]);
    assert!(short.complete && short.received_bytes == layer.len() - 10);
    upstream.fault(On::manifests(), Times::Once, Fault::Html);
    assert_eq!(client.get("/v2/library/app/manifests/latest").header("content-type"), Some("text/html; charset=utf-8"));
    upstream.fault(On::manifests().by("HEAD"), Times::Always, Fault::NoHead);
    assert_eq!(client.head("/v2/library/app/manifests/latest").status, 405);
    upstream.fault(On::blobs(), Times::Once, Fault::NoRange);
    assert_eq!(client.request("GET", &blob_path(layer), &[("Range", "bytes=0-9")], b"").status, 200);
    upstream.fault(On::any(), Times::N(2), Fault::too_many(7));
    let refused = client.get("/v2/");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
    upstream.heal();
    assert_eq!(client.get("/v2/").status, 200);
}

#[test]
fn it_is_as_slow_as_it_is_told() {
    let (upstream, client, image) = with_image();
    let step = Fault::Trickle { step_bytes: 512, every: Duration::from_millis(10) };
    upstream.fault(On::blobs(), Times::Once, step);
    let start = Instant::now();
    assert!(client.fetch(&blob_path(&image.layers()[1]), &[]).complete);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn tokens_are_asked_for_scoped_and_expire() {
    let upstream = Upstream::with_auth(Auth::Bearer { login: None, expires_in_seconds: 60, expired_status: 400 });
    upstream.put("library/app", "latest", &image());
    upstream.put("library/other", "latest", &image());
    let client = Client::new(&upstream.url());
    let path = "/v2/library/app/manifests/latest";
    let refused = client.get(path);
    let challenge = refused.header("www-authenticate").unwrap();
    assert_eq!(refused.status, 401);
    let wanted = format!(
        "Bearer realm=\"{}/token\",service=\"upstream.test\",scope=\"repository:library/app:pull\"",
        upstream.url()
    );
    assert_eq!(challenge, wanted);
    let token = client.get("/token?service=upstream.test&scope=repository:library/app:pull").json();
    let bearer = client.with("Authorization", &format!("Bearer {}", token["token"].as_str().unwrap()));
    assert_eq!(bearer.get(path).status, 200);
    assert_eq!(bearer.get("/v2/library/other/manifests/latest").status, 400, "a token is for its scope");
    upstream.expire_tokens();
    assert_eq!(bearer.get(path).status, 400);
}

#[test]
fn blobs_are_elsewhere_and_the_port_goes_and_comes_back() {
    let (mut upstream, client, image) = with_image();
    let cdn = Upstream::start();
    upstream.redirect_blobs_to(&cdn);
    let layer = &image.layers()[0];
    let redirect = client.get(&blob_path(layer));
    let location = redirect.header("location").unwrap().to_owned();
    assert_eq!(redirect.status, 307);
    let fetched = Client::new(&cdn.url()).fetch(location.strip_prefix(&cdn.url()).unwrap(), &[]);
    assert!(fetched.complete && fetched.digest == layer.digest());
    assert_eq!((cdn.blob_gets(layer.digest()), cdn.blob_bytes_sent(layer.digest())), (1, layer.len()));
    upstream.off();
    assert!(client.try_request("GET", "/v2/", &[], b"").is_err());
    upstream.on();
    upstream.untag("library/app", "latest");
    assert_eq!(client.get("/v2/library/app/manifests/latest").status, 404);
    assert_eq!(client.get(&format!("/v2/library/app/manifests/{}", image.digest())).status, 200);
}

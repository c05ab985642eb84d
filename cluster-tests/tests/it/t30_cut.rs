//! Bodies that break off, stall, crawl or lie: a client gets the right bytes or none that pass for them.

use std::time::{Duration, Instant};

use cluster_tests::{
    Flotilla, Image, Upstream,
    upstream::{Auth, Cut, Fault, On, Times},
    wait_for,
};

use crate::common::{APP, MIB, SOON, before, blob_path, client, manifest_path, not_whole, pull, whole, with_image};

#[test]
fn a_download_cut_at_forty_percent_is_resumed() {
    for (seed, how) in [(300, Cut::Fin), (301, Cut::Reset)] {
        let image = Image::oci(seed, &[256 * MIB]);
        let (hub, flotilla) = with_image(&image);
        let layer = &image.layers()[0];
        let after_bytes = layer.len() * 2 / 5;
        hub.fault(On::blob(layer.digest()).by("GET"), Times::Once, Fault::CutBody { after_bytes, how });
        whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
        let sent = hub.blob_bytes_sent(layer.digest());
        assert!(sent as f64 <= 1.05 * layer.len() as f64, "{how:?}: upstream sent {sent} for {}", layer.len());
        assert_eq!(hub.blob_gets(layer.digest()), 2);
    }
}

#[test]
fn a_download_cut_again_and_again_goes_on_while_bytes_come() {
    let image = Image::oci(302, &[16 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    hub.fault(On::blob(layer.digest()).by("GET"), Times::N(6), Fault::CutBody { after_bytes: 2 * MIB, how: Cut::Fin });
    whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
}

#[test]
fn an_upstream_without_ranges_is_read_again_from_the_start() {
    let image = Image::oci(303, &[8 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Once, Fault::CutBody { after_bytes: 5 * MIB, how: Cut::Fin });
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, Fault::NoRange);
    whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
    pull(&client(&flotilla), APP, "latest", &image);
}

#[test]
fn a_stalled_body_is_cut_and_resumed() {
    let image = Image::oci(304, &[8 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Once, Fault::Stall { after_bytes: 3 * MIB });
    whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
    assert_eq!(hub.blob_gets(layer.digest()), 2);
    assert!(hub.blob_bytes_sent(layer.digest()) <= layer.len() * 105 / 100);
}

#[test]
fn a_slow_body_is_not_cut() {
    let image = Image::oci(305, &[2 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    // Longer than the time-out of a stall, a byte at a time, so to speak.
    let step = Fault::Trickle { step_bytes: 32 << 10, every: Duration::from_millis(250) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    whole(&client(&flotilla).fetch(&blob_path(APP, layer), &[]), layer);
    assert_eq!(hub.blob_gets(layer.digest()), 1);
}

#[test]
fn the_head_of_a_miss_comes_at_once_while_upstream_trickles() {
    let image = Image::oci(306, &[64 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    let client = client(&flotilla);
    client.get(&manifest_path(APP, "latest"));
    let step = Fault::Trickle { step_bytes: 1024, every: Duration::from_millis(100) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    let start = Instant::now();
    let mut connection = client.connect().unwrap();
    let head = connection.send("GET", &blob_path(APP, layer), &[], b"").unwrap();
    let took = start.elapsed();
    assert!(head.status == 200 && took < Duration::from_secs(1), "{} after {took:?}", head.status);
    let length = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    assert_eq!(length.map(|(_, value)| value.clone()), Some(layer.len().to_string()));
    // And the bytes follow as they come, not when a buffer is full.
    assert!(connection.read_body(&mut [0; 100]).unwrap() > 0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// One image, a lie per layer: what was wrong is remembered for a minute, which is waited for once.
#[test]
fn no_lie_of_upstream_ever_passes_for_the_blob() {
    let lies = [Fault::WrongBytes, Fault::WrongLength(5), Fault::WrongLength(-5), Fault::Html];
    let image = Image::oci(307, &[3 * MIB; 4]);
    let (mut hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    pull_manifest(&flotilla, &image);
    for (layer, lie) in image.layers().iter().zip(lies) {
        hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, lie);
    }
    std::thread::scope(|scope| {
        for layer in image.layers() {
            for _ in 0..4 {
                scope.spawn(|| not_whole(&client.fetch(&blob_path(APP, layer), &[]), layer));
            }
        }
    });
    // Nothing of it was published: without the upstream there is nothing to serve.
    hub.off();
    for layer in image.layers() {
        not_whole(&client.fetch(&blob_path(APP, layer), &[]), layer);
    }
    hub.on();
    hub.heal();
    for layer in image.layers() {
        wait_for("the right bytes once upstream is well", Duration::from_secs(90), || {
            let fetched = client.fetch(&blob_path(APP, layer), &[]);
            fetched.status == 200 && fetched.complete && fetched.digest == layer.digest()
        });
    }
}

fn pull_manifest(flotilla: &Flotilla, image: &Image) {
    assert_eq!(client(flotilla).get(&manifest_path(APP, "latest")).body, image.manifest.bytes());
}

#[test]
fn a_cut_response_ends_with_a_fin() {
    // containerd resumes after a short body and gives up after a reset.
    let image = Image::oci(308, &[3 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    pull_manifest(&flotilla, &image);
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, Fault::WrongBytes);
    let fetched = client(&flotilla).fetch(&blob_path(APP, layer), &[]);
    assert_eq!(fetched.status, 200, "the head left with upstream's");
    assert_eq!(fetched.error, Some(std::io::ErrorKind::UnexpectedEof), "{fetched:?}");
    assert!(fetched.received_bytes < layer.len());
}

#[test]
fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let image = Image::oci(309, &[1000]);
    for fault in [Fault::Html, Fault::WrongBytes, Fault::WrongLength(-3)] {
        let (hub, flotilla) = with_image(&image);
        hub.fault(On::manifests().by("GET"), Times::Always, fault.clone());
        for reference in ["latest", image.digest()] {
            let answer = client(&flotilla).get(&manifest_path(APP, reference));
            assert!(answer.status >= 400 && !answer.error_code().is_empty(), "{fault:?} {reference}: {answer:?}");
        }
        hub.heal();
        wait_for("the right manifest once upstream is well", SOON, || {
            client(&flotilla).get(&manifest_path(APP, "latest")).status == 200
        });
        pull(&client(&flotilla), APP, "latest", &image);
    }
}

#[test]
fn blobs_behind_a_redirect_come_without_our_credentials_going_there() {
    let (hub, cdn) = (Upstream::with_auth(Auth::anonymous_tokens()), Upstream::start());
    let image = Image::oci(310, &[4 * MIB]);
    hub.put("library/app", "latest", &image);
    hub.redirect_blobs_to(&cdn);
    let flotilla = before(&hub).start();
    let layer = &image.layers()[0];
    cdn.fault(On::blob(layer.digest()).by("GET"), Times::Once, Fault::CutBody { after_bytes: MIB, how: Cut::Reset });
    pull(&client(&flotilla), APP, "latest", &image);
    let asked = cdn.requests();
    assert!(!asked.is_empty());
    for request in asked {
        assert_eq!(request.header("authorization"), None, "a credential went to another host");
    }
    let log = flotilla.log().join("\n");
    assert!(!log.contains("for-this-address-only"), "the query of a redirect is in the log");
}

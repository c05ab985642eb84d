//! One upstream's trouble is not another's, and no number of clients makes it worse.

use std::time::{Duration, Instant};

use cluster_tests::{
    Image, Upstream,
    upstream::{Fault, On, Times},
};

use crate::common::{APP, MIB, before, blob_path, client, manifest_path, pull, whole};

#[test]
fn a_hanging_upstream_does_not_touch_another() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let image = Image::oci(340, &[100_000]);
    quay.put("org/app", "v1", &image);
    hub.fault(On::any(), Times::Always, Fault::DelayHead(Duration::from_secs(600)));
    let flotilla = before(&hub).upstream("quay.io", &quay).start();
    let client = client(&flotilla);
    std::thread::scope(|scope| {
        for i in 0..64 {
            let client = client.clone().patient(Duration::from_secs(3));
            scope.spawn(move || {
                client.try_request("GET", &format!("/v2/docker-hub/library/x{i}/manifests/v"), &[], b"")
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        pull(&client, "quay/org/app", "v1", &image);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    });
}

#[test]
fn an_upstream_that_is_down_is_refused_quickly_after_a_while() {
    let mut hub = Upstream::start();
    hub.off();
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    for i in 0..20 {
        let _ = client.get(&format!("/v2/docker-hub/library/x{i}/manifests/v"));
    }
    let start = Instant::now();
    let answer = client.get("/v2/docker-hub/library/last/manifests/v");
    assert!([502, 503, 504].contains(&answer.status), "{}", answer.status);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "the circuit is open, and still it takes {:?}",
        start.elapsed()
    );
    let open = flotilla.metrics().sum("flotilla_upstream_circuit_open", &[]);
    assert_eq!(open, Some(1.0));
}

#[test]
fn clients_that_leave_at_once_leave_nothing_behind() {
    let hub = Upstream::start();
    let image = Image::oci(341, &[8 * MIB]);
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).start();
    let (client, layer) = (client(&flotilla), &image.layers()[0]);
    for _ in 0..50 {
        let mut connection = client.connect().unwrap();
        connection.send("GET", &blob_path(APP, layer), &[], b"").unwrap();
    }
    whole(&client.fetch(&blob_path(APP, layer), &[]), layer);
    assert_eq!(hub.blob_gets(layer.digest()), 1);
    assert_eq!(client.get(&manifest_path(APP, "latest")).status, 200);
}

//! Upstream trouble never fails a pull of what is held (design, invariant 4).

use std::time::{Duration, Instant};

use cluster_tests::{
    Flotilla, Image, Upstream,
    upstream::{Auth, Fault, On, Times},
    wait_for,
};

use crate::common::{APP, SOON, before, client, manifest_path, pull, status_of};

/// A hub with an index, pulled once by a server whose tags are stale at once.
fn held() -> (Upstream, Flotilla, Image) {
    let hub = Upstream::start();
    let image = Image::index(vec![Image::oci(320, &[100_000]), Image::oci_for("arm64", 321, &[100_000])]);
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).arg("--tag-ttl-seconds").arg("0").start();
    pull(&client(&flotilla), APP, "latest", &image);
    (hub, flotilla, image)
}

#[test]
fn with_upstream_gone_everything_held_still_pulls() {
    let (mut hub, flotilla, image) = held();
    hub.off();
    for _ in 0..3 {
        let start = Instant::now();
        pull(&client(&flotilla), APP, "latest", &image);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "a held image waits for a dead upstream: {:?}",
            start.elapsed()
        );
    }
    let stale = flotilla.metrics().sum("flotilla_pulls_total", &["result=\"stale\""]);
    assert!(stale.is_some_and(|count| count >= 1.0), "{stale:?}");
    let (status, _) = status_of(&client(&flotilla), &manifest_path(APP, "other"));
    assert!([502, 503, 504].contains(&status), "unknown is never absent: {status}");
    hub.on();
    let new = Image::oci(322, &[1000]);
    hub.put("library/app", "latest", &new);
    wait_for("the new image once upstream is back", Duration::from_secs(60), || {
        // What failed a moment ago is not asked for again at once, unless somebody insists.
        let _ = flotilla.command(&["rule", "refresh", "docker-hub/library/app:latest"]).output();
        client(&flotilla).get(&manifest_path(APP, "latest")).body == new.manifest.bytes()
    });
}

#[test]
fn with_upstream_gone_held_content_pulls_after_a_restart_too() {
    let (mut hub, mut flotilla, image) = held();
    hub.off();
    assert!(flotilla.terminate().success());
    flotilla.start_again();
    pull(&client(&flotilla), APP, "latest", &image);
}

#[test]
fn every_kind_of_refusal_serves_what_is_held() {
    for fault in [
        Fault::too_many(3600),
        Fault::status(401),
        Fault::status(403),
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::HangUp,
        Fault::Html,
    ] {
        let (hub, flotilla, image) = held();
        hub.fault(On::any(), Times::Always, fault.clone());
        let start = Instant::now();
        pull(&client(&flotilla), APP, "latest", &image);
        assert!(start.elapsed() < Duration::from_secs(15), "{fault:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_silent_upstream_does_not_hold_up_what_is_held() {
    let (hub, flotilla, image) = held();
    hub.fault(On::any(), Times::Always, Fault::DelayHead(Duration::from_secs(600)));
    let start = Instant::now();
    pull(&client(&flotilla), APP, "latest", &image);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_throttled_miss_is_told_so_and_upstream_is_left_alone() {
    let (hub, flotilla, _image) = held();
    hub.put("library/new", "latest", &Image::oci(323, &[10]));
    hub.fault(On::any(), Times::Always, Fault::too_many(30));
    hub.forget_requests();
    let mut last = client(&flotilla).get("/v2/docker-hub/library/new/manifests/latest");
    for _ in 0..10 {
        last = client(&flotilla).get("/v2/docker-hub/library/new/manifests/latest");
    }
    assert!([429, 503].contains(&last.status), "{}", last.status);
    assert_eq!(last.error_code(), "TOOMANYREQUESTS", "{}", last.text());
    assert!(last.header("retry-after").is_some());
    let asked = hub.requests().len();
    assert!(asked <= 4, "Retry-After was 30 s, and upstream was asked {asked} times");
}

#[test]
fn a_tag_deleted_upstream_keeps_serving() {
    let (hub, flotilla, image) = held();
    hub.untag("library/app", "latest");
    for _ in 0..3 {
        pull(&client(&flotilla), APP, "latest", &image);
    }
    assert_eq!(status_of(&client(&flotilla), &manifest_path(APP, "other")), (404, "MANIFEST_UNKNOWN".into()));
}

#[test]
fn an_expired_token_is_renewed_whatever_upstream_calls_it() {
    for expired_status in [400, 401, 403] {
        let auth = Auth::Bearer { login: None, expires_in_seconds: 3600, expired_status };
        let hub = Upstream::with_auth(auth);
        let (one, two) = (Image::oci(324, &[1000]), Image::oci(325, &[1000]));
        hub.put("library/app", "one", &one);
        hub.put("library/app", "two", &two);
        let flotilla = before(&hub).start();
        pull(&client(&flotilla), APP, "one", &one);
        let tokens = hub.count("GET", "/token");
        hub.expire_tokens();
        pull(&client(&flotilla), APP, "two", &two);
        assert_eq!(hub.count("GET", "/token"), tokens + 1, "{expired_status}: dropped once");
    }
}

#[test]
fn tokens_are_kept_and_renewed_early() {
    let hub = Upstream::with_auth(Auth::anonymous_tokens());
    let image = Image::oci(326, &[1000; 20]);
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).start();
    pull(&client(&flotilla), APP, "latest", &image);
    assert_eq!(hub.count("GET", "/token"), 1, "one token for one scope: {:?}", hub.requests());
}

#[test]
fn an_upstream_that_refuses_forever_is_not_asked_forever() {
    let login = Some(("somebody".to_owned(), "else".to_owned()));
    let bearer = Auth::Bearer { login, expires_in_seconds: 60, expired_status: 401 };
    let basic = Auth::Basic { user: "somebody".into(), password: "else".into() };
    for auth in [bearer, basic] {
        let hub = Upstream::with_auth(auth);
        hub.put("library/app", "latest", &Image::oci(327, &[10]));
        let flotilla = before(&hub).start();
        let (status, code) = status_of(&client(&flotilla), &manifest_path(APP, "latest"));
        assert!(status >= 400 && !code.is_empty(), "{status} {code}");
        assert!(hub.requests().len() <= 6, "{:?}", hub.requests());
    }
}

#[test]
fn a_token_service_in_trouble_does_not_touch_what_is_held() {
    let (hub, flotilla, image) = held();
    hub.set_auth(Auth::anonymous_tokens());
    hub.fault(On::token(), Times::Always, Fault::status(503));
    pull(&client(&flotilla), APP, "latest", &image);
    let (status, _) = status_of(&client(&flotilla), &manifest_path(APP, "other"));
    assert!(status >= 500 || status == 429, "unknown is never absent: {status}");
    hub.heal();
    hub.put("library/app", "other", &image);
    wait_for("the other tag once tokens are given", Duration::from_secs(60), || {
        client(&flotilla).get(&manifest_path(APP, "other")).status == 200
    });
}

#[test]
fn a_short_trouble_is_waited_out_for_a_miss() {
    let hub = Upstream::start();
    let image = Image::oci(328, &[100_000]);
    hub.put("library/app", "latest", &image);
    hub.fault(On::manifests(), Times::Once, Fault::status(503));
    hub.fault(On::blobs(), Times::Once, Fault::HangUp);
    let flotilla = before(&hub).start();
    wait_for("the image", SOON, || client(&flotilla).get(&manifest_path(APP, "latest")).status == 200);
    pull(&client(&flotilla), APP, "latest", &image);
}

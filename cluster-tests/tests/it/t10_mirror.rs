//! Plain image names: which repository a name of another registry leads to, what it never leads to, and what a rule keeps
//! from its upstream.

use cluster_tests::{Client, Flotilla, Image, Upstream, aws::Aws, http::Response, image::ACCEPT_ALL};
use serde_json::{Value, json};

use crate::{
    common::{APP, before, blob_path, client, create_rule, manifest_path, pull, whole, with_image},
    t20_entrances::{address, status},
    t20_serve::Site,
};

fn of(name: &str, ns: &str) -> String {
    format!("/v2/{name}/manifests/latest?ns={ns}")
}

#[track_caller]
fn serves(answer: &Response, image: &Image) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == image.manifest.bytes());
}

#[track_caller]
fn unknown(answer: &Response) {
    assert_eq!((answer.status, answer.error_code().as_str()), (404, "NAME_UNKNOWN"), "{}", answer.text());
}

fn repositories(flotilla: &Flotilla) -> Vec<String> {
    let found = Aws::root(flotilla).ecr("DescribeRepositories", &json!({}));
    let found = found["repositories"].as_array().unwrap().iter();
    found.map(|repository| repository["repositoryName"].as_str().unwrap().to_owned()).collect()
}

/// What the node says it stands in for Docker Hub at.
fn mirror(flotilla: &Flotilla) -> Client {
    let line = flotilla.log().into_iter().find_map(|line| Some(line.strip_prefix("mirror ")?.to_owned()));
    Client::new(&line.expect("a mirror listener")).with("Accept", ACCEPT_ALL)
}

#[test]
fn names_of_a_registry_lead_through_its_rule() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let (app, other) = (Image::oci(700, &[1000]), Image::oci(701, &[1000]));
    hub.put("library/app", "latest", &app);
    quay.put("org/app", "latest", &other);
    let flotilla = before(&hub).upstream("quay.io", &quay).arg("--log-json").start();
    let client = client(&flotilla);
    for name in ["library/app", "app"] {
        serves(&client.get(&of(name, "docker.io")), &app);
        serves(&client.get(&of(name, "registry-1.docker.io")), &app);
        assert_eq!(client.head(&of(name, "docker.io")).status, 200);
    }
    for blob in &app.blobs {
        whole(&client.fetch(&format!("{}?ns=docker.io", blob_path("library/app", blob)), &[]), blob);
    }
    // containerd with `override_path`, or somebody who keeps the prefix.
    serves(&client.get(&of("docker-hub/library/app", "docker.io")), &app);
    serves(&client.get(&of("org/app", "quay.io")), &other);
    // The same names without `ns` are own names, and our own address is no other registry.
    unknown(&client.get(&manifest_path("library/app", "latest")));
    serves(&client.get(&of(APP, flotilla.host())), &app);
    unknown(&client.get(&of("library/app", flotilla.host())));
    assert_eq!(repositories(&flotilla), ["docker-hub/library/app", "quay/org/app"]);
    assert!(hub.requests().iter().all(|request| request.query.is_empty()), "ns is not passed on");
    let line = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let text = line.to_string();
        text.contains(r#""ns":"quay.io""#) && text.contains(r#""repository":"quay/org/app""#)
    };
    cluster_tests::wait_for("the log line with both names", crate::common::SOON, || flotilla.log().iter().any(line));
}

#[test]
fn an_unknown_registry_is_a_quick_no_and_never_dialed() {
    let image = Image::oci(702, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let somebody = Upstream::start();
    somebody.put("library/app", "latest", &image);
    let client = client(&flotilla);
    for ns in ["unknown.example", &somebody.host(), "localhost:1", "169.254.169.254", "ghcr.io:444"] {
        let refused = client.get(&of("library/app", ns));
        unknown(&refused);
        assert!(
            refused.text().contains(&format!("no cache rule of this registry mirrors '{ns}'")),
            "{}",
            refused.text()
        );
    }
    for ns in ["", "a/b", "http://quay.io", "quay.io&ns=docker.io", "user@quay.io", &"a".repeat(300)] {
        let refused = client.get(&of("library/app", ns));
        assert_eq!((refused.status, refused.error_code().as_str()), (400, "NAME_INVALID"), "{ns}");
    }
    assert_eq!((somebody.requests().len(), hub.requests().len()), (0, 0));
    assert_eq!(client.get("/v2/_catalog?ns=docker.io").status, 404);
    assert_eq!(client.get("/v2/_catalog").status, 200);
}

#[test]
fn between_two_rules_nobody_guesses() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let image = Image::oci(703, &[1000]);
    quay.put("org/app", "latest", &image);
    let flotilla = before(&hub).upstream("quay.io", &quay).start();
    let client = client(&flotilla);
    create_rule(&Aws::root(&flotilla), "second", "quay.io");
    serves(&client.get(&of("org/app", "quay.io")), &image);
    flotilla.run(&["rule", "set", "second", "--mirror"]);
    for _ in 0..3 {
        unknown(&client.get(&of("org/app", "quay.io")));
    }
    let missed = flotilla.metrics().sum("flotilla_pulls_total", &["kind=\"manifest\"", "result=\"notfound\""]);
    assert_eq!(missed, Some(3.0));
    let warnings =
        || flotilla.log().into_iter().filter(|line| line.contains("leads to no repository")).collect::<Vec<_>>();
    let said = warnings();
    assert_eq!(said.len(), 1, "once, not with every pull: {said:?}");
    assert!(said[0].contains("'quay'") && said[0].contains("'second'"), "{said:?}");
    let why = flotilla.command(&["rule", "check", "org/app", "--ns", "quay.io"]).output().unwrap();
    assert_eq!(why.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&why.stderr).contains("'second'"));
    serves(&client.get(&of("second/org/app", "quay.io")), &image);
    flotilla.run(&["rule", "set", "quay", "--mirror=false"]);
    serves(&client.get(&of("org/app", "quay.io")), &image);
    assert!(flotilla.run(&["rule", "check", "org/app", "--ns", "quay.io"]).contains("second/org/app"));
}

#[test]
fn own_repositories_do_not_shadow_an_upstream() {
    let image = Image::oci(704, &[1000]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    hub.put("library/taken", "latest", &image);
    let flotilla = before(&hub).arg("--mirror-port").arg("0").start();
    let aws = Aws::root(&flotilla);
    for name in ["library/app", "team/own", "docker-hub/library/taken"] {
        aws.ecr("CreateRepository", &json!({ "repositoryName": name }));
    }
    let (registry, mirror) = (client(&flotilla), mirror(&flotilla));
    serves(&registry.get(&of("library/app", "docker.io")), &image);
    serves(&mirror.get(&manifest_path("library/app", "latest")), &image);
    // What was made here under a rule's prefix is not passed for what Docker Hub has.
    unknown(&registry.get(&of("library/taken", "docker.io")));
    unknown(&mirror.get(&manifest_path("taken", "latest")));
    serves(&registry.get(&manifest_path("docker-hub/library/taken", "latest")), &image);
    // No name of a registry leads to a repository of ours.
    assert_eq!(registry.get("/v2/team/own/tags/list").status, 200);
    assert_eq!(registry.get("/v2/team/own/tags/list?ns=docker.io").status, 404);
    assert_eq!(mirror.get("/v2/team/own/tags/list").status, 404);
    assert_eq!(mirror.get(&format!("/v2/team/own/tags/list?ns={}", flotilla.host())).status, 404);
}

#[test]
fn the_mirrors_listener_speaks_docker_hubs_names_only() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let (app, other) = (Image::oci(705, &[1000]), Image::oci(706, &[1000]));
    hub.put("library/app", "latest", &app);
    quay.put("org/app", "latest", &other);
    let flotilla = before(&hub).upstream("quay.io", &quay).arg("--mirror-port").arg("0").start();
    let mirror = mirror(&flotilla);
    pull(&mirror, "app", "latest", &app);
    pull(&mirror, "library/app", "latest", &app);
    hub.put("library/app", "v2", &app);
    assert_eq!(mirror.get(&manifest_path("app", "v2")).status, 200);
    let first = mirror.get("/v2/app/tags/list?n=1");
    let next = first.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')).unwrap().0;
    assert_eq!(mirror.get(next).json()["tags"], json!(["v2"]), "{next}");
    serves(&mirror.get(&of("org/app", "quay.io")), &other);
    assert_eq!(mirror.get(&manifest_path("org/app", "latest")).status, 404, "Docker Hub has none");
    assert_eq!(mirror.get("/v2/_catalog").status, 404);
    assert_eq!(mirror.request("POST", "/", &[], b"").status, 404, "no AWS API");
    assert_eq!(repositories(&flotilla), ["docker-hub/library/app", "quay/org/app"]);
}

#[test]
fn a_host_of_the_mirror_is_the_mirror_at_any_listener() {
    let site = Site::new("[mirror]\nhosts = [\"mirror.example\"]\n[access.anonymous]\npull = true");
    let flotilla = site.builder().arg("--init").start();
    flotilla.run(&["rule", "add", "docker-hub", "--mirror"]);
    let to = address(flotilla.endpoint());
    for (host, path, wanted) in [
        (to.to_string(), "/v2/app/manifests/latest", 404),
        ("mirror.example".to_owned(), "/v2/app/manifests/latest", 200),
        ("mirror.example".to_owned(), "/v2/_catalog", 404),
        // Another spelling of the Host is not the mirror, and here nobody.
        ("mirror.example.evil.example".to_owned(), "/v2/app/manifests/latest", 421),
    ] {
        assert_eq!(status(to, path, &format!("Host: {host}\r\n")), wanted, "{path} at {host}");
    }
}

#[test]
fn a_mirrored_name_needs_the_permission_of_its_repository() {
    let site = Site::new("[mirror]\nlisten = [\"127.0.0.1:0\"]");
    let flotilla = site.builder().arg("--init").start();
    flotilla.run(&["rule", "add", "docker-hub", "--mirror"]);
    let password = flotilla.run(&["login-password"]);
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("AWS:{}", password.trim()));
    let basic = format!("Basic {basic}");
    for (at, path) in [(client(&flotilla), of("app", "docker.io")), (mirror(&flotilla), manifest_path("app", "latest"))]
    {
        let refused = at.get(&path);
        assert_eq!((refused.status, refused.error_code().as_str()), (401, "UNAUTHORIZED"));
        assert_eq!(at.head(&path).status, 401);
        assert_eq!(site.hub().requests().len(), 0, "nobody is asked for a stranger");
    }
    for (at, path) in [(client(&flotilla), of("app", "docker.io")), (mirror(&flotilla), manifest_path("app", "latest"))]
    {
        assert_eq!(at.with("Authorization", &basic).get(&path).status, 200);
    }
}

#[test]
fn what_a_rule_keeps_away_is_never_asked_for() {
    let (public, secret) = (Image::oci(707, &[1000]), Image::oci(708, &[1000]));
    let hub = Upstream::start();
    hub.put("library/app", "latest", &public);
    hub.put("secret/app", "latest", &secret);
    let flotilla = before(&hub).start();
    flotilla.run(&["rule", "set", "docker-hub", "--deny", "secret/*"]);
    let anonymous = client(&flotilla);
    let password = flotilla.run(&["login-password"]);
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("AWS:{}", password.trim()));
    let root = anonymous.clone().with("Authorization", &format!("Basic {basic}"));
    let (by_digest, layer) = (secret.digest(), &secret.layers()[0]);
    for client in [&anonymous, &root] {
        for path in [
            manifest_path("docker-hub/secret/app", "latest"),
            manifest_path("docker-hub/secret/app", by_digest),
            blob_path("docker-hub/secret/app", layer),
            format!("/v2/docker-hub/secret/app/referrers/{by_digest}"),
            of("secret/app", "docker.io"),
        ] {
            let refused = client.get(&path);
            assert_eq!((refused.status, refused.error_code().as_str()), (403, "DENIED"), "{path}: {}", refused.text());
            assert_eq!(client.head(&path).status, 403, "{path}");
        }
    }
    let refused = root.get(&manifest_path("docker-hub/secret/app", "latest")).json();
    assert_eq!(refused["errors"][0]["detail"]["reason"], "rule-filter");
    let images = json!({"repositoryName": "docker-hub/secret/app", "imageIds": [{"imageTag": "latest"}]});
    let failure = Aws::root(&flotilla).ecr("BatchGetImage", &images);
    assert_eq!(failure["failures"][0]["failureCode"], "UpstreamAccessDenied", "{failure}");
    assert!(!flotilla.command(&["rule", "refresh", "docker-hub/secret/app:latest"]).output().unwrap().status.success());
    assert!(flotilla.run(&["rule", "check", "docker-hub/secret/app"]).contains("filtered"));
    assert!(hub.requests().is_empty(), "{:?}", hub.requests());
    assert_eq!(repositories(&flotilla), Vec::<String>::new());
    pull(&anonymous, APP, "latest", &public);
}

#[test]
fn what_is_held_is_served_when_a_filter_comes() {
    let image = Image::oci(709, &[1000]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).arg("--tag-ttl-seconds").arg("0").start();
    let client = client(&flotilla);
    pull(&client, APP, "latest", &image);
    cluster_tests::wait_for("the blobs to be linked", crate::common::SOON, || {
        hub.forget_requests();
        pull(&client, APP, "latest", &image);
        hub.requests().iter().all(|request| !request.path.contains("/blobs/"))
    });
    flotilla.run(&["rule", "set", "docker-hub", "--allow", "other/*"]);
    hub.forget_requests();
    pull(&client, APP, "latest", &image);
    pull(&client, APP, image.digest(), &image);
    assert_eq!(client.get(&manifest_path(APP, "v2")).status, 403);
    assert!(hub.requests().is_empty(), "{:?}", hub.requests());
    flotilla.run(&["rule", "set", "docker-hub", "--no-allow"]);
    pull(&client, APP, "latest", &image);
    assert!(!hub.requests().is_empty(), "it is validated again");
}

#[test]
fn options_of_a_rule_are_kept_shown_and_checked() {
    let (_hub, mut flotilla) = with_image(&Image::oci(710, &[1]));
    flotilla.run(&["rule", "add", "team", "quay.io", "--upstream-prefix", "org/team", "--mirror", "--deny", "a/*,b"]);
    flotilla.run(&["rule", "set", "team", "--allow", "org/team/*", "--revalidate-after", "60"]);
    let listed = flotilla.run(&["rule", "list"]);
    let line = |text: &str| listed.lines().find(|line| line.starts_with(text)).unwrap_or_default().to_owned();
    assert!(line("team").contains("mirror,filter") && line("docker-hub").contains("mirror"), "{listed}");
    assert!(flotilla.terminate().success());
    flotilla.start_again();
    let shown: Value = serde_json::from_str(&flotilla.run(&["rule", "show", "team", "--json"])).unwrap();
    assert_eq!(
        shown["options"],
        json!({
            "ecrRepositoryPrefix": "team", "upstreamHost": "quay.io", "upstreamPrefix": "org/team", "mirror": true,
            "anonymousAllowed": false, "allow": ["org/team/*"], "deny": ["a/*", "b"], "revalidateAfterSeconds": 60,
        })
    );
    assert!(flotilla.run(&["rule", "check", "org/team/x", "--ns", "quay.io"]).contains("quay.io/org/team/x"));
    let many: Vec<String> = (0..101).map(|i| format!("a{i}/*")).collect();
    for bad in ["", "A/*", &"a".repeat(257), &many.join(",")] {
        let refused = flotilla.command(&["rule", "set", "team", "--deny", bad]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{bad}");
    }
    flotilla.run(&["rule", "set", "team", "--no-allow", "--no-deny", "--mirror=false"]);
    assert!(flotilla.run(&["rule", "show", "team"]).contains("everything"));
}

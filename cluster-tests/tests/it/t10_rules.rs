//! From a name to an upstream: longest prefix, `ROOT`, upstream prefixes, and the tag's freshness.

use std::time::Duration;

use cluster_tests::{
    Image, Upstream,
    aws::Aws,
    upstream::{Fault, On, Times},
    wait_for,
};
use serde_json::json;

use crate::common::{APP, DOCKER_HUB, SOON, before, client, create_rule, manifest_path, pull, status_of};

#[test]
fn a_new_rule_serves_at_once() {
    let hub = Upstream::start();
    let image = Image::oci(60, &[1000]);
    hub.put("library/nginx", "latest", &image);
    let mut flotilla = before(&hub).arg("--no-default-rules").start();
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    assert_eq!(status_of(&client, "/v2/my-docker-hub/library/nginx/manifests/latest"), (404, "NAME_UNKNOWN".into()));
    create_rule(&aws, "my-docker-hub", DOCKER_HUB);
    pull(&client, "my-docker-hub/library/nginx", "latest", &image);
    // A blob is linked soon after its last byte has left; a server that has stopped in order has linked all.
    assert!(flotilla.terminate().success());
    flotilla.start_again();
    aws.ecr("DeletePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "my-docker-hub"}));
    pull(&client, "my-docker-hub/library/nginx", "latest", &image);
    assert_eq!(client.get("/v2/my-docker-hub/library/other/manifests/latest").status, 404, "no rule, no miss");
}

#[test]
fn the_longest_prefix_wins() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let (of_hub, of_quay) = (Image::oci(61, &[1000]), Image::oci(62, &[1000]));
    hub.put("library/app", "v", &of_hub);
    quay.put("org/app", "v", &of_quay);
    let flotilla = before(&hub).upstream("quay.io", &quay).arg("--no-default-rules").start();
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    create_rule(&aws, "mirror", DOCKER_HUB);
    create_rule(&aws, "mirror/quay", "quay.io");
    pull(&client, "mirror/library/app", "v", &of_hub);
    pull(&client, "mirror/quay/org/app", "v", &of_quay);
    // A prefix ends where a part of the name ends.
    assert_eq!(client.get("/v2/mirrors/library/app/manifests/v").status, 404);
    assert_eq!(client.get("/v2/mirror/quay2/app/manifests/v").status, 404);
}

#[test]
fn root_and_upstream_prefix_name_the_rest() {
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let (of_hub, of_quay) = (Image::oci(63, &[1000]), Image::oci(64, &[1000]));
    hub.put("library/app", "v", &of_hub);
    quay.put("org/team/app", "v", &of_quay);
    let flotilla = before(&hub).upstream("quay.io", &quay).arg("--no-default-rules").start();
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    create_rule(&aws, "ROOT", DOCKER_HUB);
    let rule = json!({"ecrRepositoryPrefix": "tools", "upstreamRegistryUrl": "quay.io", "upstreamRepositoryPrefix": "org/team"});
    aws.ecr("CreatePullThroughCacheRule", &rule);
    pull(&client, "library/app", "v", &of_hub);
    pull(&client, "tools/app", "v", &of_quay);
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    let rules = rules["pullThroughCacheRules"].as_array().unwrap();
    let echoed = |prefix: &str| rules.iter().find(|rule| rule["ecrRepositoryPrefix"] == prefix).unwrap().clone();
    assert_eq!(echoed("tools")["upstreamRepositoryPrefix"], "org/team");
    assert_eq!(echoed("ROOT").get("upstreamRepositoryPrefix"), None, "only what was sent is returned");
    assert_eq!(echoed("ROOT")["upstreamRegistryUrl"], DOCKER_HUB);
}

#[test]
fn an_unchanged_tag_is_asked_for_with_head_and_a_moved_one_is_fetched() {
    let hub = Upstream::start();
    let (old, new) = (Image::oci(65, &[1000]), Image::oci(66, &[1000]));
    hub.put("library/app", "latest", &old);
    let flotilla = before(&hub).arg("--tag-ttl-seconds").arg("0").start();
    let client = client(&flotilla);
    pull(&client, APP, "latest", &old);
    hub.forget_requests();
    pull(&client, APP, "latest", &old);
    assert_eq!(hub.count("HEAD", "/manifests/latest"), 1);
    assert_eq!(hub.requests().len(), 1, "an unchanged tag costs one HEAD: {:?}", hub.requests());
    hub.put("library/app", "latest", &new);
    wait_for("the tag to move", SOON, || client.get(&manifest_path(APP, "latest")).body == new.manifest.bytes());
    pull(&client, APP, "latest", &new);
    pull(&client, APP, old.digest(), &old);
}

#[test]
fn a_fresh_tag_is_not_asked_for() {
    let hub = Upstream::start();
    let (old, new) = (Image::oci(67, &[1000]), Image::oci(68, &[1000]));
    hub.put("library/app", "latest", &old);
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    pull(&client, APP, "latest", &old);
    hub.put("library/app", "latest", &new);
    hub.forget_requests();
    pull(&client, APP, "latest", &old);
    assert_eq!(hub.requests().len(), 0);
    // Unless somebody wants to know now.
    flotilla.run(&["rule", "refresh", "docker-hub/library/app:latest"]);
    wait_for("the forced refresh", SOON, || client.get(&manifest_path(APP, "latest")).body == new.manifest.bytes());
}

#[test]
fn an_upstream_without_head_is_asked_with_get() {
    let hub = Upstream::start();
    let (old, new) = (Image::oci(69, &[1000]), Image::oci(70, &[1000]));
    hub.put("library/app", "latest", &old);
    hub.fault(On::any().by("HEAD"), Times::Always, Fault::NoHead);
    let flotilla = before(&hub).arg("--tag-ttl-seconds").arg("0").start();
    let client = client(&flotilla);
    pull(&client, APP, "latest", &old);
    hub.put("library/app", "latest", &new);
    wait_for("the tag to move", SOON, || client.get(&manifest_path(APP, "latest")).body == new.manifest.bytes());
}

#[test]
fn what_is_unknown_is_remembered_for_seconds_only() {
    let hub = Upstream::start();
    let image = Image::oci(71, &[1000]);
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    for _ in 0..20 {
        assert_eq!(client.get(&manifest_path(APP, "latest")).status, 404);
    }
    let asked = hub.requests().iter().filter(|request| request.path.contains("/manifests/")).count();
    assert!(asked <= 4, "twenty misses in a row asked upstream {asked} times");
    hub.put("library/app", "latest", &image);
    wait_for("the refusal to be forgotten", Duration::from_secs(15), || {
        client.get(&manifest_path(APP, "latest")).status == 200
    });
    let names = Aws::root(&flotilla).ecr("DescribeRepositories", &json!({}));
    assert_eq!(names["repositories"].as_array().unwrap().len(), 1, "a miss makes no repository");
}

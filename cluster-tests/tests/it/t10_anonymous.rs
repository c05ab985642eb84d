//! Callers without credentials: where they may come from, what they may pull, and what they may cause.

use cluster_tests::aws::Aws;
use serde_json::json;

use crate::{
    common::{APP, DOCKER_HUB, client, create_rule, manifest_path},
    t20_serve::Site,
};

#[test]
fn from_a_network_that_is_not_listed_it_is_as_if_nobody_were_anonymous() {
    let site = Site::new("[access.anonymous]\npull = true\nnetworks = [\"192.0.2.0/24\", \"2001:db8::/32\"]");
    let flotilla = site.builder().arg("--init").start();
    create_rule(&Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
    let nobody = client(&flotilla);
    for path in ["/v2/".to_owned(), manifest_path(APP, "latest"), "/v2/_catalog".to_owned()] {
        let refused = nobody.get(&path);
        assert_eq!((refused.status, refused.error_code().as_str()), (401, "UNAUTHORIZED"), "{path}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic realm="), "{path}");
    }
    assert_eq!(nobody.get("/v2/token").status, 401);
}

#[test]
fn a_trusted_proxy_says_where_they_come_from_and_nobody_else_does() {
    let more = "trusted_proxies = [\"127.0.0.1/32\"]\nallow_plaintext = true\n[access.anonymous]\npull = true\nnetworks = [\"192.0.2.0/24\"]";
    let site = Site::new(more);
    let flotilla = site.builder().arg("--init").start();
    create_rule(&Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
    let from = |address: &str| client(&flotilla).with("X-Forwarded-For", address);
    assert_eq!(from("192.0.2.7").get(&manifest_path(APP, "latest")).status, 200);
    for elsewhere in ["198.51.100.1", "192.0.2.7, 198.51.100.1", "127.0.0.1"] {
        assert_eq!(from(elsewhere).get(&manifest_path(APP, "latest")).status, 401, "{elsewhere}");
    }
    drop(flotilla);
    let site = Site::new("[access.anonymous]\npull = true\nnetworks = [\"192.0.2.0/24\"]");
    let flotilla = site.builder().arg("--init").start();
    let forged = client(&flotilla).with("X-Forwarded-For", "192.0.2.7").get(&manifest_path(APP, "latest"));
    assert_eq!(forged.status, 401, "a header of the client's own");
}

#[test]
fn they_keep_to_the_rules_that_are_theirs() {
    let site = Site::new("[access.anonymous]\npull = true\nrules = [\"docker-hub\"]");
    let flotilla = site.builder().arg("--init").start();
    let aws = Aws::root(&flotilla);
    for prefix in ["docker-hub", "inner", "docker-hub/library/closed"] {
        create_rule(&aws, prefix, DOCKER_HUB);
    }
    aws.ecr("CreateRepository", &json!({"repositoryName": "own/app"}));
    let nobody = client(&flotilla);
    assert_eq!(nobody.get(&manifest_path(APP, "latest")).status, 200);
    for closed in ["inner/library/app", "own/app", "docker-hub/library/closed/app"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(nobody.request(method, &manifest_path(closed, "latest"), &[], b"").status, 401, "{closed}");
        }
    }
    assert_eq!(nobody.get("/v2/_catalog").json(), json!({"repositories": [APP]}));
}

#[test]
fn where_they_make_no_repositories_they_pull_what_others_have_pulled() {
    let site = Site::new("[access.anonymous]\npull = true\ncreate_repositories = false");
    let flotilla = site.builder().arg("--init").start();
    let aws = Aws::root(&flotilla);
    create_rule(&aws, "docker-hub", DOCKER_HUB);
    let nobody = client(&flotilla);
    assert_eq!(nobody.get(&manifest_path(APP, "latest")).status, 401);
    assert_eq!(aws.ecr("DescribeRepositories", &json!({}))["repositories"], json!([]));
    aws.ecr("BatchGetImage", &json!({"repositoryName": APP, "imageIds": [{"imageTag": "latest"}]}));
    assert_eq!(nobody.get(&manifest_path(APP, "latest")).status, 200);
}

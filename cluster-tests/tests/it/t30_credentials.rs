//! Upstreams that want to know who asks: passwords, tokens, passwords of Amazon ECR; and secrets that change, are refused
//! or vanish while content is held.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Flotilla, Image, Upstream,
    aws::Aws,
    clients::{Registry, required},
    process::Builder,
    upstream::Auth,
    wait_for,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{APP, DOCKER_HUB, SOON, before, client, manifest_path, pull},
    t10_secrets::nowhere,
};

const NAME: &str = "ecr-pullthroughcache/hub";
const USER: &str = "robot";

/// Rules with a credential are for callers with a name.
pub(crate) fn signed_in(flotilla: &Flotilla) -> Client {
    let aws = Aws::root(flotilla);
    let basic = BASE64_STANDARD.encode(format!("{}:{}", aws.access_key_id, aws.secret));
    client(flotilla).with("Authorization", &format!("Basic {basic}"))
}

fn value(password: &str) -> String {
    json!({"username": USER, "accessToken": password}).to_string()
}

fn put(aws: &Aws, password: &str) {
    aws.secrets("PutSecretValue", &json!({"SecretId": NAME, "SecretString": value(password)}));
}

/// The secret, and the rule `docker-hub` that uses it.
fn private(flotilla: &Flotilla, host: &str, value: &str) -> Aws {
    let aws = Aws::root(flotilla);
    let secret = aws.secrets("CreateSecret", &json!({"Name": NAME, "SecretString": value}));
    let rule = json!({
        "ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": host, "credentialArn": secret["ARN"],
    });
    aws.ecr("CreatePullThroughCacheRule", &rule);
    aws
}

fn login(password: &str) -> (String, String) {
    (USER.to_owned(), password.to_owned())
}

fn bearer(password: &str) -> Auth {
    Auth::Bearer { login: Some(login(password)), expires_in_seconds: 300, expired_status: 401 }
}

fn verdict(aws: &Aws) -> (bool, String) {
    let verdict = aws.ecr("ValidatePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "docker-hub"}));
    (verdict["isValid"].as_bool().unwrap(), verdict["failure"].as_str().unwrap_or_default().to_owned())
}

fn credential_failure(aws: &Aws, host: &str) -> Option<String> {
    let status = aws.try_call("flotilla", "Flotilla_20261101.GetStatus", &json!({})).unwrap();
    let upstreams = status["upstreams"].as_array().unwrap();
    let upstream = upstreams.iter().find(|upstream| upstream["host"] == host).unwrap();
    upstream["credentialFailure"].as_str().map(str::to_owned)
}

fn start(auth: Auth, image: &Image) -> (Upstream, Flotilla) {
    let hub = Upstream::with_auth(auth);
    hub.put("library/app", "latest", image);
    let flotilla = before(&hub).arg("--no-default-rules").start();
    (hub, flotilla)
}

#[test]
fn passwords_and_tokens_open_an_upstream_and_are_found_nowhere() {
    const PASSWORD: &str = "kL9-quite-a-long-password-27";
    for auth in [Auth::Basic { user: USER.into(), password: PASSWORD.into() }, bearer(PASSWORD)] {
        let image = Image::index(vec![Image::oci(300, &[100_000, 10]), Image::oci_for("arm64", 301, &[1000])]);
        let (_hub, mut flotilla) = start(auth, &image);
        let aws = private(&flotilla, DOCKER_HUB, &value(PASSWORD));
        pull(&signed_in(&flotilla), APP, "latest", &image);
        assert_eq!(verdict(&aws), (true, String::new()));
        assert_eq!(credential_failure(&aws, DOCKER_HUB), None);
        let missing = signed_in(&flotilla).get(&manifest_path("docker-hub/library/absent", "latest"));
        assert_eq!(missing.status, 404);
        nowhere(&flotilla, PASSWORD);
        assert!(flotilla.terminate().success());
        flotilla.start_again();
        pull(&signed_in(&flotilla), APP, "latest", &image);
        nowhere(&flotilla, PASSWORD);
    }
}

#[test]
fn the_search_for_a_secret_finds_one() {
    let (_hub, flotilla) = start(Auth::None, &Image::oci(302, &[10]));
    fs::write(flotilla.folder().join("leak"), BASE64_STANDARD.encode("user:a-secret-that-leaked")).unwrap();
    let searched = std::panic::catch_unwind(|| nowhere(&flotilla, "a-secret-that-leaked"));
    assert!(searched.is_err());
}

#[test]
fn a_wrong_password_is_named_as_the_login() {
    for auth in [Auth::Basic { user: USER.into(), password: "right".into() }, bearer("right")] {
        let image = Image::oci(303, &[1000]);
        let (_hub, flotilla) = start(auth, &image);
        let aws = private(&flotilla, DOCKER_HUB, &value("wrong"));
        let (valid, failure) = verdict(&aws);
        assert!(!valid && failure.starts_with("login: "), "{failure}");
        let refused = signed_in(&flotilla).get(&manifest_path(APP, "latest"));
        assert!(refused.status >= 400, "{}", refused.status);
        assert!(credential_failure(&aws, DOCKER_HUB).is_some_and(|failure| failure.contains("refuses")));
        put(&aws, "right");
        assert_eq!(verdict(&aws), (true, String::new()));
        pull(&signed_in(&flotilla), APP, "latest", &image);
        assert_eq!(credential_failure(&aws, DOCKER_HUB), None);
    }
}

#[test]
fn validation_names_the_step_that_fails() {
    let image = Image::oci(304, &[10]);
    let (mut hub, flotilla) = start(bearer("right"), &image);
    let aws = private(&flotilla, DOCKER_HUB, &value("right"));
    hub.off();
    let (valid, failure) = verdict(&aws);
    assert!(!valid && failure.starts_with("connect: "), "{failure}");
    let flotilla = Builder::new(crate::FLOTILLA)
        .upstream_url("quay.io", "http://does-not-exist.invalid:1")
        .upstream_url("ghcr.io", "http://127.0.0.1:9")
        .arg("--no-default-rules")
        .start();
    let aws = Aws::root(&flotilla);
    let rule = json!({"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "quay.io"});
    aws.ecr("CreatePullThroughCacheRule", &rule);
    let (valid, failure) = verdict(&aws);
    assert!(!valid && failure.starts_with("resolve: "), "{failure}");
}

#[test]
fn a_new_value_is_used_from_its_answer_on_and_no_pull_fails_meanwhile() {
    const IMAGES: u64 = 40;
    let hub = Upstream::with_auth(Auth::Logins(vec![login("old"), login("new")]));
    let images: Vec<_> = (0..IMAGES).map(|seed| Image::oci(3100 + seed, &[200_000])).collect();
    for (number, image) in images.iter().enumerate() {
        hub.put(&format!("library/app{number}"), "latest", image);
    }
    let flotilla = before(&hub).arg("--no-default-rules").start();
    let aws = private(&flotilla, DOCKER_HUB, &value("old"));
    let (next, rotated) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = signed_in(&flotilla);
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst) as usize;
                    let Some(image) = images.get(number) else { return };
                    // The second half begins when the rotation is over, so that there is something to pull then.
                    if number as u64 >= IMAGES / 2 {
                        wait_for("the rotation", SOON, || rotated.load(Ordering::SeqCst));
                    }
                    pull(&client, &format!("docker-hub/library/app{number}"), "latest", image);
                }
            });
        }
        wait_for("some pulls", SOON, || next.load(Ordering::SeqCst) > 4);
        put(&aws, "new");
        // What was asked with the old value before the answer may still be under way.
        wait_for("the first half", SOON, || {
            (0..IMAGES / 2).all(|number| hub.count("GET", &format!("library/app{number}/manifests/latest")) > 0)
        });
        hub.forget_requests();
        rotated.store(true, Ordering::SeqCst);
    });
    hub.set_auth(Auth::Logins(vec![login("new")]));
    let last = Image::oci(3199, &[1000]);
    hub.put("library/last", "latest", &last);
    pull(&signed_in(&flotilla), "docker-hub/library/last", "latest", &last);
    assert_eq!(credential_failure(&aws, DOCKER_HUB), None);
}

#[test]
fn a_revoked_secret_leaves_what_is_held_and_status_says_so() {
    for auth in [Auth::Basic { user: USER.into(), password: "old".into() }, bearer("old")] {
        let image = Image::oci(320, &[50_000]);
        let is_basic = matches!(auth, Auth::Basic { .. });
        let (hub, flotilla) = start(auth, &image);
        let aws = private(&flotilla, DOCKER_HUB, &value("old"));
        let client = signed_in(&flotilla);
        pull(&client, APP, "latest", &image);
        hub.set_auth(if is_basic { Auth::Basic { user: USER.into(), password: "new".into() } } else { bearer("new") });
        let refresh = json!({"repositoryName": APP});
        let refreshed = aws.try_call("flotilla", "Flotilla_20261101.RefreshImage", &refresh).unwrap();
        assert_eq!(refreshed["refreshed"][0]["outcome"], "UPSTREAM_FAILED", "{refreshed}");
        pull(&client, APP, "latest", &image);
        assert!(credential_failure(&aws, DOCKER_HUB).is_some_and(|failure| failure.contains("refuses")));
        // A secret that goes is a failure of the rule, not of what it has brought.
        aws.secrets("DeleteSecret", &json!({"SecretId": NAME, "ForceDeleteWithoutRecovery": true}));
        assert!(credential_failure(&aws, DOCKER_HUB).is_some_and(|failure| failure.contains("does not exist")));
        pull(&client, APP, "latest", &image);
        assert!(client.get(&manifest_path("docker-hub/library/new", "latest")).status >= 400);
        // Another secret of the same name belongs to no upstream yet.
        let made = aws.secrets("CreateSecret", &json!({"Name": NAME, "SecretString": value("new")}));
        let update = json!({"ecrRepositoryPrefix": "docker-hub", "credentialArn": made["ARN"]});
        aws.ecr("UpdatePullThroughCacheRule", &update);
        assert_eq!(verdict(&aws), (true, String::new()));
    }
}

#[test]
fn a_secret_reaches_its_own_host_and_no_other() {
    let image = Image::oci(330, &[1000]);
    let hub = Upstream::with_auth(Auth::Basic { user: USER.into(), password: "right".into() });
    hub.put("library/app", "latest", &image);
    let thief = Upstream::with_auth(bearer("right"));
    thief.put("library/app", "latest", &image);
    let flotilla = before(&hub).upstream("quay.io", &thief).arg("--no-default-rules").start();
    let aws = private(&flotilla, DOCKER_HUB, &value("right"));
    let rule = json!({"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io"});
    aws.ecr("CreatePullThroughCacheRule", &rule);
    let arn = aws.secrets("DescribeSecret", &json!({"SecretId": NAME}))["ARN"].clone();
    let update = json!({"ecrRepositoryPrefix": "quay", "credentialArn": arn});
    assert_eq!(aws.ecr_refusal("UpdatePullThroughCacheRule", &update), "UnableToAccessSecretException");
    // A redirect to another host, and the other rule's upstream, see no credential.
    hub.redirect_blobs_to(&thief);
    pull(&signed_in(&flotilla), APP, "latest", &image);
    let _ = signed_in(&flotilla).get(&manifest_path("quay/library/app", "latest"));
    assert!(thief.requests().iter().any(|request| request.path.starts_with("/cdn/")), "the redirect was followed");
    for request in thief.requests() {
        assert_eq!(request.header("authorization"), None, "{} {}", request.method, request.path);
    }
}

/// Flotilla behind Flotilla: the inner one answers `GetAuthorizationToken` as Amazon ECR does.
#[test]
fn aws_keys_sign_for_the_password_of_an_ecr_registry() {
    const ECR: &str = "000000000000.dkr.ecr.eu-west-1.amazonaws.com";
    let image = Image::oci(340, &[100_000]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    // Basic, as ECR asks, and then tokens for those who may be nobody.
    for anonymous in [false, true] {
        let folder = TempDir::new().unwrap();
        let configured = |name: &str, more: String| {
            let (file, data) = (folder.path().join(format!("{name}.toml")), folder.path().join(name));
            let text = format!(
                "[node]\ndata_dir = \"{}\"\n[http]\nlisten = [\"127.0.0.1:0\"]\ndrain_delay_seconds = 0\n{more}",
                data.display()
            );
            fs::write(&file, text).unwrap();
            Builder::new(crate::FLOTILLA).data(&data).serve(&file).arg("--init").start()
        };
        let inner = configured(
            "inner",
            format!(
                "[upstream.hosts.\"{DOCKER_HUB}\"]\nbase_url = \"{}\"\n[access.anonymous]\npull = {anonymous}\n",
                hub.url()
            ),
        );
        let keys = Aws::root(&inner);
        let rule = json!({"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": DOCKER_HUB});
        keys.ecr("CreatePullThroughCacheRule", &rule);
        let url = inner.endpoint();
        let outer = configured(
            "outer",
            format!("[upstream.hosts.\"{ECR}\"]\nbase_url = \"{url}\"\necr_endpoint = \"{url}\"\n"),
        );
        let aws = Aws::root(&outer);
        let rule = json!({"ecrRepositoryPrefix": "ecr", "upstreamRegistryUrl": ECR});
        aws.ecr("CreatePullThroughCacheRule", &rule);
        let verdict = |aws: &Aws| aws.ecr("ValidatePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "ecr"}));
        let failure = verdict(&aws)["failure"].as_str().unwrap().to_owned();
        assert!(failure.starts_with("secret: ") && failure.contains("AWS keys"), "{failure}");
        let value = |secret: &str| json!({"accessKeyId": keys.access_key_id, "secretAccessKey": secret}).to_string();
        let secret = aws.secrets("CreateSecret", &json!({"Name": NAME, "SecretString": value("wrong")}));
        let update = json!({"ecrRepositoryPrefix": "ecr", "credentialArn": secret["ARN"]});
        aws.ecr("UpdatePullThroughCacheRule", &update);
        let wrong: Value = verdict(&aws);
        assert!(wrong["failure"].as_str().unwrap().starts_with("login: "), "{wrong}");
        aws.secrets("PutSecretValue", &json!({"SecretId": NAME, "SecretString": value(&keys.secret)}));
        assert_eq!(verdict(&aws)["isValid"], true, "{}", verdict(&aws));
        pull(&signed_in(&outer), "ecr/docker-hub/library/app", "latest", &image);
        nowhere(&outer, &keys.secret);
    }
}

#[test]
fn a_real_registry_with_htpasswd_is_a_private_upstream() {
    let Some(tool) = required(Registry::find(), "docker-registry") else { return };
    let registry = Registry::private(&tool);
    let image = Image::oci(350, &[100_000]);
    registry.push("library/app", "latest", &image);
    let flotilla =
        Builder::new(crate::FLOTILLA).upstream_url(DOCKER_HUB, &registry.url()).arg("--no-default-rules").start();
    let aws = private(&flotilla, DOCKER_HUB, &value("wrong"));
    assert!(verdict(&aws).1.starts_with("login: "));
    assert_eq!(Registry::USER, USER);
    put(&aws, Registry::PASSWORD);
    assert_eq!(verdict(&aws), (true, String::new()));
    pull(&signed_in(&flotilla), APP, "latest", &image);
}

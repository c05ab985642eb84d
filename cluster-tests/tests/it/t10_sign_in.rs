//! Sign-in as `docker login`, docker and podman use it: anonymous pull is on (`dev`), and still a wrong password is wrong.

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{Client, Flotilla, Image, aws::Aws};
use serde_json::json;

use crate::common::{APP, client, manifest_path, pull, with_image};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// The password of `docker login`, as `aws ecr get-login-password` prints it.
fn password(flotilla: &Flotilla) -> String {
    let token = Aws::root(flotilla).ecr("GetAuthorizationToken", &json!({}));
    let data = &token["authorizationData"][0];
    assert!(data["expiresAt"].is_number() && data["proxyEndpoint"] == flotilla.endpoint(), "{data}");
    let token = BASE64_STANDARD.decode(data["authorizationToken"].as_str().unwrap()).unwrap();
    String::from_utf8(token).unwrap().strip_prefix("AWS:").unwrap().to_owned()
}

fn with(flotilla: &Flotilla, authorization: &str) -> Client {
    client(flotilla).with("Authorization", authorization)
}

#[test]
fn anonymous_pulls_and_a_challenge_that_leads_to_a_token() {
    let image = Image::oci(80, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    let ping = client(&flotilla).get("/v2/");
    assert_eq!((ping.status, ping.error_code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(ping.header("docker-distribution-api-version"), Some("registry/2.0"));
    let challenge = ping.header("www-authenticate").unwrap();
    assert!(challenge.starts_with(&format!("Bearer realm=\"{}/v2/token\"", flotilla.endpoint())), "{challenge}");
    let scope = format!("/v2/token?service=flotilla&scope=repository:{APP}:pull");
    let token = client(&flotilla).get(&scope).json();
    assert!(token["expires_in"].as_u64().is_some_and(|seconds| seconds >= 60), "{token}");
    let bearer = with(&flotilla, &format!("Bearer {}", token["token"].as_str().unwrap()));
    assert_eq!(bearer.get("/v2/").status, 200);
    pull(&bearer, APP, "latest", &image);
}

#[test]
fn the_right_password_signs_in_by_basic_and_by_token() {
    let image = Image::oci(81, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    let basic = basic("AWS", &password(&flotilla));
    let client = with(&flotilla, &basic);
    assert_eq!(client.get("/v2/").status, 200);
    pull(&client, APP, "latest", &image);
    let token = client.get(&format!("/v2/token?service=flotilla&scope=repository:{APP}:pull,push")).json();
    let bearer = with(&flotilla, &format!("Bearer {}", token["token"].as_str().unwrap()));
    pull(&bearer, APP, "latest", &image);
}

#[test]
fn a_token_is_good_for_its_scope_and_leads_to_the_right_one() {
    let image = Image::oci(85, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    for first in ["", "&scope=repository:docker-hub/library/other:pull"] {
        let token = client(&flotilla).get(&format!("/v2/token?service=flotilla{first}")).json();
        let bearer = with(&flotilla, &format!("Bearer {}", token["token"].as_str().unwrap()));
        assert_eq!(bearer.get("/v2/").status, 200);
        let refused = bearer.get(&manifest_path(APP, "latest"));
        assert_eq!((refused.status, refused.error_code().as_str()), (401, "UNAUTHORIZED"));
        let challenge = refused.header("www-authenticate").unwrap();
        let scope = format!("scope=\"repository:{APP}:pull\",error=\"insufficient_scope\"");
        assert!(challenge.starts_with("Bearer realm=") && challenge.ends_with(&scope), "{challenge}");
    }
}

#[test]
fn a_wrong_password_is_refused_everywhere_though_anonymous_may_pull() {
    let image = Image::oci(82, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let right = password(&flotilla);
    let mut tampered = right.clone().into_bytes();
    let middle = tampered.len() / 2;
    tampered[middle] = if tampered[middle] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    let wrong = [
        basic("AWS", "wrong"),
        basic("AWS", ""),
        basic("AWS", &tampered),
        basic("somebody", &right),
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        basic("no colon", "")[..12].to_owned(),
        "Bearer".to_owned(),
        "Bearer nonsense".to_owned(),
        // A token of one kind is none of another.
        format!("Bearer {right}"),
        "Digest username=\"AWS\"".to_owned(),
    ];
    for authorization in &wrong {
        let client = with(&flotilla, authorization);
        for path in ["/v2/".to_owned(), manifest_path(APP, "latest"), "/v2/token?service=flotilla".to_owned()] {
            let answer = client.get(&path);
            assert_eq!((answer.status, answer.error_code().as_str()), (401, "UNAUTHORIZED"), "{authorization} {path}");
        }
    }
    assert_eq!(hub.requests().len(), 0, "nobody was asked for them");
    let log = flotilla.log().join("\n");
    assert!(!log.contains(&right) && !log.contains(&tampered), "a token is in the log");
}

#[test]
fn a_host_that_is_not_ours_is_refused_on_loopback() {
    let (_hub, flotilla) = with_image(&Image::oci(83, &[1000]));
    let rebound = client(&flotilla).with("Host", "attacker.example");
    let answer = rebound.get("/v2/");
    assert!(
        answer.status >= 400 && !answer.header("www-authenticate").unwrap_or("").contains("attacker"),
        "{answer:?}"
    );
    assert!(rebound.get(&manifest_path(APP, "latest")).status >= 400);
    let port = flotilla.client().address().port();
    assert_eq!(
        client(&flotilla).with("Host", &format!("localhost:{port}")).get(&manifest_path(APP, "latest")).status,
        200
    );
}

#[test]
fn keys_of_the_root_principal_are_its_own_business() {
    use std::os::unix::fs::PermissionsExt;
    let (_hub, flotilla) = with_image(&Image::oci(84, &[1000]));
    let mode = std::fs::metadata(flotilla.credentials()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = Aws::root(&flotilla).secret;
    assert!(secret.len() >= 32);
    assert!(!flotilla.log().join("\n").contains(&secret), "the secret is in the log");
}

//! Sign-in and content discovery.

use flotilla_aws::ecr::{GetAuthorizationToken, GetAuthorizationTokenInput};

use super::world::{KEY_ID, SECRET, World, basic};
use crate::http::test_client::send;

async fn token(world: &World, lines: &[&str]) -> String {
    let reply = world.get("/v2/token?service=x&scope=repository:quay/a/b:pull%20registry:catalog:*", lines).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply["token"], reply["access_token"]);
    assert_eq!(reply["expires_in"], 600);
    format!("Authorization: Bearer {}", reply["token"].as_str().unwrap())
}

async fn login(world: &World) -> (String, String) {
    let data = world.call::<GetAuthorizationToken>(&GetAuthorizationTokenInput::default()).await.unwrap();
    let data = &data.authorization_data[0];
    assert_eq!(data.proxy_endpoint, format!("http://{}", world.to));
    let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &data.authorization_token).unwrap();
    let text = String::from_utf8(decoded).unwrap();
    let parts: Vec<&str> = text.split(':').collect();
    let [user, password] = parts.as_slice() else { panic!("exactly two parts: {text}") };
    (user.to_string(), password.to_string())
}

#[tokio::test]
async fn with_anonymous_pull_clients_are_sent_for_a_token() {
    let world = World::new(true).await;
    let ping = world.get("/v2/", &[]).await;
    assert_eq!(ping.status, 401);
    let origin = format!("http://{}", world.to);
    let challenge = format!("Bearer realm=\"{origin}/v2/token\",service=\"{}\"", world.to);
    assert_eq!(ping.header("www-authenticate"), challenge);
    assert!(ping.text().contains("UNAUTHORIZED"));

    let anonymous = token(&world, &[]).await;
    assert_eq!(world.get("/v2/", &[&anonymous]).await.status, 200);
    world.upstream.put_image("a/b", "v1", b"layer");
    for lines in [&[][..], &[anonymous.as_str()]] {
        assert_eq!(world.get("/v2/quay/a/b/manifests/v1", lines).await.status, 200);
    }
    assert_eq!(world.get("/v2/_catalog", &[&anonymous]).await.text(), r#"{"repositories":["quay/a/b"]}"#);
}

#[tokio::test]
async fn a_login_is_exchanged_for_a_token_and_a_wrong_one_is_refused_in_both_modes() {
    for anonymous in [true, false] {
        let world = World::new(anonymous).await;
        let (user, password) = login(&world).await;
        for good in [basic(&user, &password), basic(KEY_ID, SECRET)] {
            let bearer = token(&world, &[&good]).await;
            for credential in [&good, &bearer] {
                assert_eq!(world.get("/v2/", &[credential]).await.status, 200);
                assert_eq!(world.get("/v2/_catalog", &[credential]).await.status, 200);
            }
        }
        for wrong in [
            basic(&user, "wrong"),
            basic(KEY_ID, "wrong"),
            basic("nobody", SECRET),
            "Authorization: Bearer wrong".to_owned(),
            format!("Authorization: Bearer {password}"),
            "Authorization: Negotiate x".to_owned(),
        ] {
            let reply = world.get("/v2/", &[&wrong]).await;
            assert_eq!(reply.status, 401, "{wrong}");
            let scheme = if anonymous { "Bearer realm=" } else { "Basic realm=" };
            assert!(reply.header("www-authenticate").starts_with(scheme), "{wrong}");
            assert_eq!(world.get("/v2/token", &[&wrong]).await.status, 401, "{wrong}");
            assert_eq!(world.get("/v2/quay/a/b/manifests/v1", &[&wrong]).await.status, 401, "{wrong}");
        }
    }
}

#[tokio::test]
async fn without_anonymous_pull_everything_needs_a_login() {
    let world = World::new(false).await;
    for target in ["/v2/", "/v2/quay/a/b/manifests/v1", "/v2/_catalog", "/v2/quay/a/b/tags/list"] {
        let reply = world.get(target, &[]).await;
        assert_eq!(reply.status, 401, "{target}");
        let challenge = format!("Basic realm=\"http://{0}/\",service=\"{0}\"", world.to);
        assert_eq!(reply.header("www-authenticate"), challenge, "{target}");
    }
    assert_eq!(world.get("/v2/token", &[]).await.status, 401);
}

#[tokio::test]
async fn oauth_clients_post_their_login() {
    let world = World::new(true).await;
    let form = format!("grant_type=password&service=x&username={KEY_ID}&password={}", SECRET.replace(' ', "+"));
    let lines = ["Content-Type: application/x-www-form-urlencoded"];
    let reply = send(world.to, "POST", "/v2/token", &lines, form.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let wrong = send(world.to, "POST", "/v2/token", &lines, form.replace(KEY_ID, "nobody").as_bytes()).await;
    assert_eq!(wrong.status, 401);
}

#[tokio::test]
async fn pushes_are_told_that_they_come_later() {
    let world = World::new(true).await;
    let root = basic(KEY_ID, SECRET);
    for (method, target) in [("POST", "/v2/a/b/blobs/uploads/"), ("PUT", "/v2/a/b/manifests/v1")] {
        let reply = send(world.to, method, target, &[&root], b"").await;
        assert_eq!(reply.status, 405);
        assert!(reply.text().contains("UNSUPPORTED"), "{}", reply.text());
        assert_eq!(send(world.to, method, target, &[&basic("nobody", "x")], b"").await.status, 401);
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new(true).await;
    for tag in ["a", "b", "c"] {
        world.upstream.put_image("x/y", tag, b"layer");
        world.get(&format!("/v2/quay/x/y/manifests/{tag}"), &[]).await;
    }
    let first = world.pull("/v2/quay/x/y/tags/list?n=2", &[]).await;
    assert_eq!(first.text(), r#"{"name":"quay/x/y","tags":["a","b"]}"#);
    assert_eq!(first.header("link"), "</v2/quay/x/y/tags/list?n=2&last=b>; rel=\"next\"");
    let last = world.pull("/v2/quay/x/y/tags/list?n=2&last=b", &[]).await;
    assert_eq!((last.text(), last.header("link")), (r#"{"name":"quay/x/y","tags":["c"]}"#, ""));
    let none = world.pull("/v2/quay/x/y/tags/list?n=0", &[]).await;
    assert_eq!((none.text(), none.header("link")), (r#"{"name":"quay/x/y","tags":[]}"#, ""));
    assert_eq!(world.pull("/v2/quay/x/y/tags/list?n=x", &[]).await.status, 400);
    assert_eq!(world.pull("/v2/own/none/tags/list", &[]).await.status, 404);
    assert_eq!(world.pull("/v2/_catalog", &[]).await.text(), r#"{"repositories":["quay/x/y"]}"#);
}

#[tokio::test]
async fn referrers_are_an_index_even_when_there_are_none() {
    let world = World::new(true).await;
    let (digest, _) = world.upstream.put_image("x/y", "v1", b"layer");
    world.get("/v2/quay/x/y/manifests/v1", &[]).await;
    let reply = world.get(&format!("/v2/quay/x/y/referrers/{digest}?artifactType=a/b"), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(reply.header("oci-filters-applied"), "artifactType");
    let index: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&index["schemaVersion"], &index["manifests"]), (&serde_json::json!(2), &serde_json::json!([])));
}

#[tokio::test]
async fn referrers_are_filtered_here_when_upstream_does_not() {
    let world = World::new(true).await;
    let (digest, _) = world.upstream.put_image("x/y", "v1", b"layer");
    world.get("/v2/quay/x/y/manifests/v1", &[]).await;
    let referrer = |kind| serde_json::json!({ "artifactType": kind, "digest": digest.to_string(), "size": 1 });
    let (sbom, signature) = (referrer("sbom"), referrer("signature"));
    let all = serde_json::json!({ "schemaVersion": 2, "manifests": [sbom, signature, { "size": 1 }], "x": "kept" });
    for query in ["", "?artifactType=sbom"] {
        let path = format!("/v2/x/y/referrers/{digest}{query}");
        world.upstream.put(path, "application/vnd.oci.image.index.v1+json", all.to_string().as_bytes());
    }
    for (query, expected, applied) in
        [("", &all["manifests"], ""), ("?artifactType=sbom", &serde_json::json!([all["manifests"][0]]), "artifactType")]
    {
        let reply = world.get(&format!("/v2/quay/x/y/referrers/{digest}{query}"), &[]).await;
        let index: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&index["manifests"], &index["x"]), (expected, &"kept".into()), "{query}");
        assert_eq!(reply.header("oci-filters-applied"), applied);
    }
}

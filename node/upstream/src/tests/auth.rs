use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    Node, name,
    server::{Reply, Request, Server},
    tag,
};
use crate::{Probe, UpstreamError};

const PULL: &str = "/token?service=registry&scope=repository%3Ateam%2Fapp%3Apull";

/// A registry that wants tokens of its own `/token`; `refuses` says which tokens, and how.
async fn registry(refuses: impl Fn(&str) -> Option<u16> + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        if request.target.starts_with("/token") {
            return Reply::ok(format!(r#"{{"token":"t{}","expires_in":300}}"#, request.nth));
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let challenge = format!(r#"Bearer realm="{realm}",service="registry",scope="repository:x:pull""#);
        match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            None => Reply::new(401).header("WWW-Authenticate", challenge).body("{}"),
            Some(token) => match refuses(token) {
                Some(status) => Reply::new(status).body("{}"),
                None => Reply::ok("{}"),
            },
        }
    })
    .await
}

fn targets(server: &Server) -> Vec<String> {
    server.log().into_iter().map(|Request { target, .. }| target).collect()
}

#[tokio::test]
async fn a_token_is_asked_for_once_per_repository() {
    let server = registry(|_| None).await;
    let upstream = Node::new(&server).anonymous();
    for _ in 0..3 {
        upstream.manifest(&name(), &tag()).await.unwrap();
    }
    upstream.head(&"team/other".parse().unwrap(), &tag()).await.unwrap();
    let asked = "/v2/team/app/manifests/latest";
    let other = ["/token?service=registry&scope=repository%3Ateam%2Fother%3Apull", "/v2/team/other/manifests/latest"];
    assert_eq!(targets(&server), [[asked, PULL, asked, asked, asked].as_slice(), &other].concat());
    assert_eq!(server.accepted(), 1, "the challenge's body was read, so that its connection stayed");
}

#[tokio::test]
async fn a_refused_token_is_dropped_once_whatever_the_status() {
    for status in [400, 401, 403] {
        // The first token is good once, as if it expired.
        let used = std::sync::atomic::AtomicU32::new(0);
        let server = registry(move |token| {
            let first = used.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            (token == "t0" && !first).then_some(status)
        })
        .await;
        let upstream = Node::new(&server).anonymous();
        upstream.head(&name(), &tag()).await.unwrap();
        upstream.head(&name(), &tag()).await.unwrap();
        assert_eq!(targets(&server).iter().filter(|target| *target == PULL).count(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_new_token_that_is_refused_ends_the_call() {
    for (status, denied) in [(403, true), (401, false)] {
        let server = registry(move |_| Some(status)).await;
        let upstream = Node::new(&server).anonymous();
        let error = upstream.head(&name(), &tag()).await.unwrap_err();
        assert_eq!(matches!(error, UpstreamError::Denied { .. }), denied, "{error}");
        assert_eq!(matches!(error, UpstreamError::Unauthorized { .. }), !denied, "{error}");
        assert_eq!(targets(&server).len(), 3);
    }
}

#[tokio::test]
async fn a_credential_goes_to_the_token_service_and_tokens_are_not_shared_between_accounts() {
    let server = registry(|_| None).await;
    let node = Node::new(&server);
    node.user("s3cret").head(&name(), &tag()).await.unwrap();
    node.anonymous().head(&name(), &tag()).await.unwrap();
    let tokens: Vec<_> = server.log().into_iter().filter(|request| request.target == PULL).collect();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("user:s3cret"));
    assert_eq!(tokens[0].header("authorization"), Some(basic.as_str()));
    assert_eq!(tokens[1].header("authorization"), None);
    assert_eq!(tokens.len(), 2);
    let at_registry = server.log().into_iter().filter(|request| request.target != PULL);
    assert!(at_registry.into_iter().all(|request| request.header("authorization").is_none_or(|value| value != basic)));
}

#[tokio::test]
async fn basic_is_sent_to_a_registry_that_wants_it() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("user:s3cret"));
    let server = Server::start(move |request| match request.header("authorization") {
        Some(value) if value == basic => Reply::ok("{}"),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let node = Node::new(&server);
    node.user("s3cret").head(&name(), &tag()).await.unwrap();
    let error = node.user("wrong").head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unauthorized { .. }));
    assert!(!format!("{error:?} {error}").contains("wrong"));
    assert!(matches!(node.anonymous().head(&name(), &tag()).await, Err(UpstreamError::Unauthorized { .. })));

    assert_eq!(node.user("s3cret").probe().await.unwrap(), Probe::Authenticated);
    assert!(matches!(node.user("wrong").probe().await, Err(UpstreamError::Unauthorized { .. })));
    assert!(matches!(node.anonymous().probe().await, Err(UpstreamError::Unauthorized { .. })));
}

#[tokio::test]
async fn a_realm_elsewhere_is_never_asked() {
    let elsewhere = Server::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let realm = elsewhere.url("/token");
    let asking = Server::start(move |_| {
        Reply::new(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="x""#))
    })
    .await;
    let error = Node::new(&asking).user("s3cret").head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Blocked { .. }), "{error}");
    assert_eq!(elsewhere.accepted(), 0);

    let listed = elsewhere.url("").replace("http://", "");
    let node = Node::with(&asking, |config| config.realm_allow.push(listed));
    assert!(matches!(node.user("s3cret").head(&name(), &tag()).await, Err(UpstreamError::Unauthorized { .. })));
    assert_eq!(elsewhere.log().len(), 1, "a listed one is");
}

#[tokio::test]
async fn the_token_service_in_trouble_is_told_apart() {
    for status in [401, 403, 429, 503, 404] {
        let server = Server::start(move |request| {
            let realm = format!(r#"Bearer realm="http://{}/token""#, request.header("host").unwrap());
            match request.target.starts_with("/token") {
                true => Reply::new(status).header("Retry-After", "7"),
                false => Reply::new(401).header("WWW-Authenticate", realm),
            }
        })
        .await;
        let error = Node::new(&server).anonymous().head(&name(), &tag()).await.unwrap_err();
        let right = match status {
            429 => matches!(&error, UpstreamError::Throttled { retry_after: Some(wait), .. } if wait.as_secs() == 7),
            503 => matches!(error, UpstreamError::Unavailable { .. }),
            404 => matches!(error, UpstreamError::Malformed { .. }),
            _ => matches!(error, UpstreamError::Unauthorized { .. }),
        };
        assert!(right, "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_probe_uses_new_tokens_and_believes_only_an_answer() {
    let server = registry(|token| (token == "t1").then_some(401)).await;
    let node = Node::new(&server);
    let upstream = node.user("s3cret");
    assert_eq!(upstream.probe().await.unwrap(), Probe::Authenticated);
    assert!(matches!(upstream.probe().await, Err(UpstreamError::Unauthorized { .. })), "the second token is refused");
    assert_eq!(targets(&server)[1], "/token?service=registry", "no repository is named");
    assert_eq!(node.anonymous().probe().await.unwrap(), Probe::Anonymous);
}

#[tokio::test]
async fn an_upstream_that_changed_its_mind_is_asked_again() {
    // Basic for which there is no credential, a realm that is refused, a token service that refuses; then nothing.
    let server = Server::start(|request| {
        let own = format!("http://{}/token", request.header("host").unwrap());
        match (request.target.starts_with("/token"), request.nth) {
            (true, _) => Reply::new(403),
            (_, 0) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, 1) => Reply::new(401).header("WWW-Authenticate", "Bearer realm=\"https://elsewhere.example/\""),
            (_, 2) => Reply::new(401).header("WWW-Authenticate", format!("Bearer realm={own}")),
            _ => Reply::ok("{}"),
        }
    })
    .await;
    let upstream = Node::new(&server).anonymous();
    for _ in 0..3 {
        upstream.head(&name(), &tag()).await.unwrap_err();
    }
    upstream.head(&name(), &tag()).await.unwrap();
}

#[tokio::test]
async fn repositories_with_token_services_of_their_own_are_served_side_by_side() {
    let server = Server::start(|request| {
        if let Some(service) = request.target.strip_prefix("/token/") {
            let (service, scope) = service.split_once('?').unwrap();
            return match scope.contains(&format!("team%2F{service}")) {
                true => Reply::ok(format!(r#"{{"token":"{service}"}}"#)),
                false => Reply::new(403),
            };
        }
        let repository = request.target.split('/').nth(3).unwrap();
        match request.header("authorization") == Some(&format!("Bearer {repository}")) {
            true => Reply::ok("{}"),
            false => Reply::new(401).header(
                "WWW-Authenticate",
                format!(r#"Bearer realm="http://{}/token/{repository}""#, request.header("host").unwrap()),
            ),
        }
    })
    .await;
    let upstream = Node::new(&server).anonymous();
    for name in ["team/a", "team/b", "team/a", "team/b"] {
        upstream.head(&name.parse().unwrap(), &tag()).await.unwrap();
    }
    let asked = targets(&server).iter().filter(|target| target.ends_with("latest")).count();
    assert_eq!(asked, 6, "each repository learned once");
}

#[tokio::test]
async fn a_token_service_that_is_no_longer_needed_is_forgotten() {
    let server = Server::start(|request| match (request.target.starts_with("/token"), request.nth) {
        (true, 0) => Reply::ok(r#"{"token":"t","expires_in":0}"#),
        (true, _) => Reply::new(403),
        (false, 0) => {
            let realm = format!("Bearer realm=http://{}/token", request.header("host").unwrap());
            Reply::new(401).header("WWW-Authenticate", realm)
        }
        _ => Reply::ok("{}"),
    })
    .await;
    let upstream = Node::new(&server).anonymous();
    for _ in 0..3 {
        upstream.head(&name(), &tag()).await.unwrap();
    }
    assert_eq!(targets(&server).iter().filter(|target| target.starts_with("/token")).count(), 2);
}

#[tokio::test]
async fn a_realm_that_moves_elsewhere_later_is_judged_anew() {
    let elsewhere = Server::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let moved = elsewhere.url("/token");
    let server = Server::start(move |request| {
        let own = format!("http://{}/token", request.header("host").unwrap());
        match (request.target.starts_with("/token"), request.header("authorization"), request.nth) {
            (true, ..) => Reply::ok(r#"{"token":"t"}"#),
            (_, Some(_), 1) => Reply::ok("{}"),
            (_, _, 0) => Reply::new(401).header("WWW-Authenticate", format!("Bearer realm={own}")),
            _ => Reply::new(401).header("WWW-Authenticate", format!("Bearer realm={moved}")),
        }
    })
    .await;
    let upstream = Node::new(&server).user("s3cret");
    upstream.head(&name(), &tag()).await.unwrap();
    for _ in 0..2 {
        let error = upstream.head(&name(), &tag()).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Blocked { .. }), "{error:?}");
    }
    assert_eq!(elsewhere.accepted(), 0);
}

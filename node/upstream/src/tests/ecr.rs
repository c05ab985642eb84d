//! Passwords of Amazon ECR, from a scripted `GetAuthorizationToken`.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    HOST, Node, name,
    server::{Reply, Request, Server},
    tag,
};
use crate::{Account, AwsKeys, Credential, Refusal, Upstream, UpstreamError};

/// What `POST /` answers: a password for an hour, of which the number says how many there were.
fn password(request: &Request) -> Reply {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = BASE64_STANDARD.encode(format!("AWS:p{}", request.nth));
    let data = format!(r#"{{"authorizationToken":"{token}","expiresAt":{}.5,"proxyEndpoint":"x"}}"#, now + 3600);
    Reply::ok(format!(r#"{{"authorizationData":[{data}]}}"#))
}

/// A registry that wants Basic, and takes the passwords that `accepts`.
async fn registry(
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    accepts: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    Server::start(move |request| {
        if request.method == "POST" {
            return answer(request);
        }
        let basic = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let pair = basic.and_then(|basic| String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok());
        match pair.as_deref().and_then(|pair| pair.strip_prefix("AWS:")) {
            Some(password) if accepts(password) => Reply::ok("{}"),
            _ => {
                Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\",service=\"ecr.amazonaws.com\"").body("{}")
            }
        }
    })
    .await
}

fn upstream(node: &Node) -> Arc<Upstream> {
    let keys = AwsKeys {
        access_key_id: "AKID".to_owned(),
        secret_access_key: "secret-access-key".to_owned().into(),
        session_token: Some("session".to_owned().into()),
    };
    node.upstreams.client(&Account { host: HOST.to_owned(), credential: Some(Credential::Aws(keys)) })
}

fn node(server: &Server) -> Node {
    Node::with(server, |config| {
        let own = config.hosts.get_mut(HOST).unwrap();
        own.ecr_endpoint = own.base_url.clone();
    })
}

fn logins(server: &Server) -> Vec<Request> {
    server.log().into_iter().filter(|request| request.method == "POST").collect()
}

#[tokio::test]
async fn a_crowd_costs_one_signed_call_and_the_keys_stay_here() {
    let server = registry(password, |password| password == "p0").await;
    let node = node(&server);
    let upstream = upstream(&node);
    let asked = (0..10).map(|_| async { upstream.head(&name(), &tag()).await.map(|_| ()) });
    for result in futures_util::future::join_all(asked).await {
        result.unwrap();
    }
    let logins = logins(&server);
    assert_eq!(logins.len(), 1);
    let header = |name: &str| logins[0].header(name).unwrap().to_owned();
    assert!(header("x-amz-target").ends_with(".GetAuthorizationToken"));
    assert_eq!(
        (header("x-amz-security-token"), header("content-type")),
        ("session".into(), "application/x-amz-json-1.1".into())
    );
    let signed = header("authorization");
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/") && signed.contains("/us-east-1/ecr/"), "{signed}");
    assert!(server.log().iter().all(|request| !format!("{request:?}").contains("secret-access-key")));
    assert!(!node.upstreams.account_refused(HOST));
}

#[tokio::test]
async fn a_password_that_is_refused_is_asked_for_anew_once() {
    let used = std::sync::atomic::AtomicU32::new(0);
    // The first is good once, as if it had been taken back.
    let accepts = move |password: &str| match password {
        "p0" => used.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0,
        other => other == "p1",
    };
    let server = registry(password, accepts).await;
    let node = node(&server);
    let upstream = upstream(&node);
    for _ in 0..3 {
        upstream.head(&name(), &tag()).await.unwrap();
    }
    assert_eq!(logins(&server).len(), 2);

    let server = registry(password, |_| false).await;
    let node = self::node(&server);
    assert!(self::upstream(&node).head(&name(), &tag()).await.is_err());
    assert!(logins(&server).len() <= 2, "no loop");
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_status_knows() {
    for (code, reason) in [
        ("UnrecognizedClientException", Refusal::AwsKeys),
        ("com.amazonaws#AccessDeniedException", Refusal::AwsDenied),
        ("ExpiredTokenException", Refusal::AwsExpired),
    ] {
        let refuse = move |_: &Request| Reply::new(400).body(format!(r#"{{"__type":"{code}","message":"no"}}"#));
        let server = registry(refuse, |_| false).await;
        let node = node(&server);
        let error = upstream(&node).head(&name(), &tag()).await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Unauthorized { reason: found, .. } if *found == reason), "{error}");
        assert!(node.upstreams.account_refused(HOST), "{code}");
    }
    // A host that is no registry of Amazon's gets no signature.
    let server = registry(password, |_| true).await;
    let node = Node::new(&server);
    let error = upstream(&node).head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unauthorized { reason: Refusal::NotEcr, .. }), "{error}");
    assert_eq!(logins(&server).len(), 0);
}

#[tokio::test]
async fn an_account_that_is_forgotten_asks_again() {
    let server = registry(password, |_| true).await;
    let node = node(&server);
    let keys = |secret: &str| AwsKeys {
        access_key_id: "AKID".to_owned(),
        secret_access_key: secret.to_owned().into(),
        session_token: None,
    };
    let account = |secret: &str| Account { host: HOST.to_owned(), credential: Some(Credential::Aws(keys(secret))) };
    assert!(account("a").is(&account("a")) && !account("a").is(&account("b")));
    for times in 1..=3 {
        node.upstreams.client(&account("a")).head(&name(), &tag()).await.unwrap();
        node.upstreams.client(&account("a")).head(&name(), &tag()).await.unwrap();
        assert_eq!(logins(&server).len(), times);
        node.upstreams.forget(&account("a"));
    }
}

use super::{
    Node, blob, digest, name, read,
    server::{Reply, Server},
};
use crate::{BlobHead, UpstreamError};

/// A registry with Basic that redirects every authorized request to `location`.
async fn redirecting(location: String) -> Server {
    Server::start(move |request| match request.header("authorization") {
        Some(_) => Reply::redirect(location.as_str()),
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await
}

#[tokio::test]
async fn the_credential_stays_behind_when_a_redirect_leads_elsewhere() {
    let bytes = blob(100_000);
    let storage = {
        let bytes = bytes.clone();
        Server::start(move |request| Reply::blob(request, &bytes)).await
    };
    let server = redirecting(storage.url("/signed?X-Signature=hush")).await;
    let node = Node::new(&server);
    let upstream = node.user("s3cret");

    let head = upstream.blob_head(&name(), &digest(&bytes)).await.unwrap();
    assert_eq!((head.len.unwrap().0, head.redirected), (100_000, true));
    let download = upstream.blob(&name(), &digest(&bytes), 0).await.unwrap();
    assert_eq!(download.len.0, 100_000);
    let (got, end) = read(download).await;
    assert!(end.is_ok() && got == bytes);
    for request in storage.log() {
        assert_eq!(request.target, "/signed?X-Signature=hush");
        assert_eq!(request.header("authorization"), None);
    }
    assert_eq!(node.bytes(), 100_000);
}

#[tokio::test]
async fn the_credential_stays_behind_for_good() {
    // registry → storage → registry: the way back must not bring it back.
    let storage =
        Server::start(|request| Reply::redirect(format!("http://{}", request.target.strip_prefix("/to/").unwrap())))
            .await;
    let to = storage.url("/to/");
    let server = Server::start(move |request| match (request.target.as_str(), request.header("authorization")) {
        ("/end", _) => Reply::ok("x"),
        (_, Some(_)) => Reply::redirect(format!("{to}{}/end", request.header("host").unwrap())),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let upstream = Node::new(&server).user("s3cret");
    let (got, end) = read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await;
    assert!(end.is_ok() && got == b"x");
    assert_eq!(server.log().last().unwrap().header("authorization"), None);
}

#[tokio::test]
async fn the_credential_goes_along_within_the_upstream() {
    let server = Server::start(|request| match (request.target.as_str(), request.header("authorization")) {
        (_, None) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        ("/elsewhere", Some(_)) => Reply::ok("x"),
        _ => Reply::redirect("/elsewhere"),
    })
    .await;
    let upstream = Node::new(&server).user("s3cret");
    assert!(read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await.1.is_ok());
}

#[tokio::test]
async fn a_storage_that_refuses_head_leaves_the_length_open() {
    for status in [403, 405, 404] {
        let storage = Server::start(move |_| Reply::new(status)).await;
        let server = redirecting(storage.url("/signed")).await;
        let head = Node::new(&server).user("s").blob_head(&name(), &digest(b"x")).await.unwrap();
        assert_eq!(head, BlobHead { len: None, redirected: true });
    }
    let absent = Server::start(|_| Reply::new(404)).await;
    assert!(Node::new(&absent).anonymous().blob_head(&name(), &digest(b"x")).await.unwrap_err().is_definite_absence());
}

#[tokio::test]
async fn a_storage_without_the_blob_proves_no_absence() {
    let storage = Server::start(|_| Reply::new(404)).await;
    let server = redirecting(storage.url("/signed?hush")).await;
    let error = Node::new(&server).user("s").blob(&name(), &digest(b"x"), 0).await.err().unwrap();
    assert!(!error.is_definite_absence());
    assert!(!format!("{error:?}").contains("hush"));
}

#[tokio::test]
async fn redirects_into_the_dark_are_refused() {
    for location in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0:1/",
        "http://user:hush@127.0.0.1:1/?hush",
        "http://127.0.0.1:1/?hush#hush",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://10.0.0.1/",
        "http://0xa9fea9fe/",
        "http://169.254.43518/",
    ] {
        let server = redirecting(location.to_owned()).await;
        let error = Node::new(&server).user("s").blob(&name(), &digest(b"x"), 0).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Blocked { .. }), "{location}: {error}");
        assert!(!format!("{error:?} {error}").contains("hush"), "{error:?}");
    }
    for location in ["file:///etc/passwd", "http://", "gopher://a/"] {
        let server = redirecting(location.to_owned()).await;
        let error = Node::new(&server).user("s").blob(&name(), &digest(b"x"), 0).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Malformed { .. }), "{location}: {error}");
    }
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = Server::start(|_| Reply::redirect("/again")).await;
    let error = Node::new(&server).anonymous().blob(&name(), &digest(b"x"), 0).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Blocked { .. }), "{error}");
    assert_eq!(server.log().len(), 6, "the request and five redirects");
}

#[tokio::test]
async fn cookies_stay_where_they_came_from_and_are_not_kept() {
    let storage = Server::start(|_| Reply::ok("x").header("Set-Cookie", "s=1")).await;
    let to = storage.url("/signed?X-Signature=hush");
    let server =
        Server::start(move |_| Reply::redirect(to.as_str()).header("Set-Cookie", "r=1; Domain=127.0.0.1")).await;
    let upstream = Node::new(&server).anonymous();
    for _ in 0..2 {
        assert!(read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await.1.is_ok());
    }
    let requests = [server.log(), storage.log()].concat();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!((request.header("cookie"), request.header("referer")), (None, None));
    }
}

#[tokio::test]
async fn a_web_page_is_no_blob_wherever_it_comes_from() {
    let storage = Server::start(|_| Reply::ok("<html>").header("Content-Type", "text/html")).await;
    for server in [redirecting(storage.url("/portal")).await, storage] {
        let upstream = Node::new(&server).user("s");
        let get = upstream.blob(&name(), &digest(b"x"), 0).await.err().unwrap();
        assert!(matches!(get, UpstreamError::NotARegistry { .. }), "{get:?}");
        let head = upstream.blob_head(&name(), &digest(b"x")).await.unwrap_err();
        assert!(matches!(head, UpstreamError::NotARegistry { .. }), "{head:?}");
    }
}

use std::time::Duration;

use super::{
    HOST, Node, blob, digest, name,
    server::{Reply, Server},
    tag,
};
use crate::{HttpError, UpstreamError};

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    for (first, attempts) in [(503, 2), (500, 2), (404, 1), (403, 1), (429, 1), (400, 1)] {
        let server = Server::start(move |request| Reply::new(if request.nth == 0 { first } else { 200 })).await;
        let _ = Node::new(&server).anonymous().head(&name(), &tag()).await;
        assert_eq!(server.log().len(), attempts, "{first}");
    }
    let cut = Server::start(|request| match request.nth {
        0 => Reply::ok(blob(1000)).cut_at(500),
        1 => Reply::hang_up(),
        _ => Reply::ok(blob(1000)),
    })
    .await;
    assert_eq!(&Node::new(&cut).anonymous().manifest(&name(), &tag()).await.unwrap().bytes[..], blob(1000));
    let down = Server::start(|_| Reply::new(502)).await;
    let error = Node::new(&down).anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Unavailable { source: HttpError::Status { status: 502, .. }, .. }),
        "{error:?}"
    );
    assert_eq!(down.log().len(), 3);
}

#[tokio::test]
async fn throttling_is_passed_on_with_the_time_to_wait_and_nothing_of_its_kind_is_asked_before() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(429),
        _ => Reply::new(429).header("Retry-After", "17"),
    })
    .await;
    let upstream = Node::new(&server).anonymous();
    for _ in 0..3 {
        let error = upstream.manifest(&name(), &tag()).await.unwrap_err();
        let UpstreamError::Throttled { retry_after: Some(wait), .. } = error else { panic!("{error:?}") };
        assert!(wait <= Duration::from_secs(17) && wait > Duration::from_secs(10), "{wait:?}");
    }
    assert_eq!(server.log().len(), 1, "it was asked once and told us to wait");
    let error = upstream.head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Throttled { retry_after: None, .. }), "{error:?}");
    assert_eq!(server.log().len(), 2, "HEAD is not what was throttled");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::start(|_| Reply::mute()).await;
    let node = Node::with(&server, |config| config.head_timeout = Duration::from_millis(100));
    let error = node.anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { source: HttpError::HeadTimeout { .. }, .. }), "{error:?}");
    assert_eq!((server.log().len(), node.requests("timeout")), (1, 1), "it had its time and is not asked again");
    server.all_closed().await;
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_left_alone() {
    let server = Server::start(|_| Reply::new(503)).await;
    let node = Node::new(&server);
    let upstream = node.anonymous();
    for _ in 0..5 {
        assert!(!node.upstreams.circuit_open(HOST), "a call counts once, however often it is repeated");
        let error = upstream.head(&name(), &tag()).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error:?}");
    }
    assert_eq!(server.log().len(), 13);
    assert!(node.upstreams.circuit_open(HOST));
    assert_eq!(node.metric(r#"flotilla_upstream_circuit_open{upstream="registry.example"}"#), 1);
    for account in [upstream, node.user("s")] {
        let error = account.head(&name(), &tag()).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::CircuitOpen { retry_after, .. } if retry_after.as_secs() >= 5),
            "{error:?}"
        );
    }
    assert_eq!(server.log().len(), 13, "nothing was sent");
}

#[tokio::test]
async fn an_upstream_that_fails_over_one_image_is_not_left_alone() {
    let server = Server::start(|_| Reply::new(500)).await;
    let node = Node::new(&server);
    for _ in 0..6 {
        assert!(node.anonymous().head(&name(), &tag()).await.is_err());
    }
    assert!(!node.upstreams.circuit_open(HOST));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let gone = {
        let server = Server::start(|_| Reply::new(200)).await;
        Node::new(&server)
    };
    let error = gone.anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { source: HttpError::Connect { .. }, .. }), "{error:?}");
    assert_eq!(gone.requests("connect"), 3);
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_their_turn_and_not_for_ever() {
    let server = Server::start(|_| Reply::ok(blob(1000)).stall_at(10)).await;
    let node = Node::with(&server, |config| {
        config.concurrency = 2;
        config.queue_timeout = Duration::from_millis(50);
        config.progress_timeout = Duration::from_secs(60);
    });
    let upstream = node.anonymous();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap());
    }
    let error = node.user("another account").blob(&name(), &digest(b"x"), 0).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Busy { .. }), "{error:?}");
    assert_eq!(server.log().len(), 2);
    held.clear();
    assert!(upstream.blob(&name(), &digest(b"x"), 0).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_no_attempt() {
    let server = Server::start(|request| match request.nth {
        1 => Reply::hang_up(),
        _ => Reply::ok(""),
    })
    .await;
    let node = Node::new(&server);
    let upstream = node.anonymous();
    for _ in 0..2 {
        upstream.head(&name(), &tag()).await.unwrap();
    }
    assert_eq!((server.log().len(), server.accepted()), (3, 2));
    assert_eq!((node.requests("200"), node.requests("cut")), (2, 0));
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_keeps_none() {
    let server = Server::start(|_| Reply::ok("")).await;
    let node = Node::new(&server);
    node.anonymous().head(&name(), &tag()).await.unwrap();
    assert!(node.host.tasks.finish(Duration::from_secs(5)).await);
    server.all_closed().await;
}

#[tokio::test]
async fn heads_without_end_are_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // Early hints for ever; a head of more than 64 KiB; headers without number.
    let endless: [(&[u8], &[u8]); 3] = [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    ];
    for (first, more) in endless {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(|_| Reply::ok("")).await;
        let node = Node::with(&server, |config| {
            let own = config.hosts.get_mut(HOST).unwrap();
            own.base_url = Some(format!("http://{address}").parse().unwrap());
            config.head_timeout = Duration::from_millis(300);
        });
        let flood = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(first).await;
            // Until the client has had enough.
            while stream.write_all(more).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let upstream = node.anonymous();
        let (reference, name) = (tag(), name());
        let asked = upstream.head(&name, &reference);
        tokio::select! {
            result = asked => assert!(matches!(result, Err(UpstreamError::Unavailable { .. })), "{result:?}"),
            () = async { flood.await; std::future::pending::<()>().await } => {}
        }
    }
}

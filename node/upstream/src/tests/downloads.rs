use std::time::Duration;

use super::{
    Node, blob, digest, name, read,
    server::{Reply, Request, Server},
};
use crate::UpstreamError;

const LEN: usize = 1 << 20;

async fn get(server: &Server, from: u64) -> (Node, Vec<u8>, Result<(), UpstreamError>) {
    let node = Node::new(server);
    match node.anonymous().blob(&name(), &digest(b"x"), from).await {
        Ok(download) => {
            assert_eq!(download.len.0, LEN as u64);
            let (bytes, end) = read(download).await;
            (node, bytes, end)
        }
        Err(error) => (node, Vec::new(), Err(error)),
    }
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.log().iter().map(Request::from).collect()
}

#[tokio::test]
async fn a_cut_body_goes_on_where_it_was_cut() {
    let server = Server::start(|request| {
        let reply = Reply::blob(request, &blob(LEN));
        if request.nth == 0 { reply.cut_at(LEN * 2 / 5) } else { reply }
    })
    .await;
    let (node, bytes, end) = get(&server, 0).await;
    assert!(end.is_ok() && bytes == blob(LEN));
    let cut = ranges(&server)[1].unwrap();
    assert!(cut <= LEN * 2 / 5);
    assert_eq!(node.bytes(), LEN as u64, "each byte is counted once");
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn a_stalled_body_is_cut_and_goes_on() {
    let server = Server::start(|request| {
        let reply = Reply::blob(request, &blob(LEN));
        if request.nth < 2 { reply.stall_at(LEN / 4) } else { reply }
    })
    .await;
    let (_, bytes, end) = get(&server, 0).await;
    assert!(end.is_ok() && bytes == blob(LEN));
    assert_eq!(ranges(&server), [None, Some(LEN / 4), Some(LEN / 2)]);
    assert_eq!(server.sent(), LEN as u64);
}

#[tokio::test]
async fn a_slow_body_is_left_alone() {
    let server = Server::start(|_| Reply::ok(blob(60)).trickle(Duration::from_millis(20))).await;
    let node = Node::with(&server, |config| config.progress_timeout = Duration::from_millis(800));
    let (bytes, end) = read(node.anonymous().blob(&name(), &digest(b"x"), 0).await.unwrap()).await;
    assert!(end.is_ok() && bytes == blob(60));
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn a_body_can_begin_anywhere_and_a_server_without_ranges_is_skipped_through() {
    let ranged = Server::start(|request| Reply::blob(request, &blob(LEN))).await;
    let plain = Server::start(|request| {
        let reply = Reply::ok(blob(LEN));
        if request.nth == 0 { reply.cut_at(LEN / 2 + 10) } else { reply }
    })
    .await;
    for server in [&ranged, &plain] {
        let (_, bytes, end) = get(server, LEN as u64 / 2).await;
        assert!(end.is_ok() && bytes == blob(LEN)[LEN / 2..]);
        assert_eq!(ranges(server)[0], Some(LEN / 2));
    }
    assert_eq!(plain.log().len(), 2, "the cut one was resumed by skipping");
}

#[tokio::test]
async fn a_resumption_that_does_not_fit_is_an_error() {
    let wrong: [fn(Reply) -> Reply; 5] = [
        |_| Reply::new(206).header("Content-Range", format!("bytes 0-{}/{LEN}", LEN - 1)).body(blob(LEN)),
        |_| {
            Reply::new(206)
                .header("Content-Range", format!("bytes {}-{LEN}/{}", LEN / 2, LEN + 1))
                .body(blob(LEN / 2 + 1))
        },
        |_| Reply::new(206).body(blob(LEN / 2)),
        |_| Reply::ok(blob(LEN + 1)),
        |_| Reply::new(416).header("Content-Range", format!("bytes */{}", LEN / 4)),
    ];
    for (i, wrong) in wrong.into_iter().enumerate() {
        let server = Server::start(move |request| {
            let reply = Reply::blob(request, &blob(LEN));
            if request.nth == 0 { reply.stall_at(LEN / 2) } else { wrong(reply) }
        })
        .await;
        let (_, bytes, end) = get(&server, 0).await;
        assert!(matches!(end, Err(UpstreamError::Mismatch { .. })), "{i}: {end:?}");
        assert!(bytes == blob(LEN)[..LEN / 2], "{i}");
        assert_eq!(server.log().len(), 2, "{i}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_in_the_response_is_asked_for() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::ok(blob(LEN)),
        _ => Reply::ok(blob(LEN)).chunked(),
    })
    .await;
    let (_, bytes, end) = get(&server, 0).await;
    assert!(end.is_ok() && bytes == blob(LEN));

    let silent = Server::start(|_| Reply::ok(blob(LEN)).chunked()).await;
    let (_, _, end) = get(&silent, 0).await;
    assert!(matches!(end, Err(UpstreamError::Malformed { .. })), "{end:?}");
}

#[tokio::test]
async fn more_bytes_than_told_are_an_error() {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::ok(blob(LEN)),
        _ => Reply::ok(blob(LEN + 1)).chunked(),
    })
    .await;
    let (_, bytes, end) = get(&server, 0).await;
    // What follows a complete body is never looked at, unless it came with the last of its bytes.
    assert!(bytes.len() <= LEN && blob(LEN).starts_with(&bytes));
    assert!(matches!(end, Ok(()) | Err(UpstreamError::Mismatch { .. })), "{end:?}");
}

#[tokio::test]
async fn trouble_while_resuming_is_waited_out() {
    let server = Server::start(|request| {
        let reply = Reply::blob(request, &blob(LEN));
        match request.nth {
            0 => reply.stall_at(LEN / 2),
            1 => Reply::new(503),
            2 => Reply::new(429).header("Retry-After", "0"),
            3 => Reply::hang_up(),
            _ => reply,
        }
    })
    .await;
    let (_, bytes, end) = get(&server, 0).await;
    assert!(end.is_ok() && bytes == blob(LEN));
    assert_eq!(server.log().len(), 5);
}

#[tokio::test]
async fn what_cannot_pass_while_resuming_ends_the_body() {
    for (status, wait) in [(404, "0"), (403, "0"), (429, "61")] {
        let server = Server::start(move |request| match request.nth {
            0 => Reply::ok(blob(LEN)).stall_at(LEN / 2),
            _ => Reply::new(status).header("Retry-After", wait),
        })
        .await;
        let (node, bytes, end) = get(&server, 0).await;
        assert!(end.is_err() && bytes.len() == LEN / 2);
        assert_eq!(node.requests(&status.to_string()), 1);
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_its_connection_and_frees_its_place() {
    let server = Server::start(|_| Reply::ok(blob(LEN)).stall_at(10)).await;
    let node = Node::with(&server, |config| {
        config.concurrency = 1;
        config.progress_timeout = Duration::from_secs(60);
    });
    for _ in 0..2 {
        let mut download = node.anonymous().blob(&name(), &digest(b"x"), 0).await.unwrap();
        assert_eq!(download.body.chunk().await.unwrap().unwrap().len(), 10);
        let more = tokio::time::timeout(Duration::from_millis(20), download.body.chunk()).await;
        assert!(more.is_err(), "it stalls");
        drop(download);
        server.all_closed().await;
    }
}

#[tokio::test]
async fn a_body_that_has_ended_frees_its_place_even_if_it_is_kept() {
    let server = Server::start(|_| Reply::ok("x")).await;
    let node = Node::with(&server, |config| {
        config.concurrency = 1;
        config.queue_timeout = Duration::from_millis(50);
    });
    let mut kept = node.anonymous().blob(&name(), &digest(b"x"), 0).await.unwrap();
    assert_eq!(kept.body.chunk().await.unwrap().unwrap(), "x");
    assert!(node.anonymous().blob(&name(), &digest(b"x"), 0).await.is_ok());
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_empty_blob_and_an_offset_at_the_end_are_empty_bodies() {
    let server = Server::start(|_| Reply::ok("")).await;
    let download = Node::new(&server).anonymous().blob(&name(), &digest(b""), 0).await.unwrap();
    assert_eq!(download.len.0, 0);
    let (bytes, end) = read(download).await;
    assert!(end.is_ok() && bytes.is_empty());

    let whole = Server::start(|_| Reply::ok(blob(LEN))).await;
    let (_, bytes, end) = get(&whole, LEN as u64).await;
    assert!(end.is_ok() && bytes.is_empty());
    let (_, _, end) = get(&whole, LEN as u64 + 1).await;
    assert!(matches!(end, Err(UpstreamError::Mismatch { .. })), "{end:?}");
}

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Request, Shared, answer, lock,
    wire::{Head, Then},
};

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(head) = Head::read(&mut stream, &mut buffer).await {
        let line = lock(&shared.record).begin(Request {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            headers: head.headers.clone(),
            status: 0,
            sent_bytes: 0,
        });
        let Some(answer) = answer::decide(&shared, &head) else { return };
        lock(&shared.record).status(line, answer.status);
        let sent = |line, bytes| lock(&shared.record).sent(line, bytes);
        match answer.write(&mut stream, &head.method, line, sent).await {
            Ok(Then::Next) => {}
            Ok(Then::Close) => {
                // Waits for the client's own end, so that unread bytes of its do not turn the FIN into a RST.
                let _ = stream.shutdown().await;
                let drained = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} };
                let _ = tokio::time::timeout(Duration::from_secs(10), drained).await;
                return;
            }
            Ok(Then::Reset) => {
                let _ = stream.set_zero_linger();
                return;
            }
            Ok(Then::Silence) => {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                return;
            }
            Err(_) => return,
        }
    }
}

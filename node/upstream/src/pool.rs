//! Idle HTTP/1.1 connections, and the task that drives each connection.
//!
//! Invariant: a [`Connection`] that is dropped, with the body that it carries, is closed at once: hyper ends a connection
//! whose sender and body are gone, even while the server is silent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};

use flotilla_runtime::Tasks;

use crate::{
    connector::{Peer, Stream},
    origin::Origin,
};

/// Shorter than what registries and their CDNs keep (60 s and more), so that we are mostly the ones who close.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept in all.
const MAX_IDLE: usize = 256;
/// A response head of more than this is refused.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// hyper's read buffer grows up to this while reads fill it: large enough that one stream passes more than 1.5 GB/s, small enough
/// that 32 of them do not matter.
const READ_BUFFER_BYTES: usize = 512 << 10;

/// What may share a connection: an origin under one set of trusted roots (the upstream's number).
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) origin: Origin,
    pub(crate) upstream: u64,
}

pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) peer: Peer,
}

#[derive(Default)]
pub(crate) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    by_key: HashMap<PoolKey, Vec<(Connection, Instant)>>,
    len: usize,
    closed: bool,
}

impl Pool {
    /// The connection that was used last, if its peer is acceptable.
    pub(crate) fn take(&self, key: &PoolKey, permits: impl Fn(Peer) -> bool) -> Option<Connection> {
        let mut idle = self.lock();
        idle.prune();
        let connections = idle.by_key.get_mut(key)?;
        let at = connections.iter().rposition(|(connection, _)| permits(connection.peer))?;
        let (connection, _) = connections.remove(at);
        if connections.is_empty() {
            idle.by_key.remove(key);
        }
        idle.len -= 1;
        Some(connection)
    }

    pub(crate) fn put(&self, key: PoolKey, connection: Connection) {
        let mut idle = self.lock();
        if !idle.closed && idle.len < MAX_IDLE && !connection.sender.is_closed() {
            idle.by_key.entry(key).or_default().push((connection, Instant::now()));
            idle.len += 1;
        }
    }

    fn prune(&self) {
        self.lock().prune();
    }

    /// Closes what is idle and keeps nothing from now on.
    fn close(&self) {
        let mut idle = self.lock();
        *idle = Idle { closed: true, ..Idle::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Whole after a panic: nothing between the two updates of a section can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn prune(&mut self) {
        let now = Instant::now();
        self.by_key.retain(|_, connections| {
            connections.retain(|(connection, since)| !connection.sender.is_closed() && now - *since < IDLE);
            !connections.is_empty()
        });
        self.len = self.by_key.values().map(Vec::len).sum();
    }
}

/// Speaks HTTP/1.1 over `stream`, driven by a task of its own.
pub(crate) async fn start(
    stream: Stream,
    peer: Peer,
    tasks: &Tasks,
    pool: &Arc<Pool>,
) -> Result<Connection, hyper::Error> {
    match stream {
        Stream::Plain(stream) => start_on(stream, peer, tasks, pool).await,
        Stream::Tls(stream) => start_on(stream, peer, tasks, pool).await,
        Stream::Proxied(stream) => start_on(stream, peer, tasks, pool).await,
        Stream::ProxiedTls(stream) => start_on(stream, peer, tasks, pool).await,
    }
}

async fn start_on(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    tasks: &Tasks,
    pool: &Arc<Pool>,
) -> Result<Connection, hyper::Error> {
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(READ_BUFFER_BYTES)
        .handshake::<_, Full<Bytes>>(TokioIo::new(io))
        .await?;
    let (drain, pool) = (tasks.drain(), Arc::downgrade(pool));
    tasks.spawn("upstream-connection", async move {
        let mut connection = std::pin::pin!(connection);
        let mut draining = false;
        let with_pool = |work: fn(&Pool)| Weak::upgrade(&pool).iter().for_each(|pool| work(pool));
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(?peer, %error, "upstream connection ended");
                    }
                    return;
                }
                () = drain.begun(), if !draining => {
                    draining = true;
                    with_pool(Pool::close);
                }
                () = sleep(IDLE) => with_pool(Pool::prune),
            }
        }
    });
    Ok(Connection { sender, peer })
}

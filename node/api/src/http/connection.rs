//! What a connection knows of itself: whether requests are under way, whether a head is being received, and how often
//! everything written had left. The socket reports it, the watchdog and the bodies read it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::live::Patience;

/// Shared by the socket, the requests and the watchdog of one connection.
pub(super) struct Activity {
    born: Instant,
    in_flight: AtomicU64,
    /// Milliseconds since `born` at which the connection became idle.
    idle_since_ms: AtomicU64,
    /// Milliseconds since `born` at which the head that is being received began; `NEVER` when there is none.
    head_since_ms: AtomicU64,
    /// Milliseconds since `born` since which the client takes nothing of what is written; `NEVER` while it does.
    blocked_since_ms: AtomicU64,
    /// One connection, many requests: reading while idle then says nothing about a head.
    multiplexed: AtomicBool,
    flushes: AtomicU64,
    flushed: AtomicWaker,
}

const NEVER: u64 = u64::MAX;

/// Why a connection is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No request came.
    Idle,
    /// A head did not end.
    SlowHead,
    /// Nothing of a response was taken.
    Stalled,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            in_flight: AtomicU64::new(0),
            idle_since_ms: AtomicU64::new(0),
            head_since_ms: AtomicU64::new(NEVER),
            blocked_since_ms: AtomicU64::new(NEVER),
            multiplexed: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            flushed: AtomicWaker::new(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn request(self: &Arc<Self>, multiplexed: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since_ms.store(NEVER, Ordering::Relaxed);
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn received(&self) {
        let between = self.in_flight.load(Ordering::Relaxed) == 0 && !self.multiplexed.load(Ordering::Relaxed);
        if between && self.head_since_ms.load(Ordering::Relaxed) == NEVER {
            self.head_since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn wrote(&self, blocked: bool) {
        let is_new = self.blocked_since_ms.load(Ordering::Relaxed) == NEVER;
        match blocked {
            true if is_new => self.blocked_since_ms.store(self.now_ms(), Ordering::Relaxed),
            false if !is_new => self.blocked_since_ms.store(NEVER, Ordering::Relaxed),
            _ => {}
        }
    }

    fn all_written(&self) {
        self.flushes.fetch_add(1, Ordering::Release);
        self.flushed.wake();
    }

    /// How often everything that had been written until then had left this process.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    pub(super) fn poll_flushes_above(&self, count: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.flushed.register(cx.waker());
        if self.flushes() > count { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns when the connection has waited too long: for a request, for the rest of a head, or for its client to take
    /// something. Looks in steps of the shortest, so each gets that much more at most.
    pub(super) async fn overdue(&self, patience: Patience) -> Overdue {
        let Patience { idle, head, stall } = patience;
        loop {
            tokio::time::sleep(head.min(idle).min(stall)).await;
            let now = self.now_ms();
            let passed = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) >= limit.as_millis();
            let blocked_since = self.blocked_since_ms.load(Ordering::Relaxed);
            if blocked_since != NEVER && passed(blocked_since, stall) {
                return Overdue::Stalled;
            }
            if self.in_flight.load(Ordering::Relaxed) > 0 {
                continue;
            }
            let head_since = self.head_since_ms.load(Ordering::Relaxed);
            if head_since != NEVER && passed(head_since, head) {
                return Overdue::SlowHead;
            }
            if passed(self.idle_since_ms.load(Ordering::Relaxed), idle) {
                return Overdue::Idle;
            }
        }
    }
}

/// A request is under way while this lives.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that reports to its connection's [`Activity`].
pub(super) struct Reporting<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Reporting<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reporting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reporting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only when its own buffer is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.all_written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(10);
    const PATIENCE: Patience = Patience { idle: IDLE, head: HEAD, stall: Duration::from_secs(40) };

    #[tokio::test(start_paused = true)]
    async fn idle_connections_and_slow_heads_end_and_requests_do_not() {
        let activity = Activity::new();
        let start = Instant::now();
        assert_eq!(activity.overdue(PATIENCE).await, Overdue::Idle);
        assert_eq!(start.elapsed().as_secs(), 60);

        let activity = Activity::new();
        let start = Instant::now();
        activity.received();
        assert_eq!(activity.overdue(PATIENCE).await, Overdue::SlowHead);
        assert!(start.elapsed() <= 2 * HEAD);

        let activity = Activity::new();
        let request = activity.request(false);
        assert!(tokio::time::timeout(10 * IDLE, activity.overdue(PATIENCE)).await.is_err());
        let start = Instant::now();
        drop(request);
        activity.overdue(PATIENCE).await;
        assert!((60..=70).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let activity = Activity::new();
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = Reporting::new(ours, activity.clone());
        let _request = activity.request(false);
        let writing = async {
            loop {
                stream.write_all(&[7; 8]).await.unwrap();
            }
        };
        let start = Instant::now();
        let reading = async {
            let mut buf = [0; 4];
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(35)).await;
                theirs.read_exact(&mut buf).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let overdue = tokio::select! {
            overdue = activity.overdue(PATIENCE) => overdue,
            () = writing => unreachable!(),
            () = reading => unreachable!(),
        };
        assert_eq!(overdue, Overdue::Stalled);
        assert!((390..=400).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flotilla_base::ByteLen;
use flotilla_oci::{Algorithm, Digest};
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::{BoxFuture, ByteStream, Host, StreamError};
use flotilla_storage::{BlobConfig, BlobStore, Everything};
use flotilla_upstream::{Class, Download, Turn, UpstreamError};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    AlwaysGranted, Blob, LocalOnly, NobodyElse, Proof, Reader, Transfer, TransferError, fetch::Fetch, shares::Site,
};

/// Bodies that may pass by from one origin at once.
pub(super) const PASSES: usize = 2;

pub(super) struct Bench {
    pub transfer: Arc<Transfer>,
    pub fetch: Arc<FakeFetch>,
    pub blobs: BlobStore,
    pub host: Host,
    registry: Registry,
    _dir: Option<tempfile::TempDir>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Host::system(), ByteLen::gib(1)).await
    }

    pub(super) async fn with(host: Host, max_bytes: ByteLen) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        Self { _dir: Some(dir), ..Self::at(&path, host, max_bytes).await }
    }

    /// Over what an earlier one left in `dir`.
    pub(super) async fn at(dir: &Path, host: Host, max_bytes: ByteLen) -> Self {
        let mut registry = Registry::default();
        let config = BlobConfig {
            dir: dir.to_owned(),
            max_bytes,
            reserve: ByteLen(0),
            verify_interval: Duration::from_secs(3600),
            reuse_after: Duration::from_secs(60),
        };
        let blobs = BlobStore::open(host.clone(), config, Arc::new(Everything), &mut registry).await.unwrap();
        let fetch = Arc::new(FakeFetch::default());
        let transfer = Transfer::over(
            host.clone(),
            blobs.clone(),
            fetch.clone(),
            Arc::new(AlwaysGranted),
            Arc::new(LocalOnly),
            Arc::new(NobodyElse),
            &mut registry,
        );
        Self { transfer, fetch, blobs, host, registry, _dir: None }
    }

    /// Whether the metrics have this line.
    pub(super) fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|found| found == line)
    }

    /// Waits until the fill of `digest` has `count` followers.
    pub(super) async fn followers(&self, digest: &Digest, count: usize) {
        self.transfer.followers(digest, count).await;
    }
}

/// Origins by the name of their rule, each with the answers it is still to give.
#[derive(Default)]
pub(super) struct FakeFetch {
    scripts: Mutex<HashMap<String, Script>>,
    opened: watch::Sender<Vec<(String, u64)>>,
    turns: Mutex<Vec<Turn>>,
    trusted: Mutex<Vec<String>>,
}

/// Replies in order, each behind its gate if it has one.
type Script = VecDeque<(Option<oneshot::Receiver<()>>, Reply)>;

pub(super) enum Reply {
    Absent,
    Throttled,
    Circle,
    /// The bytes from the asked offset to this end, then a cut if that is not theirs.
    Body(Bytes, usize),
    Fed(usize, mpsc::Receiver<Result<Bytes, StreamError>>),
}

impl Reply {
    pub(super) fn body(bytes: &Bytes) -> Self {
        Self::Body(bytes.clone(), bytes.len())
    }

    pub(super) fn cut(bytes: &Bytes, at: usize) -> Self {
        Self::Body(bytes.clone(), at)
    }

    pub(super) fn fed(len: usize) -> (Self, mpsc::Sender<Result<Bytes, StreamError>>) {
        let (feed, fed) = mpsc::channel(4);
        (Self::Fed(len, fed), feed)
    }
}

impl FakeFetch {
    pub(super) fn script(&self, rule: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().map(|reply| (None, reply));
        self.scripts.lock().unwrap().entry(rule.to_owned()).or_default().extend(replies);
    }

    /// The reply is given when the gate is opened.
    pub(super) fn script_gated(&self, rule: &str, reply: Reply) -> oneshot::Sender<()> {
        let (open, gate) = oneshot::channel();
        self.scripts.lock().unwrap().entry(rule.to_owned()).or_default().push_back((Some(gate), reply));
        open
    }

    pub(super) fn trust(&self, rule: &str) {
        self.trusted.lock().unwrap().push(rule.to_owned());
    }

    pub(super) fn opened(&self) -> Vec<(String, u64)> {
        self.opened.borrow().clone()
    }

    /// Of each time that somebody was asked, as it is now.
    pub(super) fn classes(&self) -> Vec<Class> {
        self.turns.lock().unwrap().iter().map(Turn::class).collect()
    }

    pub(super) async fn asked_times(&self, times: usize) {
        self.opened.subscribe().wait_for(|opened| opened.len() >= times).await.unwrap();
    }

    pub(super) async fn asked(&self, rule: &str) {
        let mut opened = self.opened.subscribe();
        opened.wait_for(|opened| opened.iter().any(|(asked, _)| asked == rule)).await.unwrap();
    }
}

impl Fetch for FakeFetch {
    fn open<'a>(
        &'a self,
        origin: &'a Origin,
        digest: &'a Digest,
        from: u64,
        turn: Turn,
    ) -> BoxFuture<'a, Result<Download, TransferError>> {
        Box::pin(async move {
            let rule = origin.rule.as_str();
            self.turns.lock().unwrap().push(turn);
            self.opened.send_modify(|opened| opened.push((rule.to_owned(), from)));
            let next = self.scripts.lock().unwrap().get_mut(rule).and_then(VecDeque::pop_front);
            let (gate, reply) = next.unwrap_or_else(|| panic!("{rule} is asked more often than its script says"));
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            let host: Arc<str> = rule.into();
            match reply {
                Reply::Absent => Err(TransferError::of_upstream(digest, UpstreamError::NotFound { host })),
                Reply::Throttled => {
                    let error = UpstreamError::Throttled { host, retry_after: None };
                    Err(TransferError::of_upstream(digest, error))
                }
                Reply::Circle => Err(TransferError::of_upstream(digest, UpstreamError::Loop { host })),
                Reply::Body(bytes, end) => {
                    let (feed, fed) = mpsc::channel(4096);
                    let from = usize::try_from(from).unwrap();
                    // Odd pieces, so that the pump has something to gather.
                    for at in (from..end).step_by(7_777) {
                        feed.try_send(Ok(bytes.slice(at..end.min(at + 7_777)))).unwrap();
                    }
                    if end < bytes.len() {
                        feed.try_send(Err(cut())).unwrap();
                    }
                    Ok(Download { len: ByteLen(bytes.len() as u64), body: ByteStream::new(Fed(fed)) })
                }
                Reply::Fed(len, fed) => Ok(Download { len: ByteLen(len as u64), body: ByteStream::new(Fed(fed)) }),
            }
        })
    }

    fn prove<'a>(&'a self, origin: &'a Origin, _: &'a Digest, _: Turn) -> BoxFuture<'a, Result<Proof, TransferError>> {
        let trusted = self.is_trusted(origin);
        Box::pin(async move { Ok(Proof { len: None, trusted }) })
    }

    fn site(&self, origin: &Origin) -> Option<Site> {
        Some(Site { host: origin.rule.as_str().to_owned(), passes: PASSES })
    }

    fn is_trusted(&self, origin: &Origin) -> bool {
        self.trusted.lock().unwrap().iter().any(|rule| rule == origin.rule.as_str())
    }
}

struct Fed(mpsc::Receiver<Result<Bytes, StreamError>>);

impl futures_core::Stream for Fed {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

pub(super) fn cut() -> StreamError {
    StreamError(Box::new(io::Error::other("cut")))
}

pub(super) fn origin(rule: &str) -> Origin {
    Origin { rule: rule.parse().unwrap(), name: "some/image".parse().unwrap() }
}

/// Bytes that no other `seed` has.
pub(super) fn blob_of(seed: u64, len: usize) -> Bytes {
    let entropy = flotilla_runtime::Entropy::Seeded(Arc::new(seed.wrapping_mul(0x9e37_79b9).into()));
    let mut bytes = BytesMut::zeroed(len);
    entropy.fill(&mut bytes);
    bytes.freeze()
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap()
}

/// Where the store in `dir` keeps a sealed blob's bytes.
pub(super) fn data_of(dir: &Path, hex: &str) -> std::path::PathBuf {
    dir.join("sealed").join(&hex[..2]).join(format!("sha256-{hex}"))
}

pub(super) async fn drained(mut reader: Reader) -> Result<Bytes, TransferError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = reader.chunk().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.freeze())
}

/// All bytes, or how many came before the cut.
pub(super) async fn drained_stream(mut body: ByteStream) -> Result<Bytes, usize> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(_) => return Err(bytes.len()),
        }
    }
    Ok(bytes.freeze())
}

pub(super) fn through(blob: Blob) -> (ByteLen, ByteStream) {
    match blob {
        Blob::Through { len, body } => (len, body),
        Blob::Local(_) => panic!("the blob should pass through"),
    }
}

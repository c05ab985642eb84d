//! A registry that answers what a test has put into it, and notes what it was asked. One server plays several hosts,
//! by the first part of the path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use flotilla_oci::{Digest, MediaType};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::bench::digest_of;

/// Answered as a circle, as by an upstream that is a cache of this name.
pub(super) const FORGED_HOP: &str = "forged";

#[derive(Clone)]
pub(super) struct Upstream {
    pub port: u16,
    state: Arc<Mutex<State>>,
    open: watch::Sender<bool>,
    /// Requests whose path has this part are not answered.
    held_back: watch::Sender<Option<&'static str>>,
}

#[derive(Default)]
struct State {
    /// By path: content type, digest, bytes.
    content: HashMap<String, (String, Digest, Bytes)>,
    /// Answered to everything.
    status: Option<u16>,
    /// What is left of how much of its rate limit, as it tells with each answer.
    quota: Option<(u64, u64)>,
    /// Answers to HEAD do not tell the length.
    hides_len: bool,
    asked: Vec<String>,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream =
            Self { port, state: Arc::default(), open: watch::Sender::new(true), held_back: watch::Sender::new(None) };
        let server = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        upstream
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Under its tag and its digest.
    pub(super) fn put_manifest(&self, host: &str, name: &str, tag: &str, bytes: &Bytes) -> Digest {
        self.put_manifest_as(MediaType::OCI_MANIFEST, host, name, tag, bytes)
    }

    pub(super) fn put_manifest_as(&self, media_type: &str, host: &str, name: &str, tag: &str, bytes: &Bytes) -> Digest {
        let digest = digest_of(bytes);
        for reference in [tag, &digest.to_string()] {
            let path = format!("/{host}/v2/{name}/manifests/{reference}");
            let entry = (media_type.to_owned(), digest, bytes.clone());
            self.state().content.insert(path, entry);
        }
        digest
    }

    /// Under a digest that may be another one's.
    pub(super) fn put_blob(&self, host: &str, name: &str, digest: Digest, bytes: &Bytes) {
        let path = format!("/{host}/v2/{name}/blobs/{digest}");
        self.state().content.insert(path, ("application/octet-stream".to_owned(), digest, bytes.clone()));
    }

    pub(super) fn clear(&self) {
        self.state().content.clear();
    }

    pub(super) fn answer_all_with(&self, status: Option<u16>) {
        self.state().status = status;
    }

    pub(super) fn tell_quota(&self, remaining: u64, limit: u64) {
        self.state().quota = Some((remaining, limit));
    }

    pub(super) fn hide_len(&self) {
        self.state().hides_len = true;
    }

    /// Requests are taken and not answered until it is opened again.
    pub(super) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// As [`Upstream::set_open`], for paths with this part; `None` lets them go.
    pub(super) fn hold_back(&self, part: Option<&'static str>) {
        self.held_back.send_replace(part);
    }

    /// Method and path of every request since the last call, without the host.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// Requests since the last [`Upstream::asked`] whose path has this part.
    pub(super) fn seen(&self, part: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.contains(part)).count()
    }

    pub(super) fn count(&self, method: &str) -> usize {
        self.asked().iter().filter(|asked| asked.starts_with(method)).count()
    }

    /// Waits for a request that begins so.
    pub(super) async fn is_asked(&self, begins: &str) {
        while !self.state().asked.iter().any(|asked| asked.starts_with(begins)) {
            tokio::task::yield_now().await;
        }
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            let mut words = head[0].split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            self.state().asked.push(format!("{method} {path}"));
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            let is_free = |part: &Option<&str>| part.is_none_or(|part| !path.contains(part));
            let _ = self.held_back.subscribe().wait_for(is_free).await;
            let range = head.iter().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let from = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?;
                name.eq_ignore_ascii_case("range").then(|| from.parse::<usize>().unwrap())
            });
            let is_circle = head.iter().any(|line| line.starts_with("flotilla-hop:") && line.contains(FORGED_HOP));
            let (mut head, body) = self.answer(&path, range, is_circle);
            if let Some((remaining, limit)) = self.state().quota {
                let told =
                    format!("\r\nratelimit-limit: {limit};w=21600\r\nratelimit-remaining: {remaining};w=21600\r\n\r\n");
                head = head.replace("\r\n\r\n", &told);
            }
            if method == "HEAD" && self.state().hides_len {
                head = head.replace("content-length", "x-length");
            }
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            if method != "HEAD" && stream.write_all(&body).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, path: &str, range: Option<usize>, is_circle: bool) -> (String, Bytes) {
        let state = self.state();
        let status = |status: u16| {
            let wait = if status == 429 { "retry-after: 30\r\n" } else { "" };
            (format!("HTTP/1.1 {status} X\r\n{wait}content-length: 0\r\n\r\n"), Bytes::new())
        };
        match (state.status, state.content.get(path)) {
            _ if is_circle => status(508),
            (Some(code), _) => status(code),
            (None, None) => status(404),
            (None, Some((media_type, digest, bytes))) => {
                let (code, extra, body) = match range {
                    Some(from) => {
                        let range = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                        (206, range, bytes.slice(from..))
                    }
                    None => (200, String::new(), bytes.clone()),
                };
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-type: {media_type}\r\ndocker-content-digest: {digest}\r\n{extra}\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                (head, body)
            }
        }
    }
}

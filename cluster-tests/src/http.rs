//! A client that hides nothing: HTTP/1.1 over a blocking socket, one connection per request unless asked otherwise, every
//! body byte hashed and counted, and a cut body told apart from a whole one.

mod connection;

use std::{io, net::SocketAddr, time::Duration};

use aws_lc_rs::digest;
pub use connection::{Connection, Head};

/// Longer than any deadline of the server's own: a test that hangs should say where.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bodies that are kept in memory; blobs go through [`Client::fetch`].
const KEPT_LIMIT_BYTES: u64 = 16 << 20;

/// Talks to one address; cheap to clone, holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    headers: Vec<(String, String)>,
    patience: Duration,
}

/// An answer with its body in memory.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What came of a download whose body was looked at and dropped.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub received_bytes: u64,
    /// `sha256:…` of what was received.
    pub digest: String,
    /// The body was as long as its `Content-Length` (or its chunks ended as they should).
    pub complete: bool,
    /// How it broke off.
    pub error: Option<io::ErrorKind>,
    pub first_byte: Duration,
    pub took: Duration,
}

impl Client {
    /// # Panics
    /// When `endpoint` is not `http://ADDRESS:PORT`.
    pub fn new(endpoint: &str) -> Self {
        let address = endpoint.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        let address = address.unwrap_or_else(|| panic!("not an http address: {endpoint}"));
        Self { address, headers: Vec::new(), patience: PATIENCE }
    }

    /// Sends this header with every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives up after this long without a byte.
    #[must_use]
    pub const fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn head(&self, path: &str) -> Response {
        self.request("HEAD", path, &[], b"")
    }

    /// # Panics
    /// When no whole answer comes.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        match self.try_request(method, path, headers, body) {
            Ok(response) => response,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// # Errors
    /// When no whole answer comes.
    pub fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        let mut connection = self.connect()?;
        let head = connection.send(method, path, &self.all(headers), body)?;
        let mut kept = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = connection.read_body(&mut buffer)?;
            if n == 0 {
                return Ok(Response { status: head.status, headers: head.headers, body: kept });
            }
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() as u64 > KEPT_LIMIT_BYTES {
                return Err(io::Error::other("a body this long is for fetch"));
            }
        }
    }

    /// GETs `path`, hashing the body and keeping none of it. A refused connection, a cut body and a body of the wrong
    /// length are results, not panics.
    pub fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Fetched {
        let start = std::time::Instant::now();
        let mut context = digest::Context::new(&digest::SHA256);
        let mut fetched = Fetched {
            status: 0,
            headers: Vec::new(),
            received_bytes: 0,
            digest: String::new(),
            complete: false,
            error: None,
            first_byte: Duration::MAX,
            took: Duration::ZERO,
        };
        if let Err(error) = self.fetch_into(path, headers, &mut fetched, &mut context, start) {
            fetched.error = Some(error.kind());
        }
        fetched.took = start.elapsed();
        fetched.digest = format!("sha256:{}", hex::encode(context.finish()));
        fetched
    }

    /// A connection on which several requests may follow each other, with this client's headers left to the caller.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address, self.patience)
    }

    fn fetch_into(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        fetched: &mut Fetched,
        context: &mut digest::Context,
        start: std::time::Instant,
    ) -> io::Result<()> {
        let mut connection = self.connect()?;
        let head = connection.send("GET", path, &self.all(headers), b"")?;
        (fetched.status, fetched.headers) = (head.status, head.headers);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = connection.read_body(&mut buffer)?;
            if n == 0 {
                fetched.complete = true;
                return Ok(());
            }
            if fetched.received_bytes == 0 {
                fetched.first_byte = start.elapsed();
            }
            context.update(&buffer[..n]);
            fetched.received_bytes += n as u64;
        }
    }

    fn all<'a>(&'a self, headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(headers.iter().copied()).collect()
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// The first code of an error of the registry protocol; empty when the body is none.
    pub fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Fetched {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A name that no resolver but a test's own knows.
pub(super) const NAME: &str = "registry.test";

/// A TLS server's end and its certificate, for `127.0.0.1` and [`NAME`], as PEM.
pub(super) fn certificate() -> (TlsAcceptor, String) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), own.cert.pem())
}

/// One request as it came, names of headers in lower case.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
    /// How many came before for the same target.
    pub(super) nth: usize,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The offset of `Range: bytes=N-`.
    pub(super) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the script answers.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How many bytes of the body are sent, and what happens then.
    end: Option<(usize, End)>,
    chunked: bool,
    /// Sends the body in pieces of one byte with this pause after each.
    trickle: Option<Duration>,
}

#[derive(Clone, Copy)]
enum End {
    Cut,
    Stall,
    /// Closes without a word.
    Silence,
    /// Says nothing and stays.
    Mute,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: None, chunked: false, trickle: None }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// 200, or 206 from the offset that was asked for.
    pub(super) fn blob(request: &Request, body: &[u8]) -> Self {
        match request.from() {
            None => Self::ok(body),
            Some(from) => Self::new(206)
                .header("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
                .body(&body[from..]),
        }
    }

    pub(super) fn redirect(location: impl Into<String>) -> Self {
        Self::new(307).header("Location", location)
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn cut_at(mut self, bytes: usize) -> Self {
        self.end = Some((bytes, End::Cut));
        self
    }

    pub(super) fn stall_at(mut self, bytes: usize) -> Self {
        self.end = Some((bytes, End::Stall));
        self
    }

    /// Nothing at all, then the end of the connection.
    pub(super) fn hang_up() -> Self {
        Self { end: Some((0, End::Silence)), ..Self::new(200) }
    }

    /// Nothing at all, and the connection stays.
    pub(super) fn mute() -> Self {
        Self { end: Some((0, End::Mute)), ..Self::new(200) }
    }

    pub(super) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub(super) fn trickle(mut self, pause: Duration) -> Self {
        self.trickle = Some(pause);
        self
    }
}

pub(super) struct Server {
    scheme: &'static str,
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    /// Connections that stand.
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), None, script).await
    }

    /// On another address of this machine than loopback.
    pub(super) async fn start_at(ip: IpAddr, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(ip, None, script).await
    }

    /// With TLS; the certificate, for `127.0.0.1` and [`NAME`], comes as PEM.
    pub(super) async fn start_tls(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Self, String) {
        let (tls, pem) = certificate();
        (Self::start_on(Ipv4Addr::LOCALHOST.into(), Some(tls), script).await, pem)
    }

    async fn start_on(
        ip: IpAddr,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, sent, accepted) = (Arc::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (opened, open) = watch::channel(0);
        let serve = Arc::new(Serve { script: Box::new(script), log: Arc::clone(&log), sent: sent.clone() });
        let mut tasks = JoinSet::new();
        let count = accepted.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                opened.send_modify(|open| *open += 1);
                let (serve, opened, tls) = (serve.clone(), opened.clone(), tls.clone());
                connections.spawn(async move {
                    let _ = match tls {
                        None => serve.connection(stream).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve.connection(stream).await,
                            Err(error) => Err(error),
                        },
                    };
                    opened.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { scheme, address, log, sent, accepted, open, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Under [`NAME`], which a resolver has to know.
    pub(super) fn named_url(&self, path: &str) -> String {
        format!("{}://{NAME}:{}{path}", self.scheme, self.address.port())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Bytes of bodies that were handed to the network.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until no connection stands.
    pub(super) async fn all_closed(&self) {
        let mut open = self.open.clone();
        tokio::time::timeout(Duration::from_secs(5), open.wait_for(|open| *open == 0)).await.unwrap().unwrap();
    }
}

struct Serve {
    script: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
}

impl Serve {
    async fn connection(&self, stream: impl AsyncRead + AsyncWrite) -> std::io::Result<()> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        while let Some(request) = self.request(&mut reader).await? {
            let reply = (self.script)(&request);
            let Some(end) = self.reply(&request, reply, &mut writer).await? else { continue };
            if matches!(end, End::Stall | End::Mute) {
                // Until the client goes.
                let _ = reader.read_u8().await;
            }
            return Ok(());
        }
        Ok(())
    }

    async fn request(&self, reader: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<Request>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut first = lines[0].split(' ').map(str::to_owned);
        let (method, target) = (first.next().unwrap(), first.next().unwrap());
        let headers = lines[1..].iter().map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let headers: HashMap<String, String> = headers.collect();
        let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
        reader.read_exact(&mut vec![0; len]).await?;
        let mut log = self.log.lock().unwrap();
        let nth = log.iter().filter(|before: &&Request| before.target == target).count();
        let request = Request { method, target, headers, nth };
        log.push(request.clone());
        Ok(Some(request))
    }

    async fn reply(
        &self,
        request: &Request,
        reply: Reply,
        writer: &mut (impl AsyncWriteExt + Unpin),
    ) -> std::io::Result<Option<End>> {
        if let Some((_, end @ (End::Silence | End::Mute))) = reply.end {
            return Ok(Some(end));
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &match reply.chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n\r\n", reply.body.len()),
        };
        writer.write_all(head.as_bytes()).await?;
        if request.method == "HEAD" {
            return Ok(None);
        }
        let (upto, end) = match reply.end {
            Some((upto, end)) => (upto.min(reply.body.len()), Some(end)),
            None => (reply.body.len(), None),
        };
        let step = if reply.trickle.is_some() { 1 } else { 64 << 10 };
        for piece in reply.body[..upto].chunks(step) {
            if reply.chunked {
                writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            }
            writer.write_all(piece).await?;
            if reply.chunked {
                writer.write_all(b"\r\n").await?;
            }
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            if let Some(pause) = reply.trickle {
                tokio::time::sleep(pause).await;
            }
        }
        if reply.chunked && end.is_none() {
            writer.write_all(b"0\r\n\r\n").await?;
        }
        Ok(end)
    }
}

//! Through proxies: what they see, what they do not, and when they are not asked.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_base::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{
    HOST, Node, digest, name, read,
    server::{NAME, Reply, Server, certificate},
    tag,
};
use crate::{BlockReason, HttpError, Resolver, UpstreamConfig, UpstreamError};

/// A proxy that tunnels every CONNECT to one server.
struct Tunnels {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Tunnels {
    async fn start(tls: Option<TlsAcceptor>, to: std::net::SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        let log = heads.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, log) = (tls.clone(), log.clone());
                connections.spawn(async move {
                    let _ = match tls {
                        None => tunnel(stream, to, answer, &log).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => tunnel(stream, to, answer, &log).await,
                            Err(_) => None,
                        },
                    };
                });
            }
        });
        Self { port, heads, _tasks: tasks }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(
    mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    to: std::net::SocketAddr,
    answer: &str,
    log: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    log.lock().unwrap().push(String::from_utf8(head).unwrap());
    client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.ok()?;
    client.flush().await.ok()?;
    let mut server = TcpStream::connect(to).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}

fn secret(text: impl Into<String>) -> Option<Secret> {
    Some(Secret::from(text.into()))
}

/// Every name is this machine; only a proxy's is asked for.
fn here(config: &mut UpstreamConfig) {
    config.resolver = Resolver::Scripted(Arc::new(|_| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]));
}

fn base(config: &mut UpstreamConfig, url: &str) {
    config.hosts.get_mut(HOST).unwrap().base_url = Some(Url::parse(url).unwrap());
}

fn file(pem: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn an_http_upstream_is_asked_for_by_its_whole_url() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("us:pr0xy"));
    let proxy = Server::start(|request| match request.header("proxy-authorization") {
        None => Reply::new(407),
        Some(_) if request.target.starts_with("http://registry.test:81/v2/") => Reply::ok("x"),
        Some(_) => Reply::new(400),
    })
    .await;
    let port = proxy.address().port();
    let node = Node::with(&proxy, |config| {
        base(config, &format!("http://{NAME}:81"));
        config.http_proxy = secret(format!("http://us:pr0xy@127.0.0.1:{port}"));
    });
    for _ in 0..2 {
        assert!(read(node.anonymous().blob(&name(), &digest(b"x"), 0).await.unwrap()).await.1.is_ok());
    }
    for request in proxy.log() {
        assert_eq!(request.header("proxy-authorization"), Some(basic.as_str()));
        assert_eq!(request.header("host"), Some("registry.test:81"));
    }
    assert_eq!((proxy.log().len(), proxy.accepted()), (2, 1), "the connection is used again");

    let wrong = Node::with(&proxy, |config| {
        base(config, &format!("http://{NAME}:81"));
        config.http_proxy = secret(format!("127.0.0.1:{port}"));
    });
    assert!(matches!(
        wrong.anonymous().head(&name(), &tag()).await.unwrap_err(),
        UpstreamError::Status { status: 407, .. }
    ));
}

#[tokio::test]
async fn an_https_upstream_is_at_the_end_of_a_tunnel() {
    let (server, pem) = Server::start_tls(|request| match request.header("authorization") {
        Some(_) => Reply::ok("x"),
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let (proxy_tls, proxy_pem) = certificate();
    let ca = file(&format!("{pem}{proxy_pem}"));
    for (scheme, tls) in [("http", None), ("https", Some(proxy_tls))] {
        let proxy = Tunnels::start(tls, server.address(), "200 Connection established").await;
        let node = Node::with(&server, |config| {
            base(config, &format!("https://{NAME}"));
            here(config);
            config.ca_file = Some(ca.path().to_owned());
            config.https_proxy = secret(format!("{scheme}://us:pr0xy@127.0.0.1:{}", proxy.port));
        });
        let download = node.user("s3cret").blob(&name(), &digest(b"x"), 0).await.unwrap();
        assert!(read(download).await.1.is_ok());
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        assert!(heads[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n"), "{heads:?}");
        let basic = format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode("us:pr0xy"));
        assert!(heads[0].contains(&basic) && !heads[0].contains("\r\nAuthorization"), "{heads:?}");
    }
    assert!(server.log().iter().all(|request| request.header("proxy-authorization").is_none()));
    // Trusted by the file for all, and by nothing else.
    let proxy = Tunnels::start(None, server.address(), "200 OK").await;
    let node = Node::with(&server, |config| {
        base(config, &format!("https://{NAME}"));
        config.https_proxy = secret(format!("http://127.0.0.1:{}", proxy.port));
    });
    let error = node.anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { source: HttpError::Tls { .. }, .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let (server, _) = Server::start_tls(|_| Reply::ok("x")).await;
    for (answer, refused) in [("407 Proxy Authentication Required", true), ("nonsense", false)] {
        let proxy = Tunnels::start(None, server.address(), answer).await;
        let node = Node::with(&server, |config| {
            base(config, &format!("https://{NAME}"));
            config.https_proxy = secret(format!("http://us:pr0xy@127.0.0.1:{}", proxy.port));
        });
        let error = node.anonymous().head(&name(), &tag()).await.unwrap_err();
        let UpstreamError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(matches!(source, HttpError::ProxyStatus { status: 407, .. }), refused, "{source:?}");
        let told = format!("{error:?} {source}");
        assert!(told.contains(&format!("127.0.0.1:{}", proxy.port)) && !told.contains("pr0xy@"), "{told}");
        assert_eq!(node.requests("proxy"), 1, "it is not asked again");
    }
    assert_eq!(server.accepted(), 1, "by the proxy that went on talking");
}

#[tokio::test]
async fn what_is_listed_goes_without_the_proxy() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let proxy = Server::start(|_| Reply::ok("{}")).await;
    for (entry, direct) in [(NAME, true), (".test", true), ("other.test", false)] {
        let before = (server.log().len(), proxy.log().len());
        let node = Node::with(&server, |config| {
            base(config, &server.named_url(""));
            here(config);
            config.http_proxy = secret(proxy.url(""));
            config.no_proxy = Some(vec![entry.to_owned()]);
        });
        node.anonymous().head(&name(), &tag()).await.unwrap();
        let asked = (server.log().len() - before.0, proxy.log().len() - before.1);
        assert_eq!(asked, if direct { (1, 0) } else { (0, 1) }, "{entry}");
    }
}

#[tokio::test]
async fn a_redirect_behind_a_proxy_is_judged_by_what_is_known_here() {
    for (to, refused) in [("10.0.0.1", true), ("127.0.0.1", true), ("inside.test", true), ("outside.test", false)] {
        let location = format!("http://{to}/signed");
        let proxy = Server::start(move |request| match request.target.starts_with("http://registry.test/") {
            true => Reply::redirect(location.as_str()),
            false => Reply::ok("x"),
        })
        .await;
        let node = Node::with(&proxy, |config| {
            base(config, &format!("http://{NAME}"));
            config.http_proxy = secret(proxy.url(""));
            config.resolver = Resolver::Scripted(Arc::new(|name| match name {
                "inside.test" => vec!["10.0.0.1".parse().unwrap()],
                // Known to the proxy alone.
                _ => Vec::new(),
            }));
        });
        let result = node.anonymous().blob(&name(), &digest(b"x"), 0).await.map(drop);
        match result {
            Err(UpstreamError::Blocked { reason: BlockReason::Address { .. }, .. }) => assert!(refused, "{to}"),
            result => assert!(!refused && result.is_ok(), "{to}: {result:?}"),
        }
        assert_eq!(proxy.log().len(), if refused { 1 } else { 2 }, "{to}");
    }
}

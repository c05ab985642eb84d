use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use flotilla_runtime::{ByteStream, Host, StreamError};
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::TlsConnector;

use super::{
    test_client::{Reply, get, read, send},
    *,
};
use crate::metrics::ApiMetrics;

const MIB: usize = 1 << 20;

/// Answers by path.
#[derive(Default)]
struct Stub {
    draining: AtomicBool,
    release: Arc<Notify>,
}

impl Answer for Stub {
    async fn answer(&self, arrival: Arrival, request: Request<Incoming>) -> Response<Body> {
        let announced = |len: usize, body| Response::builder().header(header::CONTENT_LENGTH, len).body(body).unwrap();
        let chunk = || Ok(Bytes::from(vec![7; MIB]));
        match request.uri().path() {
            "/origin" => Response::new(Body::from(arrival.origin.to_string())),
            "/whole" => announced(4 * MIB, Body::Stream(ByteStream::new(stream::iter((0..4).map(move |_| chunk()))))),
            // hyper holds back what is small, so that a failure right behind it could overtake it.
            "/error" => {
                let small = Ok(Bytes::from_static(&[7; 100]));
                let chunks = stream::iter([chunk(), small, Err(StreamError("disk on fire".into()))]);
                announced(4 * MIB, Body::Stream(ByteStream::new(chunks)))
            }
            "/at-once" => {
                let broken = stream::iter([Err(StreamError("disk on fire".into()))]);
                announced(4 * MIB, Body::Stream(ByteStream::new(broken)))
            }
            "/short" => announced(4 * MIB, Body::Stream(ByteStream::new(stream::iter([chunk()])))),
            "/slow" => {
                let release = self.release.clone();
                let rest = stream::once(async move {
                    release.notified().await;
                    Ok(Bytes::from(vec![7; MIB]))
                });
                announced(2 * MIB, Body::Stream(ByteStream::new(stream::iter([chunk()]).chain(rest))))
            }
            _ => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

fn config() -> HttpConfig {
    HttpConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        drain_delay_seconds: 0,
        drain_timeout_seconds: 1,
        ..HttpConfig::default()
    }
}

fn start(config: HttpConfig) -> (SocketAddr, Arc<Stub>, Server) {
    start_on(config, Host::system())
}

fn start_on(config: HttpConfig, host: Host) -> (SocketAddr, Arc<Stub>, Server) {
    let bound = Bound::bind(DoorsConfig { http: config, ..DoorsConfig::default() }).unwrap();
    let address = bound.addresses()[0];
    let door = Arc::new(Stub::default());
    let metrics = ApiMetrics::register(&mut Registry::default());
    let observer = Arc::new(observe::Observer { node: "n1".into(), region: "here".into(), metrics });
    (address, door.clone(), Server::start(bound, door, host, observer))
}

#[tokio::test]
async fn every_response_carries_an_id_and_the_security_headers() {
    let (to, ..) = start(config());
    for reply in [get(to, "/origin", &[]).await, get(to, "/nothing", &[]).await] {
        assert_eq!(reply.header("x-amzn-requestid"), reply.header("x-request-id"));
        assert_eq!(reply.header("x-request-id").len(), 36);
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("content-security-policy"), "default-src 'none'; sandbox");
    }
    assert_eq!(get(to, "/origin", &[]).await.text(), format!("http://{to}"));
}

#[tokio::test]
async fn a_foreign_host_is_misdirected_on_loopback() {
    let (to, ..) = start(config());
    assert_eq!(get(to, "/origin", &["Host: evil.example"]).await.status, 421);
    assert_eq!(get(to, "/origin", &["Host: localhost", "Host: localhost"]).await.status, 400);
    assert_eq!(get(to, "/origin", &["Host: localhost:99"]).await.text(), "http://localhost:99");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let (to, ..) = start(config());
    let reply = send(to, "HEAD", "/whole", &[], b"").await;
    assert_eq!((reply.header("content-length"), reply.body.len()), ("4194304", 0));
    assert_eq!(get(to, "/whole", &[]).await.body.len(), 4 * MIB);
}

#[tokio::test]
async fn a_failed_body_is_cut_by_fin_after_what_came_before_it() {
    let (to, ..) = start(config());
    for (path, sent) in [("/error", MIB + 100), ("/at-once", 0), ("/short", MIB)] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
        let Reply { headers, body, .. } = read(stream).await;
        assert_eq!(headers["content-length"], (4 * MIB).to_string());
        assert_eq!(body.len(), sent, "{path}");
    }
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let (to, ..) = start(config());
    let long = format!("X-Long: {}", "a".repeat(40 << 10));
    assert_eq!(get(to, "/origin", &[&long]).await.status, 431);
    let many: Vec<String> = (0..101).map(|i| format!("X-{i}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(get(to, "/origin", &many).await.status, 431);
}

#[tokio::test]
async fn a_drain_finishes_bodies_and_refuses_connections() {
    let host = Host::system();
    let (to, door, server) = start_on(config(), host.clone());
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(format!("GET /slow HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 1];
    stream.peek(&mut first).await.unwrap();
    let stopping = tokio::spawn(async move { server.drain().await });
    while TcpStream::connect(to).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(door.draining.load(Ordering::Relaxed));
    door.release.notify_one();
    assert_eq!(read(stream).await.body.len(), 2 * MIB);
    assert!(stopping.await.unwrap());
    assert!(host.tasks.finish(Duration::from_secs(5)).await, "nothing is left behind");
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end() {
    let (to, _door, server) = start(config());
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(format!("GET /slow HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 1];
    stream.peek(&mut first).await.unwrap();
    assert!(!server.drain().await);
    assert_eq!(read(stream).await.body.len(), MIB);
}

#[tokio::test]
async fn tls_prefers_http1_and_speaks_h2() {
    let dir = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, issued.cert.pem()).unwrap();
    std::fs::write(&key_file, issued.signing_key.serialize_pem()).unwrap();
    let (to, ..) = start(HttpConfig { tls: Some(TlsConfig { cert_file, key_file }), ..config() });

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(issued.cert.der().to_vec())).unwrap();
    for (offered, chosen) in [(vec!["h2", "http/1.1"], "http/1.1"), (vec!["h2"], "h2")] {
        let mut client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
        if chosen == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(
                hyper_util::rt::TokioExecutor::new(),
                hyper_util::rt::TokioIo::new(stream),
            )
            .await
            .unwrap();
            tokio::spawn(connection);
            let request = Request::get("https://localhost/origin").body(http_body_util::Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            assert_eq!(body, "https://localhost");
            // A body that fails is a stream's error, not its end.
            let request = Request::get("https://localhost/error").body(http_body_util::Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());
        } else {
            stream.write_all(b"GET /origin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            // The server may end the connection without TLS's own goodbye.
            let _ = stream.read_to_string(&mut text).await;
            assert!(text.ends_with("https://localhost"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_bad_certificate_fails_before_any_port_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, "").unwrap();
    let tls = |key_file: &std::path::Path| Some(TlsConfig { cert_file: cert_file.clone(), key_file: key_file.into() });
    let http = HttpConfig { tls: tls(&key_file), ..config() };
    let error = Bound::bind(DoorsConfig { http, ..DoorsConfig::default() }).err().unwrap();
    assert!(matches!(error, BindError::NoCertificate(_)), "{error}");
}

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
            "/who" => {
                Response::new(Body::from(format!("{} {} {}", arrival.client, arrival.private, arrival.origin.scheme)))
            }
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
        assert_eq!(reply.header("x-frame-options"), "DENY");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("strict-transport-security"), "");
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
    assert_eq!(get(to, &format!("/{}", "a".repeat(8 << 10)), &[]).await.status, 414);
    assert_eq!(get(to, &format!("/origin?{}", "a".repeat(8000)), &[]).await.status, 200);
}

#[tokio::test]
async fn without_tls_there_is_no_http2() {
    let (to, ..) = start(config());
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
}

#[tokio::test]
async fn ipv6_is_a_way_like_any_other() {
    let (to, ..) = start(HttpConfig { listen: vec!["[::1]:0".parse().unwrap()], ..config() });
    assert_eq!(get(to, "/origin", &[]).await.text(), format!("http://{to}"));
    assert_eq!(get(to, "/who", &[]).await.text(), "::1 true http");
    for (host, status) in [("[::1]", 200), ("[::ffff:127.0.0.1]:1", 200), ("localhost", 200), ("[fe80::1%25lo]", 421)] {
        assert_eq!(get(to, "/origin", &[&format!("Host: {host}")]).await.status, status, "{host}");
    }
}

/// A configuration behind proxies on this machine.
fn proxied(http: HttpConfig) -> HttpConfig {
    HttpConfig { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..http }
}

#[tokio::test]
async fn only_trusted_proxies_say_who_the_client_is_and_how_it_came() {
    let forged = &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example"][..];
    let (to, ..) = start(config());
    assert_eq!(get(to, "/who", forged).await.text(), "127.0.0.1 true http");
    let (to, ..) = start(proxied(config()));
    let reply = get(to, "/who", forged).await;
    assert_eq!(reply.text(), "192.0.2.1 true https");
    assert_eq!(reply.header("strict-transport-security"), "max-age=31536000");
    assert_eq!(get(to, "/origin", forged).await.text(), format!("https://{to}"));
    // Behind a proxy on this machine a client is not on it.
    assert_eq!(get(to, "/who", &forged[..1]).await.text(), "192.0.2.1 false http");
    assert_eq!(get(to, "/who", &[]).await.text(), "127.0.0.1 true http");
}

async fn after(to: SocketAddr, header: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(header).await.unwrap();
    let request = format!("GET /who HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut first = [0; 1];
    match stream.peek(&mut first).await {
        Ok(1) => Some(read(stream).await),
        _ => None,
    }
}

#[tokio::test]
async fn a_proxy_header_is_needed_where_it_is_configured_and_from_proxies_only() {
    let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4];
    let named = proxy_protocol::tests::header(1, 0x11, &v4);
    let (to, ..) = start(proxied(HttpConfig { proxy_protocol: true, ..config() }));
    assert_eq!(after(to, &named).await.unwrap().text(), "192.0.2.1 false http");
    let itself = proxy_protocol::tests::header(0, 0, &[]);
    assert_eq!(after(to, &itself).await.unwrap().text(), "127.0.0.1 true http");
    assert!(after(to, b"").await.is_none(), "no header");
    assert!(after(to, b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n").await.is_none(), "version 1");
    let (to, ..) = start(HttpConfig { proxy_protocol: true, ..config() });
    assert!(after(to, &named).await.is_none(), "no trusted proxy");
    let (to, ..) = start(config());
    assert_eq!(after(to, &named).await.unwrap().status, 400, "nobody expects it");
}

#[tokio::test]
async fn a_client_may_have_so_many_connections() {
    let named = proxy_protocol::tests::header(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]);
    let one = 1.try_into().unwrap();
    let http = HttpConfig { proxy_protocol: true, max_connections_per_client: one, ..config() };
    let (to, ..) = start(proxied(http));
    let mut first = TcpStream::connect(to).await.unwrap();
    first.write_all(&named).await.unwrap();
    first.write_all(format!("GET /who HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    first.peek(&mut [0; 1]).await.unwrap();
    assert!(after(to, &named).await.is_none());
    let other = proxy_protocol::tests::header(1, 0x11, &[192, 0, 2, 2, 10, 0, 0, 1, 1, 2, 3, 4]);
    assert!(after(to, &other).await.is_some());
}

#[tokio::test]
async fn names_proxies_and_certificates_change_while_the_doors_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let first = certificate(dir.path(), "a");
    let http = HttpConfig { tls: Some(first.0.clone()), ..config() };
    let (to, _door, server) = start(http.clone());
    assert_eq!(served(to).await, first.1);
    let mut second = certificate(dir.path(), "b");
    let (cert_file, key_file) = (first.0.cert_file.clone(), second.0.key_file.clone());
    let mixed = HttpConfig { tls: Some(TlsConfig { cert_file, key_file }), ..http.clone() };
    let doors = |http| DoorsConfig { http, ..DoorsConfig::default() };
    assert!(matches!(server.reload(&doors(mixed)).await, Err(BindError::Tls(_))));
    assert_eq!(served(to).await, first.1, "what is no pair is not served");
    assert!(matches!(server.reload(&doors(config())).await, Err(BindError::TlsSwitched)));
    let new = HttpConfig { tls: Some(second.0.clone()), ..http };
    server.reload(&doors(new.clone())).await.unwrap();
    assert_eq!(served(to).await, second.1);
    second.0.key_file.push("nothing");
    assert!(server.reload(&doors(HttpConfig { tls: Some(second.0), ..new })).await.is_err());

    let (to, _door, server) = start(config());
    assert_eq!(get(to, "/origin", &["Host: new.example"]).await.status, 421);
    let new = HttpConfig { allowed_hosts: vec!["new.example".into()], max_uri_bytes: 10, ..proxied(config()) };
    server.reload(&doors(new)).await.unwrap();
    assert_eq!(get(to, "/origin", &["Host: new.example"]).await.status, 200);
    assert_eq!(get(to, "/who", &["X-Forwarded-For: 192.0.2.1"]).await.text(), "192.0.2.1 false http");
    assert_eq!(get(to, "/origin?12345", &[]).await.status, 414);
    let bad = HttpConfig { public_url: Some("nonsense".into()), ..config() };
    assert!(server.reload(&doors(bad)).await.is_err());
    assert_eq!(get(to, "/origin", &["Host: new.example"]).await.status, 200);
}

/// A pair of files, and the certificate itself.
pub(super) fn certificate(dir: &std::path::Path, name: &str) -> (TlsConfig, Vec<u8>) {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files =
        TlsConfig { cert_file: dir.join(format!("{name}-cert.pem")), key_file: dir.join(format!("{name}-key.pem")) };
    std::fs::write(&files.cert_file, issued.cert.pem()).unwrap();
    std::fs::write(&files.key_file, issued.signing_key.serialize_pem()).unwrap();
    (files, issued.cert.der().to_vec())
}

/// The certificate that a new connection is shown.
async fn served(to: SocketAddr) -> Vec<u8> {
    #[derive(Debug)]
    struct Anyone;
    impl rustls::client::danger::ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls_pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.verify_tls12_signature(message, certificate, signature)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
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

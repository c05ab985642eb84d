use std::io::Write;

use flotilla_runtime::Host;
use prometheus_client::registry::Registry;

use super::{
    HOST, Node, digest, name,
    server::{Reply, Server},
    tag,
};
use crate::{HostConfig, HttpError, UpstreamConfig, UpstreamConfigError, UpstreamError, Upstreams};

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn trusting(server: &Server, ca: &tempfile::NamedTempFile) -> Node {
    Node::with(server, |config| {
        let own = config.hosts.get_mut(HOST).unwrap();
        own.ca_file = Some(ca.path().to_owned());
    })
}

#[tokio::test]
async fn a_private_authority_is_trusted_for_its_upstream_only() {
    let (server, pem) = Server::start_tls(|_| Reply::ok("{}")).await;
    trusting(&server, &file(&pem)).anonymous().head(&name(), &tag()).await.unwrap();

    let error = Node::new(&server).anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { source: HttpError::Tls { .. }, .. }), "{error:?}");
    let (_, other) = Server::start_tls(|_| Reply::ok("{}")).await;
    let error = trusting(&server, &file(&other)).anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { source: HttpError::Tls { .. }, .. }), "{error:?}");
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn neither_a_redirect_nor_a_realm_leads_from_https_to_http() {
    let plain = Server::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let url = plain.url("/x");
    let (server, pem) = Server::start_tls(move |request| match request.target.contains("/blobs/") {
        true => Reply::redirect(url.as_str()),
        false => Reply::new(401).header("WWW-Authenticate", format!(r#"Bearer realm="{url}""#)),
    })
    .await;
    let listed = plain.url("").replace("http://", "");
    let ca = file(&pem);
    let node = Node::with(&server, |config| {
        let own = config.hosts.get_mut(HOST).unwrap();
        own.ca_file = Some(ca.path().to_owned());
        config.realm_allow.push(listed);
    });
    let upstream = node.user("s");
    let blob = upstream.blob(&name(), &digest(b"x"), 0).await.err().unwrap();
    assert!(matches!(blob, UpstreamError::Blocked { .. }), "{blob:?}");
    let manifest = upstream.head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(manifest, UpstreamError::Blocked { .. }), "{manifest:?}");
    assert_eq!(plain.accepted(), 0);
}

#[test]
fn a_bad_ca_file_is_named() {
    let new = |ca: &std::path::Path| {
        let own = HostConfig { ca_file: Some(ca.to_owned()), ..HostConfig::default() };
        let config = UpstreamConfig { hosts: [(HOST.to_owned(), own)].into(), ..UpstreamConfig::default() };
        Upstreams::new(Host::system(), config, &mut Registry::default()).err().unwrap()
    };
    let empty = file("nothing");
    assert!(matches!(new(empty.path()), UpstreamConfigError::ParseCa { .. }));
    let error = new(std::path::Path::new("/nowhere/ca.pem"));
    assert!(matches!(error, UpstreamConfigError::ReadCa { .. }));
    assert!(error.to_string().contains("/nowhere/ca.pem"));
}

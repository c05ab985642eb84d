//! Where an upstream may lead us, on real connections.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use url::Url;

use super::{
    HOST, Node, digest, name, read,
    server::{NAME, Reply, Server},
    tag,
};
use crate::{AddressKind, BlockReason, Resolver, Upstream, UpstreamConfig, UpstreamError};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 255, 1));

/// Gives `answers` one after the other, whatever the name; the last one again and again. Counts the questions.
fn resolver(answers: &'static [IpAddr]) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let script = move |_: &str| {
        let nth = count.fetch_add(1, Ordering::SeqCst);
        vec![answers[nth.min(answers.len() - 1)]]
    };
    (Resolver::Scripted(Arc::new(script)), asked)
}

/// [`HOST`] is at `url`.
fn at(config: &mut UpstreamConfig, url: &str) {
    config.hosts.get_mut(HOST).unwrap().base_url = Some(Url::parse(url).unwrap());
}

async fn blocked(upstream: &Upstream) -> BlockReason {
    match upstream.blob(&name(), &digest(b"x"), 0).await.err().expect("it is refused") {
        UpstreamError::Blocked { reason, .. } => reason,
        error => panic!("{error:?}"),
    }
}

/// An address of this machine that is not loopback, where it has one.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: the kernel chooses the address that it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    // What this machine has must be an address that upstreams may not lead to.
    crate::address::kind(ip).is_some_and(|kind| kind != AddressKind::Loopback).then_some(ip)
}

#[tokio::test]
async fn a_name_that_is_bound_anew_to_the_metadata_service_is_not_followed() {
    let server = Server::start(|_| Reply::ok("x").header("Connection", "close")).await;
    let (resolver, asked) = resolver(&[HERE, METADATA]);
    let node = Node::with(&server, |config| {
        at(config, &server.named_url(""));
        config.resolver = resolver;
    });
    let upstream = node.anonymous();
    let (_, end) = read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await;
    assert!(end.is_ok());
    server.all_closed().await;
    assert_eq!(blocked(&upstream).await, BlockReason::Metadata { address: METADATA });
    assert_eq!(asked.load(Ordering::SeqCst), 2, "one question per connection: what is judged is what is dialled");
    assert_eq!(node.metric(r#"flotilla_upstream_blocked_total{reason="metadata"}"#), 1);
    assert_eq!((server.log().len(), node.requests("refused")), (1, 1));
}

#[tokio::test]
async fn what_was_judged_is_what_is_dialled() {
    // A second question would be answered with what is refused, and the first with what is not.
    let server = Server::start(|_| Reply::ok("x").header("Connection", "close")).await;
    let (resolver, asked) = resolver(&[HERE, PRIVATE, HERE]);
    let to = server.named_url("/signed");
    let registry = Server::start(move |_| Reply::redirect(to.as_str())).await;
    let node = Node::with(&registry, |config| config.resolver = resolver);
    let upstream = node.anonymous();
    assert!(read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await.1.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    server.all_closed().await;
    let kind = AddressKind::Private;
    assert_eq!(blocked(&upstream).await, BlockReason::Address { address: PRIVATE, kind }, "bound anew");
    assert!(read(upstream.blob(&name(), &digest(b"x"), 0).await.unwrap()).await.1.is_ok());
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn a_redirect_or_a_realm_leads_inside_only_where_that_is_listed() {
    let Some(ip) = other_address() else { return };
    let storage = Server::start_at(ip, |_| Reply::ok(r#"{"token":"t"}"#)).await;
    let registry = {
        let (signed, realm) = (storage.url("/signed"), storage.url("/token"));
        Server::start(move |request| match request.target.contains("/blobs/") {
            true => Reply::redirect(signed.as_str()),
            false => match request.header("authorization") {
                None => Reply::new(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#)),
                Some(_) => Reply::ok("{}"),
            },
        })
        .await
    };
    let node = Node::new(&registry);
    assert!(matches!(blocked(&node.anonymous()).await, BlockReason::Address { address, .. } if address == ip));
    let realm = node.anonymous().head(&name(), &tag()).await.unwrap_err();
    assert!(matches!(realm, UpstreamError::Blocked { reason: BlockReason::RealmPlain, .. }), "{realm}");
    assert_eq!(storage.accepted(), 0);
    assert_eq!(node.metric(r#"flotilla_upstream_blocked_total{reason="realm"}"#), 1);

    let listed = storage.address().to_string();
    for change in [
        (|config: &mut UpstreamConfig, listed: &str| config.allow_hosts.push(listed.to_owned())) as fn(&mut _, &str),
        |config, listed| {
            let ip: IpAddr = listed.rsplit_once(':').unwrap().0.parse().unwrap();
            config.allow_networks.push(ip.into());
        },
    ] {
        let node = Node::with(&registry, |config| change(config, &listed));
        assert!(node.anonymous().blob(&name(), &digest(b"x"), 0).await.is_ok());
    }
    let node = Node::with(&registry, |config| config.realm_allow.push(listed.clone()));
    assert!(node.anonymous().head(&name(), &tag()).await.is_ok(), "a listed token service is the operator's word");
}

#[tokio::test]
async fn a_connection_that_stands_is_judged_again_for_a_redirect() {
    let Some(ip) = other_address() else { return };
    // As a token service it is listed; as where a redirect leads it is not.
    let inside = Server::start_at(ip, |_| Reply::ok(r#"{"token":"t"}"#)).await;
    let (realm, signed) = (inside.url("/token"), inside.url("/signed"));
    let registry = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#)),
        Some(_) => Reply::redirect(signed.as_str()),
    })
    .await;
    let listed = inside.address().to_string();
    let node = Node::with(&registry, |config| config.realm_allow.push(listed));
    assert!(matches!(blocked(&node.anonymous()).await, BlockReason::Address { address, .. } if address == ip));
    let asked: Vec<_> = inside.log().into_iter().map(|request| request.target).collect();
    assert_eq!((asked.len(), inside.accepted()), (1, 1), "{asked:?}");
}

#[tokio::test]
async fn an_upstream_that_is_this_node_is_refused_before_a_byte_is_sent() {
    let server = Server::start(|_| Reply::ok("{}")).await;
    let own = server.address();
    let (resolver, _) = resolver(&[HERE]);
    let wildcard = (Ipv4Addr::UNSPECIFIED, own.port()).into();
    for (listener, url) in [(own, server.url("")), (own, server.named_url("")), (wildcard, server.named_url(""))] {
        let node = Node::with(&server, |config| {
            at(config, &url);
            config.resolver = resolver.clone();
            config.own_addresses = vec![listener];
        });
        assert_eq!(blocked(&node.anonymous()).await, BlockReason::Own, "{url}");
        assert_eq!(node.metric(r#"flotilla_upstream_blocked_total{reason="own"}"#), 1);
    }
    assert_eq!(server.accepted(), 0);
    // Another process of this machine is another upstream.
    let node = Node::with(&server, |config| config.own_addresses = vec![(HERE, own.port() ^ 1).into()]);
    assert!(node.anonymous().head(&name(), &tag()).await.is_ok());
}

#[tokio::test]
async fn a_circle_that_another_cluster_has_seen_ends_without_another_attempt() {
    let server = Server::start(|_| Reply::new(508)).await;
    let error = Node::new(&server).anonymous().manifest(&name(), &tag()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Loop { .. }), "{error:?}");
    assert_eq!(server.log().len(), 1);
    assert!(error.to_string().contains(HOST));
    assert_ne!(NAME, HOST);
}

//! Makes every connection of this crate, and so of the node: resolve, check the addresses, dial, and TLS; or the same
//! through a proxy.
//!
//! Invariant: the address that is dialled is one that was checked; a name is not resolved a second time in between.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::HeaderValue;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    HttpError, Resolver,
    destinations::{Destinations, Named},
    origin::Origin,
    proxy::{Proxies, Proxy},
    tunnel,
};

/// How long one address may keep the next from being tried (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// How long a name is looked up that a proxy will resolve: where only proxies resolve names, each try is in vain.
const LOOK_UP: Duration = Duration::from_secs(1);

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// To a proxy, or through it.
    Proxied(Box<dyn Io>),
    ProxiedTls(Box<TlsStream<Box<dyn Io>>>),
}

/// A connection to a proxy, with or without TLS of its own.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Direct(SocketAddr),
    /// Reached through a proxy, after the origin was judged for this.
    Proxied(Named),
}

pub(crate) struct Connector {
    /// Resolving, dialling and the handshake together.
    pub(crate) timeout: Duration,
    pub(crate) destinations: Destinations,
    pub(crate) resolver: Resolver,
    pub(crate) proxies: Proxies,
    /// Of connections to proxies.
    pub(crate) proxy_tls: Arc<ClientConfig>,
    pub(crate) user_agent: HeaderValue,
}

impl Peer {
    /// On this machine: what it sends us to may be so, too.
    pub(crate) fn is_loopback(self) -> bool {
        matches!(self, Self::Direct(address) if address.ip().to_canonical().is_loopback())
    }
}

impl Connector {
    /// Cancel safe.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        tls: &Arc<ClientConfig>,
        named: Named,
    ) -> Result<(Stream, Peer), HttpError> {
        let connected = timeout(self.timeout, async {
            match self.proxies.of(origin) {
                None => self.direct(origin, tls, named).await,
                Some(proxy) => self.through(proxy, origin, tls, named).await,
            }
        });
        connected.await.unwrap_or_else(|_| Err(HttpError::ConnectTimeout { target: origin.to_string().into() }))
    }

    /// Whether a connection that stands may carry a request for `origin`: it may have been made under another rule.
    pub(crate) fn permits(&self, named: Named, origin: &Origin, peer: Peer) -> bool {
        match peer {
            Peer::Direct(address) => self.destinations.judge(named, origin, address).is_ok(),
            Peer::Proxied(judged) => judged == named,
        }
    }

    async fn direct(
        &self,
        origin: &Origin,
        tls: &Arc<ClientConfig>,
        named: Named,
    ) -> Result<(Stream, Peer), HttpError> {
        let (tcp, address) = self.dial(origin, named).await?;
        let stream = match origin.https {
            false => Stream::Plain(tcp),
            true => Stream::Tls(Box::new(handshake(origin, tls, tcp).await?)),
        };
        Ok((stream, Peer::Direct(address)))
    }

    async fn through(
        &self,
        proxy: &Proxy,
        origin: &Origin,
        tls: &Arc<ClientConfig>,
        named: Named,
    ) -> Result<(Stream, Peer), HttpError> {
        self.judge_unresolved(origin, named).await?;
        let (tcp, _) = self.dial(&proxy.origin, Named::ByOperator).await?;
        let mut stream: Box<dyn Io> = match proxy.origin.https {
            false => Box::new(tcp),
            true => Box::new(handshake(&proxy.origin, &self.proxy_tls, tcp).await?),
        };
        let stream = match origin.https {
            // It is asked for each URL by itself.
            false => Stream::Proxied(stream),
            true => {
                tunnel::open(&mut stream, proxy, origin, &self.user_agent).await?;
                Stream::ProxiedTls(Box::new(handshake(origin, tls, stream).await?))
            }
        };
        Ok((stream, Peer::Proxied(named)))
    }

    /// The proxy resolves the name, and we cannot know to what. So where an upstream names a host, all that we ourselves
    /// know it to be must be permitted; where we cannot tell, the proxy's own rules are all there is.
    async fn judge_unresolved(&self, origin: &Origin, named: Named) -> Result<(), HttpError> {
        let addresses = match (origin.address(), named) {
            (Some(address), _) => vec![SocketAddr::new(address, origin.port)],
            (None, Named::ByOperator) => return Ok(()),
            (None, Named::ByUpstream { .. }) => {
                let found = timeout(LOOK_UP, self.resolver.resolve(&origin.host, origin.port)).await;
                found.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        let judged = addresses.into_iter().try_for_each(|address| self.destinations.judge(named, origin, address));
        judged.map_err(|reason| HttpError::Blocked { target: origin.to_string().into(), reason })
    }

    /// Connects to what `origin` names, as far as it is permitted.
    async fn dial(&self, origin: &Origin, named: Named) -> Result<(TcpStream, SocketAddr), HttpError> {
        let target: Arc<str> = origin.to_string().into();
        let mut addresses = self.resolve(origin, &target).await?;
        let mut refused = None;
        addresses.retain(|address| match self.destinations.judge(named, origin, *address) {
            Ok(()) => true,
            Err(reason) => {
                refused = refused.or(Some(reason));
                false
            }
        });
        if let (Some(reason), true) = (refused, addresses.is_empty()) {
            return Err(HttpError::Blocked { target, reason });
        }
        let failed = |error| HttpError::Connect { target: target.clone(), source: Arc::new(error) };
        let tcp = dial(alternate(addresses)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let peer = tcp.peer_addr().map_err(failed)?;
        Ok((tcp, peer))
    }

    async fn resolve(&self, origin: &Origin, target: &Arc<str>) -> Result<Vec<SocketAddr>, HttpError> {
        if let Some(address) = origin.address() {
            return Ok(vec![SocketAddr::new(address, origin.port)]);
        }
        let found = self.resolver.resolve(&origin.host, origin.port).await;
        found.map_err(|error| HttpError::Resolve { target: target.clone(), source: Arc::new(error) })
    }
}

async fn handshake<S: Io>(origin: &Origin, tls: &Arc<ClientConfig>, stream: S) -> Result<TlsStream<S>, HttpError> {
    let failed = |error| HttpError::Tls { target: origin.to_string().into(), source: Arc::new(error) };
    let name = ServerName::try_from(origin.host.to_string()).map_err(|error| failed(io::Error::other(error)))?;
    TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(failed)
}

/// The families by turns, beginning with the resolver's first choice, so that a dead family costs one stagger.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return turns,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
}

/// The first connection that stands; addresses are tried at intervals, and at once when one fails.
#[expect(clippy::disallowed_methods, reason = "this is the connector")]
async fn dial(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut rest = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.extend(rest.next().map(TcpStream::connect));
        tokio::select! {
            done = attempts.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) if attempts.is_empty() && rest.len() == 0 => return Err(error),
                Some(Err(_)) => {}
                None => return Err(io::Error::other("no address to connect to")),
            },
            () = sleep(STAGGER), if rest.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert_eq!(
            alternate(addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"])),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(alternate(Vec::new()), []);
    }

    #[tokio::test]
    async fn a_refused_address_does_not_hide_a_good_one() {
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bad = {
            let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            closed.local_addr().unwrap()
        };
        let good = good.local_addr().unwrap();
        assert_eq!(dial(vec![bad, good]).await.unwrap().peer_addr().unwrap(), good);
        assert!(dial(vec![bad, bad]).await.is_err());
        assert!(dial(Vec::new()).await.is_err());
    }
}

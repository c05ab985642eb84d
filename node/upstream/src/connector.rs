//! Makes every connection of this crate: resolve, check the addresses, dial, TLS. Proxies and further address rules
//! belong here and nowhere else.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    HttpError,
    address::{Named, permits},
    origin::Origin,
};

/// How long one address may keep the next from being tried (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(crate) struct Connector {
    /// Resolving, dialling and the handshake together.
    pub(crate) timeout: Duration,
}

impl Connector {
    /// Cancel safe.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        tls: &Arc<ClientConfig>,
        named: Named,
    ) -> Result<(Stream, IpAddr), HttpError> {
        let target: Arc<str> = origin.to_string().into();
        let connected = tokio::time::timeout(self.timeout, connect(origin, tls, named, &target)).await;
        connected.unwrap_or(Err(HttpError::ConnectTimeout { target }))
    }
}

async fn connect(
    origin: &Origin,
    tls: &Arc<ClientConfig>,
    named: Named,
    target: &Arc<str>,
) -> Result<(Stream, IpAddr), HttpError> {
    let mut addresses = resolve(origin, target).await?;
    let first = addresses.first().map(SocketAddr::ip);
    addresses.retain(|address| permits(named, address.ip()));
    if let (Some(address), true) = (first, addresses.is_empty()) {
        return Err(HttpError::Address { target: target.clone(), address });
    }
    let failed = |error| HttpError::Connect { target: target.clone(), source: Arc::new(error) };
    let tcp = dial(alternate(addresses)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let peer = tcp.peer_addr().map_err(failed)?.ip();
    if !origin.https {
        return Ok((Stream::Plain(tcp), peer));
    }
    let failed = |error| HttpError::Tls { target: target.clone(), source: Arc::new(error) };
    let name = ServerName::try_from(origin.host.to_string()).map_err(|error| failed(io::Error::other(error)))?;
    let tls = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(failed)?;
    Ok((Stream::Tls(Box::new(tls)), peer))
}

async fn resolve(origin: &Origin, target: &Arc<str>) -> Result<Vec<SocketAddr>, HttpError> {
    if let Some(address) = origin.address() {
        return Ok(vec![SocketAddr::new(address, origin.port)]);
    }
    let failed = |error| HttpError::Resolve { target: target.clone(), source: Arc::new(error) };
    let found = tokio::net::lookup_host((&*origin.host, origin.port)).await.map_err(failed)?;
    let found: Vec<_> = found.take(ADDRESSES).collect();
    if found.is_empty() { Err(failed(io::Error::other("the name has no address"))) } else { Ok(found) }
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

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use tokio_rustls::TlsAcceptor;

use super::{DoorsConfig, Entrance, HttpConfig, live::Live, origin::InvalidHost, tls::Certificates};

/// Connections that the kernel completes while we are busy: a fleet that restarts at once must not see refusals.
const BACKLOG: i32 = 1024;
/// A peer that acknowledges nothing, or leaves its window shut, for this long is gone. Longer than any pause a client
/// makes to unpack a layer that it reads from the wire.
const DEAD_AFTER: Duration = Duration::from_secs(300);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Why the doors cannot be opened. Names what an operator must change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("no address to listen on")]
    NoAddress,
    /// Each address keeps room for the connection that it waits for.
    #[error("max_connections is {max}: it must be more than the {addresses} addresses to listen on")]
    TooFewConnections { max: usize, addresses: usize },
    #[error("{0} is in use by another process")]
    Busy(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot read {}", path.display())]
    ReadPem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("the certificate and its key cannot be used")]
    Tls(#[source] rustls::Error),
    #[error("http.tls cannot be switched on or off without a restart")]
    TlsSwitched,
    #[error(transparent)]
    Host(#[from] InvalidHost),
}

/// Addresses that are taken, and everything checked that configuration can get wrong; nothing is accepted yet.
pub struct Bound {
    pub(super) config: HttpConfig,
    pub(super) live: Live,
    pub(super) tls: Option<(Arc<Certificates>, TlsAcceptor)>,
    pub(super) listeners: Vec<Listening>,
}

/// One address that is taken.
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) entrance: Entrance,
}

impl Bound {
    /// Takes every address of the configuration, or none.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: DoorsConfig) -> Result<Self, BindError> {
        let live = Live::new(&config)?;
        let DoorsConfig { http: config, mirror, admin } = config;
        let (max, addresses) = (config.max_connections(), config.listen.len() + mirror.listen.len());
        if max <= addresses {
            return Err(BindError::TooFewConnections { max, addresses });
        }
        let tls = config.tls.as_ref().map(Certificates::read).transpose()?;
        if config.listen.is_empty() {
            return Err(BindError::NoAddress);
        }
        let wanted = config.listen.iter().map(|address| (address, Entrance::Registry));
        let wanted = wanted.chain(mirror.listen.iter().map(|address| (address, Entrance::Mirror)));
        let wanted = wanted.chain(admin.listen.iter().map(|address| (address, Entrance::Admin)));
        let mut listeners = Vec::with_capacity(addresses + admin.listen.len());
        for (&address, entrance) in wanted {
            let bound = listen(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (address, listener) = bound.map_err(|source| {
                if source.kind() == io::ErrorKind::AddrInUse {
                    BindError::Busy(address)
                } else {
                    BindError::Listen { address, source }
                }
            })?;
            listeners.push(Listening { listener, address, entrance });
        }
        Ok(Self { config, live, tls, listeners })
    }

    /// Those of the registry, as they are: with the ports that were given out.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses_of(Entrance::Registry)
    }

    /// Of every entrance.
    pub fn all_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|one| one.address).collect()
    }

    pub(super) fn addresses_of(&self, entrance: Entrance) -> Vec<SocketAddr> {
        self.listeners.iter().filter(|one| one.entrance == entrance).map(|one| one.address).collect()
    }

    /// `http://` or `https://` and the configured host, or the first address.
    pub fn url(&self) -> String {
        let first = self.addresses().first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        self.live.hosts.origin(None, first, self.tls.is_some(), Entrance::Registry).to_string()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Or `[::]` would take the port of `0.0.0.0` on some machines and not on others.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of its predecessor to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Settings of an accepted connection.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(listen: Vec<SocketAddr>) -> Result<Bound, BindError> {
        let http = HttpConfig { listen, ..HttpConfig::default() };
        Bound::bind(DoorsConfig { http, ..DoorsConfig::default() })
    }

    #[tokio::test]
    async fn a_busy_port_is_named() {
        let first = bind(vec!["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = first.addresses()[0];
        assert_eq!(first.url(), format!("http://{address}"));
        let error = bind(vec![address]).err().unwrap();
        assert_eq!(error.to_string(), format!("{address} is in use by another process"));
        assert!(matches!(bind(Vec::new()), Err(BindError::NoAddress)));
    }

    #[tokio::test]
    async fn every_address_can_accept() {
        let listen = vec!["127.0.0.1:0".parse().unwrap(); 2];
        let with = |max| {
            let http = HttpConfig { listen: listen.clone(), max_connections: max, ..HttpConfig::default() };
            DoorsConfig { http, ..DoorsConfig::default() }
        };
        let error = Bound::bind(with(2.try_into().unwrap())).err().unwrap();
        assert!(matches!(error, BindError::TooFewConnections { max: 2, addresses: 2 }), "{error}");
        assert!(Bound::bind(with(3.try_into().unwrap())).is_ok());
    }
}

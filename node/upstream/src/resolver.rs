use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// Gives the addresses of a name.
pub type Script = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// Where the addresses of a name come from.
#[derive(Clone, Default)]
pub enum Resolver {
    #[default]
    System,
    /// Asked anew for each connection, as the system is; for tests and simulations.
    Scripted(Arc<Script>),
}

impl Resolver {
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = match self {
            Self::System => tokio::net::lookup_host((host, port)).await?.take(ADDRESSES).collect(),
            Self::Scripted(script) => script(host).into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        };
        if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Scripted(_) => "Scripted",
        })
    }
}

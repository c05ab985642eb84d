//! What an operator may change while the doors are open. Read once per connection or request, so that what one of them
//! sees does not change under it.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{
    DoorsConfig,
    origin::{HostPolicy, InvalidHost},
};

pub(super) struct Live {
    pub(super) hosts: HostPolicy,
    trusted_proxies: Vec<IpNet>,
    pub(super) max_uri_bytes: usize,
    pub(super) max_connections_per_client: u32,
    pub(super) patience: Patience,
}

/// How long a connection may make us wait.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Without a request.
    pub(super) idle: Duration,
    /// Between the first and the last byte of a head.
    pub(super) head: Duration,
    /// Without taking a byte of what we send.
    pub(super) stall: Duration,
}

impl Live {
    pub(super) fn new(config: &DoorsConfig) -> Result<Self, InvalidHost> {
        let http = &config.http;
        Ok(Self {
            hosts: HostPolicy::new(http, &config.mirror)?,
            trusted_proxies: http.trusted_proxies.clone(),
            max_uri_bytes: http.max_uri_bytes,
            max_connections_per_client: http.max_connections_per_client.get(),
            patience: Patience {
                idle: Duration::from_secs(http.idle_timeout_seconds.get()),
                head: Duration::from_secs(http.header_read_timeout_seconds.get()),
                stall: Duration::from_secs(http.write_stall_timeout_seconds.get()),
            },
        })
    }

    /// Whether `address`, in its canonical form, may say for whom it speaks.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

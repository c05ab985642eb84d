//! Where connections may go, judged by the address that is dialled: the one place for such rules.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ipnet::IpNet;

use crate::{
    BlockReason, UpstreamConfig, UpstreamConfigError,
    address::kind,
    blocked::AddressKind,
    origin::{Listed, Origin},
};

/// Who named the host that is about to be dialled, which decides where it may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// In a rule, or in the configuration.
    ByOperator,
    /// In a redirect or a realm. `from_loopback`: the one who said so is itself on this machine, as in tests and
    /// development, and may send us to other ports of it. An upstream elsewhere never has this.
    ByUpstream { from_loopback: bool },
}

pub(crate) struct Destinations {
    hosts: Vec<Listed>,
    networks: Vec<IpNet>,
    /// This node's own listeners.
    own: Vec<SocketAddr>,
}

impl Destinations {
    pub(crate) fn new(config: &UpstreamConfig) -> Result<Self, UpstreamConfigError> {
        let listed = |host: &String| {
            Listed::parse(host).ok_or_else(|| UpstreamConfigError::Listed { key: "allow_hosts", host: host.clone() })
        };
        Ok(Self {
            hosts: config.allow_hosts.iter().map(listed).collect::<Result<_, _>>()?,
            networks: config.allow_networks.clone(),
            own: config.own_addresses.clone(),
        })
    }

    /// Whether a connection for `origin` may go to `address`, which is what its name resolved to, or itself.
    pub(crate) fn judge(&self, named: Named, origin: &Origin, address: SocketAddr) -> Result<(), BlockReason> {
        if self.is_own(address) {
            return Err(BlockReason::Own);
        }
        let (ip, canonical) = (address.ip(), address.ip().to_canonical());
        let Some(kind) = kind(ip) else { return Ok(()) };
        if self.networks.iter().any(|network| network.contains(&canonical)) {
            return Ok(());
        }
        let listed = named == Named::ByOperator || self.hosts.iter().any(|host| host.is(origin));
        // An address was written by the operator; a name may be made to lead anywhere by whoever owns it.
        if listed && (kind != AddressKind::Metadata || origin.address().is_some()) {
            return Ok(());
        }
        if listed {
            return Err(BlockReason::Metadata { address: ip });
        }
        let near = named == Named::ByUpstream { from_loopback: true } && canonical.is_loopback();
        if near { Ok(()) } else { Err(BlockReason::Address { address: ip, kind }) }
    }

    /// Whether one of our own listeners would answer. What a balancer in front of us leads to is found by the header
    /// that requests carry.
    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.own.iter().filter(|own| own.port() == address.port()).any(|own| match own.ip().to_canonical() {
            own if own.is_unspecified() => is_of_this_machine(ip),
            // Linux takes 0.0.0.0 and :: for loopback.
            own => own == ip || (own.is_loopback() && ip.is_unspecified()),
        })
    }
}

/// Only addresses of this machine can be bound. Asked only for the port of a listener of ours, and it costs no packet.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn destinations(hosts: &[&str], networks: &[&str], own: &[&str]) -> Destinations {
        Destinations::new(&UpstreamConfig {
            allow_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            allow_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            own_addresses: own.iter().map(|address| address.parse().unwrap()).collect(),
            ..UpstreamConfig::default()
        })
        .unwrap()
    }

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    fn judge(at: &Destinations, named: Named, url: &str, ip: &str) -> Result<(), &'static str> {
        let origin = origin(url);
        let address = SocketAddr::new(ip.parse().unwrap(), origin.port);
        at.judge(named, &origin, address).map_err(BlockReason::label)
    }

    const FOREIGN: Named = Named::ByUpstream { from_loopback: false };
    const NEAR: Named = Named::ByUpstream { from_loopback: true };

    #[test]
    fn what_an_upstream_names_does_not_lead_inside() {
        let none = destinations(&[], &[], &[]);
        for ip in ["127.0.0.1", "10.0.0.1", "169.254.1.1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0"] {
            assert!(judge(&none, FOREIGN, "https://cdn.example/", ip).is_err(), "{ip}");
            assert_eq!(judge(&none, Named::ByOperator, "https://r.example/", ip), Ok(()), "{ip}");
        }
        assert_eq!(judge(&none, FOREIGN, "https://cdn.example/", "1.1.1.1"), Ok(()));
    }

    #[test]
    fn an_upstream_on_this_machine_may_name_this_machine_and_nothing_else() {
        let none = destinations(&[], &[], &[]);
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(judge(&none, NEAR, "http://x.example/", ip), Ok(()), "{ip}");
        }
        for ip in ["0.0.0.0", "10.0.0.1", "169.254.169.254", "2002:7f00:1::"] {
            assert!(judge(&none, NEAR, "http://x.example/", ip).is_err(), "{ip}");
        }
    }

    #[test]
    fn a_listed_host_or_network_opens_what_it_names() {
        let at = destinations(&["cdn.internal:443", "10.1.1.1:9000"], &["10.2.0.0/16", "fd12::/16"], &[]);
        assert_eq!(judge(&at, FOREIGN, "https://cdn.internal/", "10.9.9.9"), Ok(()));
        assert_eq!(judge(&at, FOREIGN, "http://10.1.1.1:9000/", "10.1.1.1"), Ok(()));
        assert_eq!(judge(&at, FOREIGN, "https://any.example/", "10.2.3.4"), Ok(()));
        assert_eq!(judge(&at, FOREIGN, "https://any.example/", "::ffff:10.2.3.4"), Ok(()));
        assert_eq!(judge(&at, FOREIGN, "https://any.example/", "fd12::1"), Ok(()));
        for (url, ip) in [
            ("https://cdn.internal:8443/", "10.9.9.9"),
            ("https://xcdn.internal/", "10.9.9.9"),
            ("http://10.1.1.1:9001/", "10.1.1.1"),
            ("https://any.example/", "10.3.0.1"),
        ] {
            assert_eq!(judge(&at, FOREIGN, url, ip), Err("private"), "{url}");
        }
    }

    #[test]
    fn a_name_leads_to_no_metadata_service_whoever_wrote_it() {
        let at = destinations(&["cdn.internal"], &[], &[]);
        for ip in ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "::ffff:169.254.169.254"] {
            assert_eq!(judge(&at, Named::ByOperator, "https://r.example/", ip), Err("metadata"), "{ip}");
            assert_eq!(judge(&at, FOREIGN, "https://cdn.internal/", ip), Err("metadata"), "{ip}");
            assert_eq!(judge(&at, FOREIGN, "https://cdn.example/", ip), Err("metadata"), "{ip}");
        }
        assert_eq!(judge(&at, Named::ByOperator, "http://169.254.169.254/", "169.254.169.254"), Ok(()));
        assert_eq!(judge(&at, FOREIGN, "http://169.254.169.254/", "169.254.169.254"), Err("metadata"));
        let opened = destinations(&[], &["169.254.169.254/32"], &[]);
        assert_eq!(judge(&opened, Named::ByOperator, "https://r.example/", "169.254.169.254"), Ok(()));
    }

    #[test]
    fn nothing_leads_back_to_our_own_listeners() {
        let own = Err("own");
        let at = destinations(&[], &["127.0.0.0/8"], &["127.0.0.1:5000", "[::]:5001"]);
        for named in [Named::ByOperator, FOREIGN, NEAR] {
            assert_eq!(judge(&at, named, "http://127.0.0.1:5000/", "127.0.0.1"), own);
            assert_eq!(judge(&at, named, "http://me.example:5000/", "::ffff:127.0.0.1"), own);
            assert_eq!(judge(&at, named, "http://me.example:5000/", "0.0.0.0"), own);
            assert_eq!(judge(&at, named, "http://me.example:5001/", "127.0.0.1"), own);
            assert_eq!(judge(&at, named, "http://me.example:5001/", "::1"), own);
        }
        assert_eq!(judge(&at, Named::ByOperator, "http://me.example:5002/", "127.0.0.1"), Ok(()));
        assert_eq!(judge(&at, Named::ByOperator, "http://me.example:5000/", "127.0.0.2"), Ok(()));
        // Of another machine.
        assert_eq!(judge(&at, Named::ByOperator, "http://r.example:5001/", "192.0.2.7"), Ok(()));
    }
}

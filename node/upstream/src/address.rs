//! Where connections may go, judged by the address that a name resolved to: the one place for such rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who named the host that is about to be dialled, which decides where it may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    ByOperator,
    /// In a redirect or a realm. `from_loopback`: the one who said so is itself on this machine, as in tests and
    /// development.
    ByUpstream {
        from_loopback: bool,
    },
}

/// Whether a connection may go to `address`: hosts that an upstream names must not lead into this machine, its link, or
/// the metadata service of its cloud.
pub(crate) fn permits(named: Named, address: IpAddr) -> bool {
    let Named::ByUpstream { from_loopback } = named else { return true };
    match address.to_canonical() {
        address if address.is_loopback() => from_loopback,
        // Linux takes 0.0.0.0 and :: for loopback.
        address if address.is_unspecified() || address.is_multicast() => false,
        IpAddr::V4(address) => !address.is_link_local() && !address.is_broadcast() && !METADATA_V4.contains(&address),
        IpAddr::V6(address) => !address.is_unicast_link_local() && address != METADATA_V6,
    }
}

/// Metadata services that are not on a link-local address: Alibaba, Azure.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// AWS.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_names_does_not_lead_inside() {
        let foreign = Named::ByUpstream { from_loopback: false };
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "169.254.1.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
        ] {
            let address = inside.parse().unwrap();
            assert!(!permits(foreign, address), "{inside}");
            assert!(permits(Named::ByOperator, address), "{inside}");
        }
        for outside in ["1.1.1.1", "10.0.0.1", "2606:4700::1"] {
            assert!(permits(foreign, outside.parse().unwrap()), "{outside}");
        }
        let local = Named::ByUpstream { from_loopback: true };
        assert!(permits(local, "127.0.0.1".parse().unwrap()));
        assert!(!permits(local, "169.254.169.254".parse().unwrap()));
    }
}

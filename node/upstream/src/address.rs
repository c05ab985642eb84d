//! What an address is: the one table of networks that do not belong to the public internet.
//!
//! Invariant: an IPv6 address that carries an IPv4 address to its destination is judged as what it carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::blocked::AddressKind;

/// Services that hand out credentials, or a machine's configuration, to whoever connects: AWS and most others, the
/// credentials of ECS and EKS, Alibaba, Azure, Oracle.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// AWS, the credentials of EKS, Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// `None` for an address of the public internet.
pub(crate) fn kind(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

/// The special-purpose registry of IANA (RFC 6890), with what is not forwarded globally.
fn kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    if METADATA_V4.contains(&address) {
        return Some(AddressKind::Metadata);
    }
    match address.octets() {
        [0, ..] => Some(AddressKind::Unspecified),
        [127, ..] => Some(AddressKind::Loopback),
        [169, 254, ..] => Some(AddressKind::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(AddressKind::Private),
        [100, 64..=127, ..] => Some(AddressKind::Shared),
        [224..=239, ..] => Some(AddressKind::Multicast),
        // Protocols, documentation, the relays of 6to4, benchmarks; what was never given out, and broadcast.
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [240..=255, ..] => Some(AddressKind::Reserved),
        _ => None,
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    if METADATA_V6.contains(&address) {
        return Some(AddressKind::Metadata);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(AddressKind::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(AddressKind::Loopback),
        // Mapped, and translated by NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => kind_v4(carried(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => kind_v4(carried(high, low)),
        // Teredo (RFC 4380): its server, and the client with every bit turned.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            kind_v4(carried(!high, !low)).or_else(|| kind_v4(carried(server_high, server_low)))
        }
        [0xfe80..=0xfebf, ..] => Some(AddressKind::LinkLocal),
        // ULA, and the site-local addresses before it.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(AddressKind::Private),
        [0xff00..=0xffff, ..] => Some(AddressKind::Multicast),
        // Protocols and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(AddressKind::Reserved),
        // ISATAP (RFC 5214) carries an IPv4 address under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => kind_v4(carried(high, low)),
        [0x2000..=0x3fff, ..] => None,
        // No other block is given out for unicast; among them are IPv4-compatible addresses, discard and local NAT64.
        _ => Some(AddressKind::Reserved),
    }
}

fn carried(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use AddressKind::*;

    #[test]
    fn each_network_has_its_kind() {
        for (text, expected) in [
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("127.0.0.1", Some(Loopback)),
            ("127.9.9.9", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("169.254.1.1", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("64:ff9b::169.254.169.254", Some(Metadata)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("192.0.0.192", Some(Metadata)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("fc00::1", Some(Private)),
            ("fd12:3456::1", Some(Private)),
            ("fec0::1", Some(Private)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("64:ff9b::10.0.0.1", Some(Private)),
            ("2002:0a00:0001::1", Some(Private)),
            // Teredo with client 10.0.0.1, and with a server of that address.
            ("2001:0:101:101::f5ff:fffe", Some(Private)),
            ("2001:0:a00:1::fefe:fefe", Some(Private)),
            ("2606:4700::200:5efe:a00:1", Some(Private)),
            ("100.64.0.1", Some(Shared)),
            ("100.127.255.255", Some(Shared)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("ff02::1", Some(Multicast)),
            ("255.255.255.255", Some(Reserved)),
            ("240.0.0.1", Some(Reserved)),
            ("192.0.0.1", Some(Reserved)),
            ("192.0.2.1", Some(Reserved)),
            ("198.51.100.1", Some(Reserved)),
            ("203.0.113.1", Some(Reserved)),
            ("198.18.0.1", Some(Reserved)),
            ("198.19.255.255", Some(Reserved)),
            ("192.88.99.1", Some(Reserved)),
            ("::10.0.0.1", Some(Reserved)),
            ("64:ff9b:1::a00:1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("2001:db8::1", Some(Reserved)),
            ("2001:2::1", Some(Reserved)),
            ("3fff::1", Some(Reserved)),
            ("4000::1", Some(Reserved)),
            ("5f00::1", Some(Reserved)),
            ("1.1.1.1", None),
            ("100.63.255.255", None),
            ("100.128.0.1", None),
            ("172.15.0.1", None),
            ("172.32.0.1", None),
            ("192.0.1.1", None),
            ("198.20.0.1", None),
            ("223.255.255.255", None),
            ("2606:4700::1", None),
            ("2001:200::1", None),
            ("2a00::1", None),
            ("64:ff9b::1.1.1.1", None),
            ("::ffff:1.1.1.1", None),
            ("2002:101:101::1", None),
            ("2001:0:101:101::fefe:fefe", None),
        ] {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }
}

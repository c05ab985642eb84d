use std::net::{IpAddr, Ipv4Addr};

use flotilla_base::RequestId;
use flotilla_registry::access::PrincipalArn;

use super::*;

fn limits(anonymous: CallerLimits) -> Limits {
    Limits::new(LimitsConfig { anonymous, ..LimitsConfig::default() }, &mut Registry::default())
}

fn one_miss() -> CallerLimits {
    CallerLimits { misses_per_minute: Rate::PerMinute(1), ..CallerLimits::default() }
}

fn caller(principal: PrincipalArn, source_ip: Option<IpAddr>) -> Caller {
    Caller { principal, access_key: None, source_ip, request: RequestId(1), region: None, idempotency: None }
}

fn from(address: &str) -> Caller {
    caller(PrincipalArn::anonymous(), Some(address.parse().unwrap()))
}

#[tokio::test]
async fn a_network_is_one_source_however_its_addresses_are_written() {
    let limits = limits(one_miss());
    let key = |address| limits.payer(&from(address)).to_string();
    assert_eq!(key("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(key("::ffff:192.0.2.1"), "192.0.2.0/24");
    assert_eq!(key("2001:db8:1:2fff:a::1"), "2001:db8:1:2f00::/56");
    assert_eq!(limits.payer(&caller(PrincipalArn("p".into()), None)).to_string(), "p");
    limits.miss(&limits.payer(&from("192.0.2.1")), false).unwrap();
    for (address, is_spent) in [("192.0.2.99", true), ("::ffff:192.0.2.3", true), ("192.0.3.1", false)] {
        assert_eq!(limits.miss(&limits.payer(&from(address)), false).is_err(), is_spent, "{address}");
    }
    // Callers without an address are one, and not everybody.
    let nowhere = limits.payer(&caller(PrincipalArn::anonymous(), None));
    assert!(limits.miss(&nowhere, false).is_ok() && limits.miss(&nowhere, false).is_err());
}

#[tokio::test]
async fn prefixes_reach_from_everybody_to_one_address() {
    let payer = |ipv4_prefix, ipv6_prefix, address| {
        let config = LimitsConfig { ipv4_prefix, ipv6_prefix, ..LimitsConfig::default() };
        Payer::of(&from(address), &config).to_string()
    };
    assert_eq!(payer(0, 0, "192.0.2.1"), "0.0.0.0/0");
    assert_eq!(payer(32, 0, "192.0.2.1"), "192.0.2.1/32");
    assert_eq!(payer(0, 0, "2001:db8::1"), "::/0");
    assert_eq!(payer(0, 128, "2001:db8::1"), "2001:db8::1/128");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_fills_with_time_and_is_forgotten_when_it_is_full() {
    let limits = limits(one_miss());
    let payer = limits.payer(&from("192.0.2.1"));
    limits.miss(&payer, true).unwrap();
    let limited = limits.miss(&payer, true).unwrap_err();
    assert_eq!((limited.what, limited.retry_after), (Limit::Misses, Duration::from_secs(60)));
    assert_eq!(limits.networks.len(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    limits.miss(&payer, false).unwrap();
    tokio::time::advance(Duration::from_secs(200)).await;
    for n in 0..=255 {
        // Of each shard one is looked at; what is full is gone with that.
        let _ = limits.revalidation(&limits.payer(&from(&format!("10.0.{n}.1"))));
    }
    assert_eq!(limits.networks.len(), 256);
}

/// The attack: as many sources as one can have, to have one's own exhausted bucket dropped, or to fill the memory.
#[tokio::test(start_paused = true)]
async fn a_flood_of_sources_frees_no_bucket_takes_no_memory_and_touches_no_principal() {
    let limits = limits(one_miss());
    let attacker = limits.payer(&from("192.0.2.1"));
    limits.miss(&attacker, false).unwrap();
    let mut allowed = 0;
    for n in 0..200_000u32 {
        let address = IpAddr::from(Ipv4Addr::from_bits(0x2000_0000 + (n << 8)));
        allowed +=
            usize::from(limits.miss(&limits.payer(&caller(PrincipalArn::anonymous(), Some(address))), false).is_ok());
    }
    assert!(limits.miss(&attacker, false).is_err(), "its bucket is what it was");
    assert_eq!(limits.networks.len(), NETWORKS_MOST);
    assert!(allowed <= NETWORKS_MOST + 16 * 16, "who found no room shared: {allowed}");
    assert!(limits.networks.bytes() < 8 << 20, "{} B", limits.networks.bytes());
    let principal = limits.payer(&caller(PrincipalArn::user("1", "ci"), None));
    limits.miss(&principal, true).unwrap();
    assert_eq!(limits.principals.len(), 1);
    // Once their buckets are full they go, and newcomers have their own again.
    tokio::time::advance(Duration::from_secs(61)).await;
    limits.miss(&limits.payer(&from("203.0.113.1")), false).unwrap();
    assert!(limits.networks.len() < NETWORKS_MOST);
}

/// The bound: 10,000 anonymous sources and 1,000 principals in less than 20 MiB.
#[tokio::test]
async fn ten_thousand_sources_and_a_thousand_principals_are_small() {
    let limits = limits(CallerLimits::default());
    for n in 0..10_000u32 {
        let address = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)));
        limits.miss(&limits.payer(&caller(PrincipalArn::anonymous(), Some(address))), true).unwrap();
    }
    for n in 0..1_000 {
        limits.miss(&limits.payer(&caller(PrincipalArn::user("123456789012", &n.to_string()), None)), true).unwrap();
    }
    assert_eq!((limits.networks.len(), limits.principals.len()), (10_000, 1_000));
    let bytes = limits.networks.bytes() + limits.principals.bytes() + size_of::<Limits>();
    assert!(bytes < 2 << 20, "{bytes} B");
}

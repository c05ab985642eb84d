use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use flotilla_registry::access::PrincipalArn;

use super::LimitsConfig;
use crate::Caller;

/// Keys that nobody outside knows: callers cannot choose whose bucket they hit.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Who pays for a miss: a principal, or the network from which an anonymous caller comes.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    who: Who,
    key: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// Its first address and the length of its prefix.
    Network(IpAddr, u8),
    /// Without an address: all such callers are one.
    Nowhere,
    Principal(PrincipalArn),
}

impl Payer {
    pub(super) fn of(caller: &Caller, config: &LimitsConfig) -> Self {
        let who = match caller.source_ip {
            _ if !caller.principal.is_anonymous() => Who::Principal(caller.principal.clone()),
            Some(address) => network(address, config),
            None => Who::Nowhere,
        };
        let key = KEYS.hash_one(&who);
        Self { who, key }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        !matches!(self.who, Who::Principal(_))
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Who::Nowhere => f.write_str("callers without an address"),
            Who::Principal(principal) => f.write_str(&principal.0),
        }
    }
}

fn network(address: IpAddr, config: &LimitsConfig) -> Who {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let prefix = config.ipv4_prefix.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Who::Network(Ipv4Addr::from_bits(address.to_bits() & mask).into(), prefix)
        }
        IpAddr::V6(address) => {
            let prefix = config.ipv6_prefix.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Who::Network(Ipv6Addr::from_bits(address.to_bits() & mask).into(), prefix)
        }
    }
}

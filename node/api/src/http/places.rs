//! How many connections one client holds, so that one cannot take them all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// An entry only while its client has a connection: bounded as connections are.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<IpAddr, u32>>);

/// A connection of a client, while it lives.
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    /// `None` when `client` holds `max` already.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr, max: u32) -> Option<Place> {
        let client = who(client);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(client).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

/// A host with IPv6 has a whole /64 to come from.
fn who(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_and_no_more_until_one_ends() {
        let places = Arc::new(Places::default());
        let take = |client: &str| places.take(client.parse().unwrap(), 2);
        let (first, _second) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some(), "another client");
        drop(first);
        let _third = take("192.0.2.1").unwrap();
        let _v6 = (take("2001:db8::1").unwrap(), take("2001:db8::ffff").unwrap());
        assert!(take("2001:db8::2").is_none(), "the same /64");
        assert!(take("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_client_that_left() {
        let places = Arc::new(Places::default());
        drop(places.take("192.0.2.1".parse().unwrap(), 1));
        assert!(places.0.lock().unwrap().is_empty());
    }
}

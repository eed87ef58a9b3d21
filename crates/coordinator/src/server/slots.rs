//! Connections that may be open at once: in all, and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The count of open connections.
pub(super) struct Slots {
    shared: Arc<Mutex<Open>>,
    max: usize,
    max_per_address: usize,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// Only addresses with open connections, so it is never larger than `all`.
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the open connections, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Mutex<Open>>,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    All,
    Address,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { shared: Arc::default(), max, max_per_address }
    }

    pub(super) fn take(&self, address: IpAddr) -> Result<Slot, Refused> {
        let address = network(address);
        let mut open = lock(&self.shared);
        if open.all >= self.max {
            return Err(Refused::All);
        }
        let here = open.by_address.entry(address).or_default();
        // An entry that was just made is zero, and the maximum is at least one.
        if *here >= self.max_per_address {
            return Err(Refused::Address);
        }
        *here += 1;
        open.all += 1;
        metrics::gauge!("sordino_connections_open").increment(1.0);
        Ok(Slot { shared: self.shared.clone(), address })
    }
}

impl Refused {
    /// As a label of a metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "too_many",
            Self::Address => "too_many_of_address",
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.shared);
        open.all -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
        metrics::gauge!("sordino_connections_open").decrement(1.0);
    }
}

/// What counts as one address: an IPv6 host has a whole /64 to choose from, and may show an IPv4 address in disguise.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Each change is complete before anything could panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let slots = Slots::new(3, 2);
        let take = |address: &str| slots.take(address.parse().expect("an address"));
        let first = take("10.0.0.1").expect("free");
        let second = take("10.0.0.1").expect("free");
        assert_eq!(take("10.0.0.1").err(), Some(Refused::Address));
        let third = take("10.0.0.2").expect("free");
        assert_eq!(take("10.0.0.3").err(), Some(Refused::All));
        drop((first, third));
        assert!(take("10.0.0.1").is_ok());
        drop(second);
        assert!(lock(&slots.shared).by_address.is_empty());
    }

    #[test]
    fn a_network_counts_as_one_address() {
        let same = |a: &str, b: &str| network(a.parse().expect("a")) == network(b.parse().expect("b"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
    }
}

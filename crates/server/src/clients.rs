//! How many connections one client may have: one that opens more and more leaves others room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections by client. Asked once for each connection.
pub(crate) struct Clients {
    limit: ClientLimit,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// What one client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientLimit {
    pub(crate) connections_max: usize,
    /// Whether programs on this machine are held to it, though one of them may be a proxy that
    /// stands for all there are.
    pub(crate) includes_loopback: bool,
}

/// A client's place, free again when this is dropped.
pub(crate) struct Place(Option<(Arc<Clients>, IpAddr)>);

impl Clients {
    pub(crate) fn new(limit: ClientLimit) -> Arc<Self> {
        Arc::new(Self { limit, connections: Mutex::default() })
    }

    /// A place for a connection from `address`; `None` where its client has all it may have.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = client(address);
        if client.is_loopback() && !self.limit.includes_loopback {
            return Some(Place(None));
        }
        let mut connections = self.lock();
        let count = connections.entry(client).or_insert(0);
        if *count >= self.limit.connections_max {
            return None;
        }
        *count += 1;
        Some(Place(Some((self.clone(), client))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing that holds it can panic half-way.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((clients, client)) = self.0.take() else { return };
        let mut connections = clients.lock();
        if let Some(count) = connections.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&client);
            }
        }
    }
}

/// Who stands behind an address: of IPv6, whoever has one address has the 64 bits behind it.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(includes_loopback: bool) -> Arc<Clients> {
        Clients::new(ClientLimit { connections_max: 2, includes_loopback })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_places_and_no_more_and_others_have_theirs() {
        let clients = clients(false);
        let of = |address| clients.admit(ip(address));
        let (first, _second) = (of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert!(of("192.0.2.1").is_none());
        assert!(of("192.0.2.2").is_some());
        drop(first);
        let _third = of("192.0.2.1");
        assert!(of("192.0.2.1").is_none());
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_client() {
        let clients = clients(false);
        let _places = ["2001:db8::1", "2001:db8::2:0:0:1"].map(|a| clients.admit(ip(a)).unwrap());
        assert!(clients.admit(ip("2001:db8::3")).is_none());
        assert!(clients.admit(ip("2001:db8:0:1::3")).is_some());
    }

    #[test]
    fn this_machine_is_held_to_the_limit_only_where_that_is_wanted() {
        for (includes_loopback, admitted) in [(false, 5), (true, 2)] {
            let clients = clients(includes_loopback);
            for address in ["127.0.0.1", "::1"] {
                let places: Vec<_> = (0..5).filter_map(|_| clients.admit(ip(address))).collect();
                assert_eq!(places.len(), admitted);
            }
        }
    }

    #[test]
    fn clients_that_left_are_forgotten() {
        let clients = clients(false);
        for n in 0..100 {
            drop(clients.admit(ip(&format!("192.0.2.{n}"))));
        }
        assert!(clients.lock().is_empty());
    }
}

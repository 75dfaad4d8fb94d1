//! Addresses that stay ours while nobody listens on them.
//!
//! A process that is killed and started again must find its port free. Between the two, the
//! system could hand that port to somebody else: to another test's process, or as the local end
//! of any outgoing connection. So the test binds the port itself and never listens on it. With
//! `SO_REUSEADDR` on both sides the process may bind it as well, connections go to the process
//! while it listens and are refused while it does not, and nobody else gets the port.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A free port of the loopback interface, ours until this is dropped.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddr,
    _socket: Socket,
}

impl HeldPort {
    /// Any free port.
    pub fn any() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _socket: socket }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_held_port_refuses_connections_until_somebody_listens_and_again_after() {
        let port = HeldPort::any();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            // The standard library's listener sets SO_REUSEADDR, as the program's does.
            let listener = TcpListener::bind(port.address()).unwrap();
            TcpStream::connect(port.address()).unwrap();
            drop(listener);
        }
    }

    #[test]
    fn nobody_else_is_given_a_held_port() {
        let held: Vec<_> = (0..200).map(|_| HeldPort::any()).collect();
        let mut ports: Vec<_> = held.iter().map(|port| port.address().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), held.len());
    }
}

//! Clients that ask and take no answers, as `slowhttptest -X` does.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use inferring_integration_tests::models;
use inferring_integration_tests::waiting::{LONG, wait_until};
use socket2::{Domain, Socket, Type};

use crate::serving;

/// A client with hardly any room for an answer, which asks three times at once and reads nothing.
fn ask_and_read_nothing(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let request = "GET /infer HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Their answers are short and the system holds them all, so that to this process each connection
/// is an idle one. It is over when an idle connection's time is, though its client, which has not
/// read so far, cannot know.
#[test]
fn fault_38_clients_that_take_no_answers_hold_their_connections_no_longer_than_idle_ones() {
    const CLIENTS: usize = 100;
    let worker = serving("worker")
        .arg(models::iris())
        .set(["header", "body", "write"].map(|what| format!("server.{what}_timeout=1s")))
        .start();
    let before = worker.descriptors();
    let clients: Vec<_> = (0..CLIENTS).map(|_| ask_and_read_nothing(worker.address())).collect();
    for client in &clients {
        client.peek(&mut [0]).expect("an answer has come, and still stands unread");
    }
    // A process that has just become ready may still open a few descriptors of its own.
    let none_of_theirs = before + CLIENTS / 10;
    wait_until("their connections are closed", LONG, || worker.descriptors() < none_of_theirs);
    drop(clients);
}

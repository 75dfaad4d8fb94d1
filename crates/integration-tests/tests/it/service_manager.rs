//! What a service manager is told, as systemd listens for it, and what it hands over.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, TRIPLE};
use inferring_integration_tests::process::Launch;
use inferring_integration_tests::waiting::LONG;

use crate::{cluster, serving};

fn read(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn a_service_manager_hears_when_requests_are_taken_and_when_the_end_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut worker = serving("worker").arg(models::iris()).env("NOTIFY_SOCKET", &path).start();
    let ready = read(&socket);
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=") && ready.contains("iris"), "{ready}");
    assert_eq!(worker.client().get("/v2/health/ready").status, 200);
    worker.terminate();
    let stopping = read(&socket);
    assert!(stopping.lines().any(|line| line == "STOPPING=1"), "{stopping}");
    assert_eq!(worker.wait_for_end(LONG).code, Some(0));
}

/// As it is for everybody who starts the program by hand.
#[test]
fn a_service_manager_that_is_gone_is_no_reason_to_fail() {
    let launch = serving("worker").arg(models::iris());
    let mut worker = launch.env("NOTIFY_SOCKET", "/no/such/socket").start();
    assert_eq!(worker.client().get("/v2/health/ready").status, 200);
    worker.terminate();
    let ended = worker.wait_for_end(LONG);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("cannot tell the service manager"), "{}", ended.stderr);
}

/// A socket as a service manager would have it.
fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn handed_over(launch: Launch, listener: &TcpListener, name: &str) -> Launch {
    launch.on_socket(listener.try_clone().unwrap(), "1", name)
}

/// The manager listens all the time: who comes between two processes waits for the second one. There
/// are clients that open a connection for each question and such as keep theirs.
#[test]
fn fault_33_a_gateway_that_is_restarted_on_its_service_managers_socket_refuses_nobody() {
    let cluster = cluster().workers(2).models([models::named("int64_scale")]).start();
    let listener = listening();
    let address = listener.local_addr().unwrap();
    let workers = [1, 2].map(|n| format!("worker_{n}={}", cluster.worker(n).address()));
    let launch = serving("gateway").args(workers).set(["server.drain_delay=300ms"]);
    let launch = handed_over(launch, &listener, "http");
    let mut gateway = launch.start();
    assert_eq!(gateway.address(), address);
    let kept = Load::start(address, 4, TRIPLE);
    let fresh = Load::asking(address, 8, move |_, n| {
        let body = TRIPLE.body(n).to_string();
        let answer = Client::new(address).send("POST", &TRIPLE.path(), &[], body.as_bytes());
        answer.map_err(|error| error.to_string()).and_then(|answer| TRIPLE.check(n, &answer))
    });
    for _ in 0..5 {
        kept.wait_for_more(100);
        fresh.wait_for_more(100);
        gateway.terminate();
        let ended = gateway.wait_for_end(LONG);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        gateway = launch.start();
    }
    kept.wait_for_more(100);
    fresh.wait_for_more(100);
    kept.finish().assert_none_failed();
    fresh.finish().assert_none_failed();
}

#[test]
fn sockets_are_used_by_their_names_and_go_before_addresses() {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    let worker = || serving("worker").arg(models::iris());
    let serves = handed_over(worker(), &listener, "http").start();
    assert_eq!(serves.address(), address);
    assert_eq!(serves.client().get("/v2/health/ready").status, 200);
    drop(serves);
    // Besides the one that it binds itself.
    let besides = handed_over(worker(), &listener, "grpc").start();
    assert_ne!(besides.address(), address);
    for address in [besides.address(), address] {
        assert_eq!(Client::new(address).get("/v2/health/ready").status, 200);
        assert_eq!(Client::new(address).post("/admin/drain", &[], b"").status, 404);
    }
    drop(besides);
    let administered = handed_over(worker(), &listener, "admin").start();
    assert_ne!(administered.address(), address);
    assert_eq!(Client::new(address).post("/admin/drain", &[], b"").status, 200);
}

#[test]
fn what_is_handed_over_and_is_no_socket_to_listen_on_is_refused_in_words() {
    let announced = "the service manager announces other sockets";
    let unknown = "it is not known what the socket `web` of the service manager is for: expected \
                   `http`, `grpc` or `admin`";
    let refused = |socket: OwnedFd, count: &str, names: &str, expected: &str| {
        let launch = serving("worker").arg(models::iris()).on_socket(socket, count, names);
        let ended = launch.run();
        assert_eq!(ended.code, Some(1), "{count} {names}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{count} {names}: {}", ended.stderr);
    };
    refused(listening().into(), "2", "http:admin", announced);
    refused(listening().into(), "1", "http:admin", announced);
    refused(listening().into(), "one", "http", announced);
    refused(listening().into(), "1", "web", unknown);
    let expected = |got: &str| {
        format!(
            "socket `http` of the service manager: expected a socket that listens for TCP \
             connections, got {got}"
        )
    };
    let listener = listening();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = UnixListener::bind(folder.path().join("socket")).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = tempfile::tempfile().unwrap();
    refused(connected.into(), "1", "http", &expected("a socket that does not listen"));
    refused(local.into(), "1", "http", &expected("a socket of another kind"));
    refused(datagrams.into(), "1", "http", &expected("a socket for datagrams"));
    refused(file.into(), "1", "http", &expected("something that is no socket"));
}

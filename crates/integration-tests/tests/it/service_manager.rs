//! What a service manager is told, as systemd listens for it.

use std::os::unix::net::UnixDatagram;

use inferring_integration_tests::models;
use inferring_integration_tests::waiting::LONG;

use crate::serving;

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

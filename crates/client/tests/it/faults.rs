//! Workers that are silent or not there, and requests that come too late. The numbers are those
//! of `docs/reference/faults.md`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use inferring_client::ClientConfig;
use inferring_types::{Blame, ErrorKind, InferenceService, StatusSource};
use socket2::{Domain, Socket, Type};

use crate::fixture::{FakeWorker, Reply, client_of, good_answer, request, request_of};

/// More than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// What a request of the fixture may take.
const TIMEOUT: Duration = Duration::from_secs(5);

fn ago(time: Duration) -> Instant {
    Instant::now().checked_sub(time).unwrap()
}

#[tokio::test]
async fn fault_02_a_worker_that_says_nothing_is_given_up_when_the_deadline_passes() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::CloseAfter(LONG)]);
    let asked = Instant::now();
    let left = Duration::from_millis(50);
    let error = worker.client.infer(request_of(ago(TIMEOUT - left))).await.unwrap_err();
    let verdict = (error.kind(), error.blame(), error.is_retryable());
    assert_eq!(verdict, (ErrorKind::DeadlineExceeded, Blame::Server, false));
    assert!(asked.elapsed() < LONG / 2, "{:?}", asked.elapsed());
    // Its connection is not used again: an answer to that request may still come.
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    assert_eq!(worker.connections(), [1, 2]);
}

/// An address that answers no attempt to connect: as many connections wait there to be accepted
/// as may, so the system drops the packets of further ones.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the system accepts without end");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

#[tokio::test]
async fn fault_05_a_worker_behind_a_black_hole_costs_the_time_to_connect_and_no_place() {
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(50),
        connections_max: NonZeroUsize::MIN,
        ..ClientConfig::default()
    };
    let hole = BlackHole::new();
    let client = client_of(hole.address, config.clone());
    // Were the place of the one before not free again, the next would be refused for that.
    for _ in 0..3 {
        let asked = Instant::now();
        let error = client.status().await.unwrap_err();
        assert_eq!(error.blame(), Blame::WorkerUnreachable, "{}", error.chain());
        assert!(error.chain().to_string().contains("did not accept"), "{}", error.chain());
        let took = asked.elapsed();
        assert!(took >= config.connect_timeout && took < LONG / 2, "{took:?}");
    }
    // Nor does one that nobody waits for any more keep it.
    let patient = ClientConfig { connect_timeout: LONG, ..config };
    let client = client_of(hole.address, patient);
    for _ in 0..3 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), client.status()).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
}

#[tokio::test]
async fn fault_23_nothing_is_sent_for_a_deadline_that_has_passed() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    let error = worker.client.infer(request_of(ago(2 * TIMEOUT))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(worker.seen().len(), 0);
}

/// What a client said of itself, or made up, ends at the gateway: a worker is told this alone.
#[tokio::test]
async fn fault_46_a_worker_is_sent_these_fields_and_no_others() {
    let worker = FakeWorker::start(ClientConfig::default()).await;
    worker.replies([Reply::Bytes(good_answer().await)]);
    worker.client.infer(request()).await.unwrap();
    let seen = worker.seen().remove(0);
    let names: BTreeSet<_> =
        seen.head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    let expected = [
        "content-length",
        "content-type",
        "host",
        "inference-header-content-length",
        "x-inferring-load",
        "x-request-timeout-ms",
    ];
    assert_eq!(names, expected.into());
}

//! A process that may open nothing more. Apart from the other tests, whose process it would be too.

use std::fs::File;
use std::net::TcpListener;

use inferring_client::{ClientConfig, RemoteWorker};
use inferring_types::{Blame, ErrorKind, StatusSource};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn fault_44_a_lack_of_descriptors_is_not_the_workers_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let worker = RemoteWorker::new(&address, ClientConfig::default()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) })
        .unwrap();
    let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(files.len() < 64);
    for _ in 0..3 {
        let error = worker.status().await.unwrap_err();
        let verdict = (error.kind(), error.blame(), error.is_retryable());
        let chain = error.chain();
        assert_eq!(verdict, (ErrorKind::Overloaded, Blame::Server, true), "{chain}");
        assert!(error.is_unsent(), "{chain}");
    }
    drop(files);
    // Now it is found out that nobody listens there.
    let error = worker.status().await.unwrap_err();
    assert_eq!(error.blame(), Blame::WorkerUnreachable, "{}", error.chain());
}

//! Large requests under overload, against real processes: refused before their body is read, and
//! never without an answer.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::faults::read_answer;
use inferring_integration_tests::models;
use inferring_integration_tests::waiting::{LONG, wait_for};
use serde_json::json;

use crate::cluster;

/// Makes a body of 80 KB and more.
const ROWS: usize = 5000;

/// What clients allow: a few runs of the model.
const TIMEOUT: &str = "400";

/// A request for `slow`, like no other of another number: its JSON and all of it.
fn large(number: u32) -> (usize, Vec<u8>) {
    let size = 16 * ROWS;
    let input = json!({ "name": "input", "datatype": "FP32", "shape": [ROWS, 4],
        "parameters": { "binary_data_size": size } });
    let json = json!({ "inputs": [input], "parameters": { "binary_data_output": true } });
    let json = json.to_string().into_bytes();
    let mut tensor = vec![0; size];
    tensor[..4].copy_from_slice(&(number as f32).to_le_bytes());
    (json.len(), [json, tensor].concat())
}

/// Clients that ask for far more than can be done, each for what nobody has asked for.
struct Overload {
    ends: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<[u32; 2]>>,
}

impl Overload {
    fn start(addresses: [SocketAddr; 2]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicU32::new(0));
        let clients = (0..48).map(|client| {
            let (ends, number) = (ends.clone(), number.clone());
            std::thread::spawn(move || {
                // An ordinary client, which sends its whole body before it looks for an answer.
                let client = Client::new(addresses[client % 2]);
                let mut seen = [0; 2];
                while !ends.load(Ordering::Relaxed) {
                    let (json, body) = large(number.fetch_add(1, Ordering::Relaxed));
                    let json = json.to_string();
                    let fields = [
                        ("inference-header-content-length", json.as_str()),
                        ("x-request-timeout-ms", TIMEOUT),
                    ];
                    let answer = client.post("/v2/models/slow/infer", &fields, body);
                    match answer.status {
                        200 => seen[0] += 1,
                        429 | 503 | 504 => seen[1] += 1,
                        other => panic!("{other}: {}", answer.text()),
                    }
                }
                seen
            })
        });
        Self { clients: clients.collect(), ends }
    }

    /// How many were answered, and how many were told that they could not be.
    fn end(self) -> [u32; 2] {
        self.ends.store(true, Ordering::Relaxed);
        let seen = self.clients.into_iter().map(|client| client.join().unwrap());
        seen.fold([0; 2], |sum, seen| [sum[0] + seen[0], sum[1] + seen[1]])
    }
}

/// The refusal of a request of which nothing but the head was sent, and its connection; `None`
/// where the body is waited for.
fn refusal(address: SocketAddr, fields: &str) -> Option<(TcpStream, String)> {
    let (json, body) = large(u32::MAX);
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: {TIMEOUT}\r\n\
         Inference-Header-Content-Length: {json}\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len(),
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let is_time_over =
        |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    match read_answer(&mut stream) {
        Ok(answer) if answer.starts_with("HTTP/1.1 429 ") => Some((stream, answer)),
        // There was room for once, or no time was left for it.
        Ok(answer) => {
            let is_known = ["HTTP/1.1 100 ", "HTTP/1.1 504 "].iter().any(|s| answer.starts_with(s));
            assert!(is_known, "{answer}");
            None
        }
        Err(error) => {
            assert!(is_time_over(&error), "{error}");
            None
        }
    }
}

#[test]
fn fault_22_a_large_request_is_refused_by_its_head_and_its_connection_serves_on() {
    let cluster = cluster()
        .workers(1)
        .models([models::named("slow")])
        .worker_setting("worker.batching.mode=\"alone\"")
        .worker_setting("worker.instances=1")
        .start();
    let worker = cluster.worker(1).address();
    let overload = Overload::start([worker, cluster.gateway().address()]);
    let what = "a large request is refused by its head";
    let (mut stream, answer) = wait_for(what, LONG, || refusal(worker, ""));
    let head = answer.to_ascii_lowercase();
    assert!(head.contains("\r\nretry-after: ") && !head.contains("connection: close"), "{answer}");
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&large(u32::MAX).1).unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(read_answer(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
    // A client that waits to be asked is not asked.
    let expecting = || refusal(worker, "Expect: 100-continue\r\n");
    let (_, answer) = wait_for(what, LONG, expecting);
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    let [answered, told] = overload.end();
    assert!(answered > 0 && told > 0, "{answered} answered, {told} refused");
    cluster.assert_breakers_closed();
}

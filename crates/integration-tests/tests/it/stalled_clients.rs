//! Clients that stall cost the others nothing, and in the end lose their connections.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::faults::Stall;
use inferring_integration_tests::load::quantile;
use inferring_integration_tests::models::{self, SETOSA, TRIPLE};
use inferring_integration_tests::process::Launch;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::{PROGRAM, cluster, serving};

/// The 99th percentile of 100 good requests, one after the other: the median of five rounds,
/// since the machine may be busy with other things now and then.
fn p99(client: &Client, first: u64) -> Duration {
    let ask = |n| {
        let answer = client.post_json(&TRIPLE.path(), &TRIPLE.body(n));
        TRIPLE.check(n, &answer).unwrap();
        answer.elapsed
    };
    let p99_of_round = |round: u64| {
        let first = first + 100 * round;
        quantile((first..first + 100).map(ask).collect(), 0.99)
    };
    quantile((0..5).map(p99_of_round).collect(), 0.5)
}

#[test]
fn fault_38_stalled_connections_do_not_delay_others() {
    let cluster = cluster().models([models::named("int64_scale")]).start();
    let (gateway, worker) = (cluster.gateway().address(), cluster.worker(1).address());
    let client = cluster.client();
    let before = p99(&client, 0);
    // Generous: a request that is held up waits for a time-out of half a minute.
    let bound = 5 * before + Duration::from_millis(250);
    let mut stalled = Vec::new();
    for (count, first) in [(64, 1000), (500, 2000)] {
        for n in stalled.len()..count {
            let address = if n % 10 == 0 { worker } else { gateway };
            // Eight are enough of those: each holds megabytes of the system's memory.
            let kinds = if n < 32 { &Stall::ALL[..] } else { &Stall::ALL[..3] };
            stalled.push(kinds[n % kinds.len()].connect(address));
        }
        let beside = p99(&client, first);
        assert!(beside < bound, "{beside:?} beside {count} stalled ones, {before:?} without");
    }
    cluster.assert_breakers_closed();
    assert_eq!(client.stats()["reachable_workers"], 3);
}

#[test]
fn fault_44_a_process_takes_more_connections_than_it_was_started_to_have_files() {
    // As most systems start a process: a low limit, which it may raise itself.
    let limited = "ulimit -Sn 256; exec \"$0\" \"$@\"";
    let worker = Launch::new("sh", ["-c", limited, PROGRAM, "worker", "--listen", "127.0.0.1:0"])
        .arg(models::iris())
        .start();
    let _silent: Vec<_> = (0..400).map(|_| Stall::Silent.connect(worker.address())).collect();
    let answer = worker.client().post_json("/infer", &json!({ "input_data": SETOSA }));
    assert!(answer.elapsed < Duration::from_secs(10), "{:?}", answer.elapsed);
    answer.ok();
}

#[test]
fn fault_38_a_stalled_connection_is_closed_when_its_time_is_over() {
    let worker = serving("worker")
        .arg(models::iris())
        .set(["header", "body", "write"].map(|what| format!("server.{what}_timeout=1s")))
        .start();
    let mut stalled = Stall::ALL.map(|stall| stall.connect(worker.address()));
    for (stall, stream) in Stall::ALL.into_iter().zip(&mut stalled) {
        wait_until(&format!("{stall:?} is closed"), LONG, || is_closed(stall, stream));
    }
}

/// Whether the other side has closed the connection.
fn is_closed(stall: Stall, stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let ended = |e: Error| matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    if stall == Stall::ReadsNothing {
        // It must not begin to read now.
        return stream.write(b"x").is_err_and(ended);
    }
    stream.read(&mut [0; 1024]).map_or_else(ended, |length| length == 0)
}

//! A fleet whose workers are killed again and again, and clients that hang up again and again.
//!
//! Who is killed and how many hang up is drawn. A failure prints the seed;
//! `INFERRING_TEST_SEED=<seed>` draws the same again.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, TRIPLE};
use inferring_integration_tests::waiting::{LONG, wait_until};

use crate::cluster;

const ROUNDS: usize = 12;

#[test]
fn fault_48_under_random_kills_every_request_is_accounted_for_and_nothing_grows() {
    let seed = match std::env::var("INFERRING_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("INFERRING_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cluster = cluster()
        .models([models::named("int64_scale")])
        // Whoever is killed several times in a row is not waited for.
        .gateway_setting("gateway.breaker.open_timeout=1s")
        .start();
    let address = cluster.gateway().address();
    let client = cluster.client();
    let load = Load::start(address, 6, TRIPLE);
    load.wait_for_more(300);
    let mut cancelled = 0;
    let mut settled = None;
    for round in 0..ROUNDS {
        let victim = rng.usize(1..=3);
        cluster.worker_mut(victim).kill();
        for n in 0..rng.usize(1..20) {
            let body = TRIPLE.body(900_000_000 + (round * 20 + n) as u64).to_string();
            let path = TRIPLE.path();
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            cancelled += 1;
        }
        load.wait_for_more(50);
        cluster.spawn_worker(victim);
        let ready = cluster.worker_mut(victim).wait_until_ready();
        load.wait_for_answer_by(&format!("worker_{victim}"), ready.max(Instant::now()));
        // By then everything that is kept has come up once.
        if round == 3 {
            settled = Some((cluster.gateway().resident_bytes(), cluster.gateway().threads()));
        }
    }
    let report = load.finish();
    report.assert_none_failed();
    wait_until("nothing is in flight", LONG, || client.stats()["in_flight"] == 0);
    // In = answered + failed + cancelled: what was cancelled may not have been read at all.
    let asked = client.stats()["total_requests"].as_u64().unwrap() as usize;
    let answered = report.samples().len();
    assert!((answered..=answered + cancelled).contains(&asked), "{asked}, {answered}, {cancelled}");
    let (memory, threads) = settled.expect("there are more rounds than that");
    let gateway = cluster.gateway();
    assert_eq!(gateway.threads(), threads);
    let grown = gateway.resident_bytes().saturating_sub(memory);
    assert!(grown < 32 << 20, "{grown} bytes since the fourth round");
    // Connections to dead workers and of clients that left are gone.
    wait_until("descriptors are given back", LONG, || gateway.descriptors() < 64);
}

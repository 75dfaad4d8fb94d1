//! Clients that abuse the protocols, against real processes: a worker, and a gateway before one.
//! The worker is the canary: it counts what reaches it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::faults::{Stall, read_answer, send_raw};
use inferring_integration_tests::http2::Abuse;
use inferring_integration_tests::models::SETOSA;
use inferring_integration_tests::smuggling::{MARK, attempts};
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::cluster;

fn addresses(cluster: &Cluster) -> [SocketAddr; 2] {
    [cluster.worker(1).address(), cluster.gateway().address()]
}

fn body() -> String {
    json!({ "input_data": SETOSA }).to_string()
}

#[test]
fn fault_40_a_request_that_hides_another_is_refused_and_neither_reaches_the_model() {
    let cluster = cluster().workers(1).behind_proxies().start();
    let body = body();
    cluster.client().post_json("/infer", &json!({ "input_data": [1, 2, 3, 4] })).ok();
    let before = cluster.sum("total_requests");
    let mut wrong = Vec::new();
    for address in addresses(&cluster) {
        for attempt in attempts("/infer", &body) {
            let answer = send_raw(address, &attempt.bytes, LONG);
            let answers = answer.text.matches("HTTP/1.1 ").count();
            if (answer.status(), answers, answer.closed) != (Some(400), 1, true) {
                wrong.push((attempt.name, answer));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cluster.sum("total_requests"), before);
    // Nor did the gateway pass anything of them on.
    let passed_on = cluster.proxy(1).received();
    assert!(!passed_on.contains(MARK), "{passed_on}");
    assert_eq!(passed_on.matches("POST ").count(), 1, "{passed_on}");
    cluster.assert_breakers_closed();
    cluster.client().post("/infer", &[], body).ok();
}

#[test]
fn fault_41_what_is_left_of_a_refused_request_is_never_taken_for_the_next_one() {
    let cluster = cluster().workers(1).start();
    let before = cluster.sum("total_requests");
    let body = body();
    let hidden =
        format!("POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let next = "GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for address in addresses(&cluster) {
        for (head, status) in [
            ("POST /nowhere HTTP/1.1", 404),
            ("POST /v2/health/live HTTP/1.1", 405),
            ("POST /infer HTTP/1.1\r\nContent-Encoding: x", 415),
            ("POST /infer HTTP/1.1\r\nX-Request-Timeout-Ms: soon", 400),
            ("POST /models/absent/infer HTTP/1.1", 404),
        ] {
            for times in [1, 100, 20_000] {
                let left = hidden.repeat(times);
                let request = format!(
                    "{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n{left}{next}",
                    left.len()
                );
                let answer = send_raw(address, request.as_bytes(), LONG);
                assert!(answer.closed, "{head}, {times}");
                assert_eq!(answer.status(), Some(status), "{head}, {times}: {}", answer.text);
                // Either what was left was read and the next request answered, or there is none.
                let answers = answer.text.matches("HTTP/1.1 ").count();
                let lives = answer.text.matches("{\"live\":true}").count();
                assert_eq!(answers, 1 + lives, "{head}, {times}: {}", answer.text);
                assert!(times > 100 || lives == 1, "{head}, {times}: {}", answer.text);
            }
        }
    }
    assert_eq!(cluster.sum("total_requests"), before);
}

#[test]
fn fault_39_one_byte_too_many_is_a_413_and_a_lie_about_it_holds_no_memory() {
    const LIMIT: usize = 64 * 1024;
    let setting = "server.body_size_max=\"64KiB\"";
    let cluster = cluster().workers(1).worker_setting(setting).gateway_setting(setting).start();
    for (process, address) in
        [cluster.worker(1), cluster.gateway()].into_iter().zip(addresses(&cluster))
    {
        let whole = format!("{}{}", body(), " ".repeat(LIMIT - body().len()));
        assert_eq!(process.client().post("/infer", &[], &whole).status, 200);
        assert_eq!(process.client().post("/infer", &[], whole + " ").status, 413);
        // By what it says alone: nothing of the body is sent.
        let mut stream = TcpStream::connect(address).unwrap();
        let length = LIMIT + 1;
        let head = format!("POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        assert!(read_answer(&mut stream).unwrap().starts_with("HTTP/1.1 413 "));
        // Chunks do not say how much comes in all.
        let head = "POST /infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        let request = format!("{head}{}", chunk.repeat(LIMIT / 0x1000 + 1));
        let answer = send_raw(address, request.as_bytes(), LONG);
        assert_eq!(answer.status(), Some(413), "{}", answer.text);
        // And one says that a terabyte comes, on many connections.
        let before = process.resident_bytes();
        let lie = format!("{head}10000000000\r\n{}", " ".repeat(1000));
        let liars: Vec<_> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(lie.as_bytes()).unwrap();
                stream
            })
            .collect();
        assert_eq!(process.client().post("/infer", &[], body()).status, 200);
        let grown = process.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for {} liars", liars.len());
    }
    cluster.assert_breakers_closed();
}

/// Clients that send, or take, a little again and again. Each write counts as a sign of life to
/// whoever only waits for silence.
#[test]
fn fault_38_a_client_that_trickles_is_closed_by_its_time_or_its_rate() {
    let settings = ["server.header_timeout=1s", "server.body_timeout=3s"];
    let mut plan = cluster().workers(1);
    for setting in settings {
        plan = plan.worker_setting(setting).gateway_setting(setting);
    }
    let cluster = plan.start();
    for address in addresses(&cluster) {
        for stall in [Stall::HalfHead, Stall::HalfBody] {
            let mut stream = stall.connect(address);
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let began = Instant::now();
            wait_until(&format!("{stall:?} is closed"), LONG, || {
                // A byte every few milliseconds.
                let sent = stream.write(b"a").is_err();
                let mut answer = [0; 1024];
                sent || stream.read(&mut answer).is_ok()
            });
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(900), "{stall:?}: {took:?}");
        }
        let answer = send_raw(
            address,
            b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            LONG,
        );
        assert_eq!(answer.status(), Some(200));
    }
}

#[test]
fn fault_42_a_client_that_floods_over_http2_is_ended_or_borne_and_others_are_served() {
    let cluster = cluster().workers(1).start();
    let client = cluster.client();
    let flower = body();
    for (process, address) in
        [cluster.worker(1), cluster.gateway()].into_iter().zip(addresses(&cluster))
    {
        for abuse in Abuse::ALL {
            let before = process.resident_bytes();
            let body = flower.clone();
            let abuser = std::thread::spawn(move || {
                abuse.commit(address, "/infer", body.as_bytes(), 20_000)
            });
            loop {
                let answer = client.post("/infer", &[], &flower);
                assert_eq!(answer.status, 200, "{abuse:?}: {}", answer.text());
                let (limit, took) = (Duration::from_secs(10), answer.elapsed);
                assert!(took < limit, "{abuse:?}: {took:?}");
                if abuser.is_finished() {
                    break;
                }
            }
            let outcome = abuser.join().unwrap();
            assert!(outcome.ended || abuse.is_borne(), "{abuse:?}: {outcome:?}");
            let grown = process.resident_bytes().saturating_sub(before);
            assert!(grown < 128 << 20, "{abuse:?}: {grown} bytes");
        }
    }
    cluster.assert_breakers_closed();
}

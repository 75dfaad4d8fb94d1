//! Whoever is asked to stop finishes what is in its hands, and ends well.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use inferring_integration_tests::faults::{Stall, read_answer};
use inferring_integration_tests::load::{Load, ask_together};
use inferring_integration_tests::models::{self, SETOSA, SLOW_DOUBLE, TRIPLE};
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;

use crate::cluster;

#[test]
fn fault_32_a_worker_that_is_told_to_stop_under_load_fails_no_request() {
    let mut cluster =
        cluster().models([models::named("int64_scale"), models::named("slow")]).start();
    let address = cluster.gateway().address();
    let (fast, slow) = (Load::start(address, 6, TRIPLE), Load::start(address, 6, SLOW_DOUBLE));
    fast.wait_for_more(200);
    slow.wait_for_more(12);
    cluster.worker(2).terminate();
    let ended = cluster.worker_mut(2).wait_for_end(LONG);
    fast.wait_for_more(200);
    slow.wait_for_more(12);
    fast.finish().assert_none_failed();
    slow.finish().assert_none_failed();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Long before it would be asked how it is, and before it refuses anybody.
#[test]
fn fault_32_a_worker_that_is_told_to_stop_tells_its_gateway_at_once() {
    let cluster = cluster()
        .models([models::named("int64_scale")])
        .worker_setting("server.drain_delay=60s")
        .gateway_setting("gateway.probe.interval=600s")
        .start();
    let client = cluster.client();
    let load = Load::start(cluster.gateway().address(), 6, TRIPLE);
    load.wait_for_more(200);
    let told = Instant::now();
    cluster.worker(2).terminate();
    wait_until("the gateway knows", LONG, || client.stats()["workers"][1]["reachable"] == false);
    let requests = client.stats()["workers"][1]["requests"].clone();
    load.wait_for_more(100);
    assert_eq!(client.stats()["workers"][1]["requests"], requests, "it is sent nothing new");
    assert!(told.elapsed() < Duration::from_secs(30), "no probe has told");
    load.finish().assert_none_failed();
}

#[test]
fn fault_32_a_gateway_that_is_told_to_stop_answers_what_it_has_accepted() {
    let mut cluster = cluster().models([models::named("slow")]).start();
    let address = cluster.gateway().address();
    let clients = std::thread::spawn(move || ask_together(address, SLOW_DOUBLE, 1..=40));
    let client = cluster.client();
    wait_until("all requests are in the gateway's hands", LONG, || {
        let stats = client.stats();
        stats["total_requests"] == 40 && stats["in_flight"].as_u64() > Some(0)
    });
    cluster.gateway().terminate();
    let ended = cluster.gateway_mut().wait_for_end(LONG);
    clients.join().unwrap().assert_none_failed();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Requests that have reached the gateway's machine but not the gateway itself: it is frozen
/// while they are sent and the order to stop is given, so that it finds all of it at once.
#[test]
fn requests_that_came_before_the_order_to_stop_are_answered_though_nobody_read_them_yet() {
    let mut cluster = cluster().start();
    let address = cluster.gateway().address();
    let connect = |_| TcpStream::connect(address).unwrap();
    let mut kept: Vec<_> = (0..10).map(connect).collect();
    for (n, stream) in kept.iter_mut().enumerate() {
        send_question(stream, n);
        assert_eq!(read_status(stream), Some(200));
    }
    cluster.gateway().freeze();
    let new: Vec<_> = (0..10).map(connect).collect();
    let mut streams: Vec<_> = kept.into_iter().chain(new).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        send_question(stream, 100 + n);
    }
    cluster.gateway().terminate();
    cluster.gateway().thaw();
    let statuses: Vec<_> = streams.iter_mut().map(read_status).collect();
    assert_eq!(statuses, [Some(200); 20]);
    let ended = cluster.gateway_mut().wait_for_end(LONG);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

fn send_question(stream: &mut TcpStream, n: usize) {
    let body = json!({ "input_data": [n, 2, 3, 4] }).to_string();
    let head = format!("POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

/// The status of an answer that comes whole; `None` where the connection ends before.
fn read_status(stream: &mut TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    read_answer(stream).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[test]
fn while_a_gateway_waits_for_others_to_learn_of_its_end_it_says_so_and_answers() {
    let mut cluster = cluster().gateway_setting("server.drain_delay=1s").start();
    let client = cluster.client();
    cluster.gateway().terminate();
    wait_until("the gateway says that it is draining", LONG, || {
        client.get("/v2/health/ready").status == 503
    });
    // On a connection of its own.
    cluster.client().post_json("/infer", &json!({ "input_data": SETOSA })).ok();
    let ended = cluster.gateway_mut().wait_for_end(LONG);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let refused = TcpStream::connect(client.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn fault_33_every_worker_in_turn_is_replaced_and_no_request_fails() {
    let mut cluster = cluster().models([models::named("int64_scale")]).start();
    let load = Load::start(cluster.gateway().address(), 6, TRIPLE);
    for worker in 1..=3 {
        load.wait_for_more(50);
        cluster.worker(worker).terminate();
        let ended = cluster.worker_mut(worker).wait_for_end(LONG);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        cluster.spawn_worker(worker);
        let ready = cluster.worker_mut(worker).wait_until_ready();
        load.wait_for_answer_by(&format!("worker_{worker}"), ready);
    }
    load.finish().assert_none_failed();
}

#[test]
fn clients_that_never_finish_their_request_do_not_hold_up_the_end() {
    for stall in [Stall::Silent, Stall::HalfHead] {
        let mut cluster = cluster().workers(1).start();
        let _stalled: Vec<_> = (0..5).map(|_| stall.connect(cluster.gateway().address())).collect();
        // One that is idle after an answer, as a browser leaves it.
        let client = cluster.client();
        assert_eq!(client.get("/health").status, 200);
        let asked = Instant::now();
        cluster.gateway().terminate();
        let ended = cluster.gateway_mut().wait_for_end(LONG);
        assert_eq!(ended.code, Some(0), "{stall:?}: {}", ended.stderr);
        assert!(asked.elapsed() < Duration::from_secs(5), "{stall:?}: {:?}", asked.elapsed());
    }
}

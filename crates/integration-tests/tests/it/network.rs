//! Networks that delay, drop, stall and cut, between a gateway and its workers.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, SETOSA, TRIPLE};
use inferring_integration_tests::proxy::Fault;
use inferring_integration_tests::waiting::{LONG, wait_until};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::{cluster, serving};

const DEADLINE: Duration = Duration::from_secs(10);
const WITHIN_DEADLINE: &[(&str, &str)] = &[("x-request-timeout-ms", "10000")];

#[test]
fn fault_02_a_worker_behind_a_network_that_stalls_costs_no_request() {
    let cluster = cluster().models([models::named("int64_scale")]).behind_proxies().start();
    let load = Load::with_headers(cluster.gateway().address(), 6, TRIPLE, WITHIN_DEADLINE);
    load.wait_for_more(100);
    cluster.proxy(2).set(Fault::Stall);
    cluster.wait_until_reachable(2);
    load.wait_for_more(100);
    cluster.proxy(2).set(Fault::None);
    let healed = Instant::now();
    load.wait_for_answer_by("worker_2", healed);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.slowest() < DEADLINE, "{:?}", report.slowest());
}

#[test]
fn fault_04_a_port_that_refuses_costs_no_request_and_the_others_keep_full_service() {
    let cluster = cluster().models([models::named("int64_scale")]).behind_proxies().start();
    let load = Load::with_headers(cluster.gateway().address(), 6, TRIPLE, WITHIN_DEADLINE);
    load.wait_for_more(100);
    cluster.proxy(2).set(Fault::Refuse);
    cluster.proxy(2).close_connections();
    cluster.wait_until_reachable(2);
    let refused = Instant::now();
    load.wait_for_more(200);
    cluster.proxy(2).set(Fault::None);
    load.wait_for_answer_by("worker_2", Instant::now());
    let report = load.finish();
    report.assert_none_failed();
    for other in ["worker_1", "worker_3"] {
        assert!(report.by(other).any(|sample| sample.asked > refused), "{other}");
    }
}

/// An address at which the system takes no connection and says nothing: its queue is full.
struct BlackHole {
    _listener: Socket,
    _queued: Vec<TcpStream>,
    address: SocketAddr,
}

impl BlackHole {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let short = Duration::from_millis(300);
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, short) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue has no end");
        }
        Self { _listener: listener, _queued: queued, address }
    }
}

#[test]
fn fault_05_a_worker_in_a_black_hole_costs_the_time_to_connect_and_no_request() {
    let cluster = cluster().workers(1).models([models::named("int64_scale")]).start();
    let hole = BlackHole::open();
    let places =
        [format!("worker_1={}", cluster.worker(1).address()), format!("worker_2={}", hole.address)];
    let gateway = serving("gateway").args(places).start();
    let load = Load::with_headers(gateway.address(), 4, TRIPLE, WITHIN_DEADLINE);
    load.wait_for_more(200);
    let descriptors = gateway.descriptors();
    load.wait_for_more(400);
    // Nothing piles up that waits for it.
    assert!(gateway.descriptors() < descriptors + 32, "{descriptors}, {}", gateway.descriptors());
    let report = load.finish();
    report.assert_none_failed();
    assert_eq!(report.nodes().into_iter().collect::<Vec<_>>(), ["worker_1"]);
    assert!(report.slowest() < DEADLINE, "{:?}", report.slowest());
}

#[test]
fn fault_06_an_answer_cut_off_behind_its_head_is_an_error_and_never_half_an_answer() {
    let cluster = cluster().workers(1).behind_proxies().start();
    let client = cluster.client();
    let ask = |n: u8| {
        let flower = SETOSA.map(|size| size + f32::from(n));
        client.post_json("/infer", &json!({ "input_data": flower }))
    };
    ask(0).ok();
    for (n, fault) in (1..).zip([Fault::ResetAfter(100), Fault::CloseAfter(100)]) {
        cluster.proxy(1).set(fault);
        cluster.proxy(1).close_connections();
        let answer = ask(n);
        assert!(answer.status >= 500, "{fault:?}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{fault:?}: {}", answer.text());
        cluster.proxy(1).set(Fault::None);
        wait_until("it is asked again", LONG, || ask(n).status == 200);
    }
}

#[test]
fn fault_43_connections_that_close_while_idle_cost_no_request() {
    let cluster =
        cluster().workers(1).models([models::named("int64_scale")]).behind_proxies().start();
    let client = cluster.client();
    for n in 0..60 {
        let answer = client.post_json(&TRIPLE.path(), &TRIPLE.body(n));
        TRIPLE.check(n, &answer).unwrap_or_else(|error| panic!("{n}: {error}"));
        // Closed under the gateway's hands: it may or may not have noticed by the next request.
        cluster.proxy(1).close_connections();
    }
    cluster.assert_breakers_closed();
}

/// Runs a test of this program again in a network of its own. Says so where it cannot: on a
/// system that allows no such networks, or lacks the programs to set one up.
fn in_a_network_of_its_own(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "TEST_IN_A_NETWORK_OF_ITS_OWN";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let set_up = "ip link set lo up && nft list ruleset && exec \"$0\" \"$@\"";
    let here = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", set_up]).args(rest);
        command.env(INSIDE, "1").output()
    };
    if !here(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("NOT RUN: {name}: it needs unshare, ip and nft, and the right to use them");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = here(&[program.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn fault_07_of_packets_5_percent_are_lost_and_requests_succeed_in_time() {
    in_a_network_of_its_own(
        "network::fault_07_of_packets_5_percent_are_lost_and_requests_succeed_in_time",
        || {
            let cluster = cluster().models([models::named("int64_scale")]).start();
            let nft = |rule: &str| {
                let status = Command::new("nft").arg(rule).status().unwrap();
                assert!(status.success(), "{rule}");
            };
            nft("add table inet faults");
            nft("add chain inet faults input { type filter hook input priority 0; }");
            for worker in 1..=3 {
                let port = cluster.worker(worker).address().port();
                for side in ["dport", "sport"] {
                    nft(&format!(
                        "add rule inet faults input tcp {side} {port} numgen random mod 100 < 5 counter drop"
                    ));
                }
            }
            let load = Load::with_headers(cluster.gateway().address(), 8, TRIPLE, WITHIN_DEADLINE);
            load.wait_for_more(1000);
            let report = load.finish();
            let list = ["list", "chain", "inet", "faults", "input"];
            let rules = Command::new("nft").args(list).output().unwrap().stdout;
            let rules = String::from_utf8(rules).unwrap();
            let idle = rules.matches("counter packets 0 ").count();
            assert_eq!((rules.matches("counter packets").count(), idle), (6, 0), "{rules}");
            let all = report.samples().len();
            let failed = report.samples().iter().filter(|sample| sample.result.is_err()).count();
            assert!(failed * 1000 <= all, "{failed} of {all} failed");
            assert!(report.slowest() < DEADLINE + Duration::from_secs(1), "{:?}", report.slowest());
        },
    );
}

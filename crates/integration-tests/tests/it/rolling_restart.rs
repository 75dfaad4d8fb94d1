//! Everything is restarted under load, by the script that operators use, and no request fails.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, SLOW_DOUBLE, TRIPLE, repository};
use inferring_integration_tests::ports::HeldPort;
use inferring_integration_tests::process::Launch;
use inferring_integration_tests::waiting::{LONG, wait_for, wait_until};
use serde_json::Value;

use crate::{PROGRAM, cluster};

/// The script, under way. What it has restarted, it asks the test for over a connection: processes
/// are the test's, so that none is left behind.
struct Rolling {
    script: Child,
    requests: TcpListener,
}

impl Rolling {
    fn start(admins: &[SocketAddr], workers: &[&str]) -> Self {
        let requests = TcpListener::bind("127.0.0.1:0").unwrap();
        requests.set_nonblocking(true).unwrap();
        let port = requests.local_addr().unwrap().port();
        let restart =
            format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo {{id}} {{address}} >&3; read -r -u 3");
        let script: PathBuf = repository().join("deploy/rolling-restart");
        let mut command = Command::new(script);
        command.args(["--inferring", PROGRAM, "--restart", &restart]);
        for admin in admins {
            command.args(["--admin", &format!("http://{admin}")]);
        }
        command.args(workers).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { script: command.spawn().unwrap(), requests }
    }

    /// Does as the script asks, so many times, and tells who was restarted.
    fn restart(&self, count: usize, mut restart: impl FnMut(&str)) -> Vec<String> {
        let mut restarted = Vec::new();
        for _ in 0..count {
            let accepted = || self.requests.accept().ok();
            let (mut stream, _) = wait_for("the script asks for a restart", LONG, accepted);
            stream.set_nonblocking(false).unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let id = line.split(' ').next().unwrap();
            restart(id);
            restarted.push(id.to_owned());
            stream.write_all(b"done\n").unwrap();
        }
        restarted
    }

    fn end(self) -> Output {
        self.script.wait_with_output().unwrap()
    }
}

fn number(id: &str) -> usize {
    id.strip_prefix("worker_").unwrap().parse().unwrap()
}

/// Stops a worker as its service manager would, and starts it again; returns before it is ready.
fn replace(cluster: &mut Cluster, id: &str) {
    let number = number(id);
    cluster.worker(number).terminate();
    let ended = cluster.worker_mut(number).wait_for_end(LONG);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    cluster.spawn_worker(number);
}

fn worker(admin: SocketAddr, id: &str) -> Value {
    Client::new(admin).get(&format!("/admin/workers/{id}")).json()
}

#[test]
fn fault_33_a_rolling_restart_of_all_workers_fails_no_request() {
    let admin = HeldPort::any();
    let mut cluster = cluster()
        .models([models::named("int64_scale"), models::named("slow")])
        .gateway_setting(&format!("listen.admin={}", admin.address()))
        .start();
    let address = cluster.gateway().address();
    let before = [1, 2, 3].map(|n| worker(admin.address(), &format!("worker_{n}")));
    let (fast, slow) = (Load::start(address, 6, TRIPLE), Load::start(address, 4, SLOW_DOUBLE));
    fast.wait_for_more(100);

    let rolling = Rolling::start(&[admin.address()], &[]);
    let restarted = rolling.restart(3, |id| {
        let seen = worker(admin.address(), id);
        assert_eq!((&seen["draining"], &seen["in_flight"]), (&true.into(), &0.into()), "{seen}");
        fast.wait_for_more(50);
        replace(&mut cluster, id);
    });
    let output = rolling.end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(restarted, ["worker_1", "worker_2", "worker_3"]);
    fast.wait_for_more(100);
    slow.wait_for_more(10);
    fast.finish().assert_none_failed();
    slow.finish().assert_none_failed();
    for (n, before) in (1..=3).zip(&before) {
        let after = worker(admin.address(), &format!("worker_{n}"));
        assert_eq!(after["draining"], false);
        assert_ne!(after["process"], before["process"]);
    }
    cluster.assert_breakers_closed();
}

#[test]
fn a_worker_that_does_not_come_back_ends_the_roll_and_the_others_serve() {
    let admin = HeldPort::any();
    let setting = format!("listen.admin={}", admin.address());
    let plan = cluster().models([models::named("int64_scale")]);
    let mut cluster = plan.gateway_setting(&setting).start();
    let rolling = Rolling::start(&[admin.address()], &["--wait", "1s", "worker_2", "worker_3"]);
    rolling.restart(1, |id| cluster.worker_mut(number(id)).kill());
    let output = rolling.end();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("worker `worker_2` is not there after 1s"), "{errors}");
    assert_eq!(worker(admin.address(), "worker_2")["draining"], true);
    assert_eq!(worker(admin.address(), "worker_3")["draining"], false);
    let load = Load::start(cluster.gateway().address(), 2, TRIPLE);
    load.wait_for_more(20);
    load.finish().assert_none_failed();
    wait_until("two workers are left", LONG, || cluster.client().stats()["reachable_workers"] == 2);
}

/// What a balancer knows of two gateways: which of them says that it takes requests.
struct Balancer {
    gateways: [SocketAddr; 2],
    ready: [AtomicBool; 2],
    stopped: AtomicBool,
}

impl Balancer {
    fn start(gateways: [SocketAddr; 2]) -> (Arc<Self>, JoinHandle<()>) {
        let ready = [true, true].map(AtomicBool::new);
        let balancer = Arc::new(Self { gateways, ready, stopped: AtomicBool::new(false) });
        let asking = balancer.clone();
        let thread = std::thread::spawn(move || {
            while !asking.stopped.load(Ordering::Relaxed) {
                for (gateway, ready) in asking.gateways.iter().zip(&asking.ready) {
                    let health = Client::new(*gateway).send("GET", "/v2/health/ready", &[], b"");
                    let is_ready = health.is_ok_and(|answer| answer.status == 200);
                    ready.store(is_ready, Ordering::Relaxed);
                }
            }
        });
        (balancer, thread)
    }

    /// One of those that take requests, in turn.
    fn choose(&self, turn: u64) -> usize {
        let preferred = usize::from(turn % 2 == 1);
        if self.ready[preferred].load(Ordering::Relaxed) { preferred } else { 1 - preferred }
    }
}

thread_local! {
    /// A client keeps its connections to both gateways, as long as they let it.
    static CLIENTS: RefCell<Vec<Client>> = const { RefCell::new(Vec::new()) };
}

fn ask(balancer: &Balancer, turn: u64) -> Result<String, String> {
    CLIENTS.with_borrow_mut(|clients| {
        if clients.is_empty() {
            clients.extend(balancer.gateways.map(Client::new));
        }
        let client = &clients[balancer.choose(turn)];
        let body = TRIPLE.body(turn).to_string();
        let answer = client.send("POST", &TRIPLE.path(), &[], body.as_bytes());
        TRIPLE.check(turn, &answer.map_err(|error| error.to_string())?)
    })
}

#[test]
fn fault_33_a_rolling_restart_of_everything_gateways_too_fails_no_request() {
    let ports = [HeldPort::any(), HeldPort::any()];
    let admins = [HeldPort::any(), HeldPort::any()];
    let mut cluster = cluster().models([models::named("int64_scale")]).start();
    let workers = (1..=3).map(|n| format!("worker_{n}={}", cluster.worker(n).address()));
    let workers: Vec<_> = workers.collect();
    let launches = ports.iter().zip(&admins).map(|(port, admin)| {
        Launch::new(PROGRAM, ["gateway"])
            .args(&workers)
            .args(["--listen", &port.address().to_string()])
            .args(["--admin-listen", &admin.address().to_string()])
            .set(["server.drain_delay=2s"])
    });
    let launches: Vec<_> = launches.collect();
    let mut gateways: Vec<_> = launches.iter().map(Launch::start).collect();
    let addresses = [0, 1].map(|n| gateways[n].address());
    let (balancer, asking) = Balancer::start(addresses);
    let balanced = balancer.clone();
    let load = Load::asking(addresses[0], 6, move |_, turn| ask(&balanced, turn));
    load.wait_for_more(100);

    let rolling = Rolling::start(&[0, 1].map(|n| admins[n].address()), &[]);
    rolling.restart(3, |id| replace(&mut cluster, id));
    let output = rolling.end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for n in 0..2 {
        load.wait_for_more(100);
        gateways[n].terminate();
        let ended = gateways[n].wait_for_end(LONG);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        gateways[n] = launches[n].start();
        wait_until("the balancer has found the gateway", LONG, || {
            balancer.ready[n].load(Ordering::Relaxed)
        });
    }
    load.wait_for_more(100);
    load.finish().assert_none_failed();
    balancer.stopped.store(true, Ordering::Relaxed);
    asking.join().unwrap();
    // Both have served, before and after.
    let served = gateways.iter().map(|gateway| gateway.client().stats()["total_requests"].as_u64());
    assert!(served.into_iter().all(|count| count > Some(0)));
}

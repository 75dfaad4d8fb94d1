//! Everything is restarted under load, by the script that operators use, and no request fails.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, SLOW_DOUBLE, TRIPLE, repository};
use inferring_integration_tests::ports::HeldPort;
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

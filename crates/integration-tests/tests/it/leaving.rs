//! A worker that is taken out of the list while requests are under way.

use std::collections::BTreeMap;

use inferring_integration_tests::client::Client;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::models::{self, TRIPLE};
use inferring_integration_tests::ports::HeldPort;
use inferring_integration_tests::process::Launch;
use inferring_integration_tests::waiting::{LONG, wait_until};

use crate::{PROGRAM, cluster};

/// Who answers each of these questions while nobody else asks.
fn homes(client: &Client) -> BTreeMap<u64, String> {
    let home = |n| TRIPLE.check(n, &client.post_json(&TRIPLE.path(), &TRIPLE.body(n))).unwrap();
    (900_000_000..900_000_090).map(|n| (n, home(n))).collect()
}

#[test]
fn fault_17_a_worker_that_is_removed_under_load_costs_no_request_and_only_its_keys_move() {
    let admin = HeldPort::any();
    let cluster = cluster()
        .models([models::named("int64_scale")])
        .gateway_setting(&format!("listen.admin=\"{}\"", admin.address()))
        // Each question goes where it belongs, however slow this machine is just then.
        .gateway_setting("gateway.hedge.enabled=false")
        .gateway_setting("gateway.slow_start.window=0s")
        .start();
    let client = cluster.client();
    let before = homes(&client);
    let load = Load::start(cluster.gateway().address(), 6, TRIPLE);
    load.wait_for_more(200);
    let address = format!("http://{}", admin.address());
    let removed =
        Launch::new(PROGRAM, ["workers", "remove", "worker_2", "--admin", &address]).run();
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    wait_until("it is gone", LONG, || client.stats()["total_workers"] == 2);
    load.wait_for_more(200);
    load.finish().assert_none_failed();
    let after = homes(&client);
    let its_own = before.values().filter(|home| *home == "worker_2").count();
    assert!(its_own > 10, "{its_own} of {}", before.len());
    for (n, home) in before {
        if home == "worker_2" {
            assert_ne!(after[&n], home, "{n}");
        } else {
            assert_eq!(after[&n], home, "{n}");
        }
    }
}

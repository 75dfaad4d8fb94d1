//! What a server does on each of its threads.

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_server::ServerConfig;

use crate::fixture::{Running, within_a_minute};

#[tokio::test]
async fn a_node_is_made_ready_on_every_thread_and_attends_to_it_before_anybody_asks() {
    let threads = NonZeroUsize::new(3);
    let running = Running::start(ServerConfig { threads, ..ServerConfig::default() });
    for threads in [&running.node.warm_threads, &running.node.attended_threads] {
        let all = async {
            while threads.lock().unwrap().len() < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within_a_minute(all).await;
    }
}

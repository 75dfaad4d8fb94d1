//! What a server does on each of its threads.

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_server::ServerConfig;

use crate::fixture::{Running, echo, echoed, within_a_minute};
use crate::node::PUT_OFF;

#[tokio::test]
async fn a_node_is_made_ready_on_every_thread_before_anybody_asks() {
    let threads = NonZeroUsize::new(3);
    let running = Running::start(ServerConfig { threads, ..ServerConfig::default() });
    let warmed = async {
        while running.node.warm_threads.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within_a_minute(warmed).await;
}

#[tokio::test]
async fn the_node_is_told_when_a_threads_turn_has_ended_and_may_have_it_look_for_more() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    // Where a thread waited instead of looking again, its timers would wake it for too few looks.
    for looks in [0u8, 1, 2, 100] {
        let values = [PUT_OFF, f32::from(looks)];
        let answer = within_a_minute(client.model_infer(echo(&values))).await.unwrap();
        assert_eq!(echoed(answer.get_ref()), values);
    }
}

//! Clients that flood a connection over HTTP/2: it ends, or costs the others nothing.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use inferring_integration_tests::http2::Abuse;
use inferring_server::ServerConfig;

use crate::fixture::{Running, echo, echoed, within_a_minute};

const PATH: &str = "/v2/models/echo/infer";
const BODY: &[u8] = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#;

/// How often each is committed, if nobody ends it.
const TIMES: u32 = 20_000;

#[tokio::test]
async fn fault_42_a_client_that_floods_is_ended_or_borne_and_others_are_served() {
    // All on one thread, so that whoever keeps it busy is in everybody's way.
    let config = ServerConfig { threads: NonZeroUsize::new(1), ..ServerConfig::default() };
    let running = Running::start(config);
    let mut client = running.client().await;
    for abuse in Abuse::ALL {
        let address = running.address;
        let committed =
            tokio::task::spawn_blocking(move || abuse.commit(address, PATH, BODY, TIMES));
        let mut slowest = Duration::ZERO;
        loop {
            let asked = Instant::now();
            let response = within_a_minute(client.model_infer(echo(&[1.0]))).await.unwrap();
            assert_eq!(echoed(response.get_ref()), [1.0]);
            slowest = slowest.max(asked.elapsed());
            if committed.is_finished() {
                break;
            }
        }
        let outcome = committed.await.unwrap();
        eprintln!(
            "{abuse:?}: {} {:?} {} {slowest:?}",
            outcome.ended, outcome.go_away, outcome.sent
        );
        assert!(outcome.ended || abuse.is_borne(), "{abuse:?}: {outcome:?}");
        assert!(slowest < Duration::from_secs(5), "{abuse:?}: {slowest:?}");
    }
}

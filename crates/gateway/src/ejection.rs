//! Compares the workers with each other each second, and leaves alone for a while who does far
//! worse than the others. The rule is `policy::ejection`; here it gets what it judges by.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use inferring_policy::EjectionConfig;
use inferring_policy::ejection::{self, Change, Worker};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::clock;
use crate::endpoint::Endpoint;
use crate::gateway::Gateway;
use crate::standing::Standing;

/// Evidence is counted by the second: to look more often shows nothing new.
const INTERVAL: Duration = Duration::from_secs(1);

/// Judges the workers of the gateway for as long as there is one.
pub(crate) async fn judge_for_ever(gateway: Weak<Gateway>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        let config = gateway.config().ejection.policy();
        judge(gateway.membership().endpoints(), &config, clock::now());
    }
}

/// Judges the workers among these that do not drain.
fn judge(endpoints: &[Arc<Endpoint>], config: &EjectionConfig, now: Instant) {
    let fleet: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint, endpoint.standing(now)))
        .filter(|(_, standing)| !standing.is_draining())
        .collect();
    // Nobody else holds two of these at once.
    let mut ejections: Vec<_> =
        fleet.iter().map(|(endpoint, _)| endpoint.ejector.ejection.lock()).collect();
    let mut workers: Vec<_> = fleet
        .iter()
        .zip(&mut ejections)
        .map(|((endpoint, standing), ejection)| Worker {
            ejection,
            tally: endpoint.breaker.tally(now),
            times: endpoint.ejector.times.lock().means(now),
            out: !matches!(standing, Standing::Well | Standing::Ejected | Standing::Suspected),
        })
        .collect();
    let changes = ejection::judge(config, &mut workers, now);
    drop(workers);
    for (place, change) in changes {
        let endpoint = fleet[place].0;
        match change {
            Change::Ejected(status) => {
                let (reason, time) = (status.reason, status.returns_in);
                warn!(worker = %endpoint.id(), %reason, ?time, "worker ejected");
                // What is still in flight belongs to the conduct that has been judged.
                endpoint.breaker.forget();
                endpoint.ejector.begins(status.returns_in, now);
            }
            Change::Returned => info!(worker = %endpoint.id(), "worker is asked again"),
        }
    }
}

/// Whether so few of the workers that do not drain are well that all that are there are to be
/// asked; see [`ejection::panics`].
pub(crate) fn panics(standings: impl Iterator<Item = Standing>, threshold: f64) -> bool {
    let (mut healthy, mut of) = (0, 0);
    for standing in standings.filter(|standing| !standing.is_draining()) {
        of += 1;
        healthy += usize::from(standing.is_healthy());
    }
    ejection::panics(healthy, of, threshold)
}

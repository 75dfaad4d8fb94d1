//! How many sequences a worker keeps: as many as it may, and what nobody asks for makes room.

use std::sync::Arc;

use inferring_lockstep::now;
use inferring_types::{Deadline, ErrorKind, InferenceService as _, SequenceStep, ServiceError};
use tokio::time::sleep;

use crate::calm::PATIENCE;
use crate::clients::id;
use crate::fleet::Fleet;
use crate::host::Host;
use crate::scenario::Scenario;
use crate::sums::Sum;

/// Fills the room of each worker, twice: whatever became of sequences before, they are forgotten.
pub(crate) async fn fill(fleet: &Arc<Fleet>, scenario: &Scenario) {
    if scenario.load.sequences == 0 {
        return;
    }
    let (trace, limits) = (&fleet.trace, &scenario.worker.sequences);
    for turn in 0..2 {
        sleep(limits.idle_timeout).await;
        for host in &fleet.hosts {
            for number in 0..limits.count_max.get() {
                let begun = begin(host, format!("room-{turn}-{number}")).await;
                trace.check(begun.is_ok(), || {
                    format!("{} has no room for sequence {number}: {begun:?}", host.id)
                });
            }
            let begun = begin(host, format!("room-{turn}-none")).await;
            let is_refused = begun.as_ref().is_err_and(|error| {
                let later = error.worth_retrying_after();
                error.kind() == ErrorKind::Overloaded
                    && later.is_some_and(|later| later <= limits.idle_timeout)
            });
            trace.check(is_refused, || format!("{} is not full: {begun:?}", host.id));
        }
    }
}

/// Begins a sequence at a worker, whatever any gateway would say.
async fn begin(host: &Host, name: String) -> Result<(), ServiceError> {
    let process = host.process().ok_or_else(|| ServiceError::unavailable("not there"))?;
    let sequence = name.parse().expect("a short name");
    let step = SequenceStep { id: sequence, start: true, end: false };
    let request = Sum::request(id(name), step, &[1.0], Deadline::after(now(), PATIENCE));
    process.worker.infer(request).await.map(drop)
}

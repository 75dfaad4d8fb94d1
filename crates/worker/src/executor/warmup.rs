//! What is run for nobody, before a model serves: so that the first client does not wait for what
//! an engine does only once, and so that the scheduler knows what runs cost.

use std::time::Duration;

use inferring_backend::{Run, Session};
use inferring_repository::WarmupRequest;
use inferring_types::{ModelMetadata, Tensor};

use super::ModelError;
use super::instance::execute;
use crate::batcher::Batcher;
use crate::system;

/// How long learning what runs cost may take. What was not tried is estimated from what was.
const PATIENCE: Duration = Duration::from_secs(1);

/// From how many runs of each size it is learnt, beside the first.
const RUNS: u32 = 3;

/// A run that takes as long as this is worth learning from though it is the first of its size: what
/// an engine does once for a size is little beside it.
const LONG: Duration = Duration::from_millis(50);

/// Runs every session on the samples of the model's settings; inputs that it runs, if there are
/// any.
///
/// # Errors
/// [`ModelError::WarmupRun`]: a sample does not fit the model, or does not run.
pub(super) fn run_samples(
    metadata: &ModelMetadata,
    samples: Vec<WarmupRequest>,
    batcher: &Batcher,
    sessions: &mut [Box<dyn Session>],
) -> Result<Option<Vec<Tensor>>, ModelError> {
    let mut known_good = None;
    for request in samples {
        let failed = |reason| ModelError::WarmupRun { sample: request.name.clone(), reason };
        let inputs = metadata.arrange(request.inputs).map_err(|e| failed(e.to_string()))?;
        let inputs: Vec<Tensor> = inputs.into_iter().map(|input| input.tensor).collect();
        let inputs = batcher.alone(&inputs);
        for session in &mut *sessions {
            for _ in 0..request.count {
                execute(&mut **session, &inputs, &Run::new()).map_err(|e| failed(e.to_string()))?;
            }
        }
        known_good.get_or_insert(inputs);
    }
    Ok(known_good)
}

/// How long a run of these inputs takes when nothing gets in its way; `None` where it fails.
pub(super) fn shortest(session: &mut dyn Session, inputs: &[Tensor]) -> Option<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..=RUNS {
        shortest = shortest.min(timed(session, inputs)?);
        if shortest >= LONG {
            break;
        }
    }
    Some(shortest)
}

/// Runs batches of 1, 2, 4, … rows, all of them a row that is known to run, and tells the batcher
/// how long they took. Sizes that would take too long are left out, and all that follow.
///
/// The sizes take turns, so that a while in which the machine is busy with other things makes a run
/// of each slow, and not one size. What is counted follows a run of its own size, as it mostly will
/// while serving: after one of 32 rows a row alone takes half as long again, for what it needs is
/// out of the processor's caches.
pub(super) fn learn_costs(session: &mut dyn Session, row: &[Tensor], batcher: &Batcher) {
    let begun = system::now();
    let assembly = batcher.assembly();
    let row_bytes = assembly.row_bytes(row);
    let sizes = batcher.sizes();
    let mut last: Option<(usize, Duration)> = None;
    for _ in 0..RUNS {
        for &rows in &sizes {
            // A run takes at most in proportion to its rows, if that much.
            let due = last
                .map_or(Duration::ZERO, |(before, time)| time.mul_f64(rows as f64 / before as f64));
            if system::elapsed(begun) + due > PATIENCE {
                break;
            }
            let inputs = assembly.join(&[row], rows);
            // A failure tells nothing about inputs that clients will bring.
            let Some(time) = settled(session, &inputs) else { return };
            batcher.learn(row_bytes, rows, time);
            last = Some((rows, time));
        }
    }
}

/// How long a run takes that follows one of its own size; `None` where it fails.
fn settled(session: &mut dyn Session, inputs: &[Tensor]) -> Option<Duration> {
    let first = timed(session, inputs)?;
    if first < LONG { timed(session, inputs) } else { Some(first) }
}

/// How long a run takes; `None` where it fails.
fn timed(session: &mut dyn Session, inputs: &[Tensor]) -> Option<Duration> {
    let started = system::now();
    execute(session, inputs, &Run::new()).ok()?;
    Some(system::elapsed(started))
}

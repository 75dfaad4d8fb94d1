//! A fleet in one process: gateways, workers and their clients, with a network between them that
//! breaks and machines that fail. All of it hangs on one number, its seed: the same seed gives the
//! same run, to the last line of its [`Report::trace`].
//!
//! The gateways are real: routing, breakers, probes, tries and deadlines, as `inferring gateway`
//! runs them. The workers are real: their source, compiled over a simulated clock and simulated
//! threads (`inferring-worker-simulated`). Simulated are what lies below: the engine that runs
//! models, the machines with their processes and folders, and the connections between gateways and
//! workers, at the seam where `client::RemoteWorker` stands otherwise. HTTP and sockets are not part
//! of it; tests over real processes are. See `docs/adr/0019-a-fleet-in-a-seed.md`.

mod calm;
mod clients;
mod content;
mod engine;
mod faults;
mod fleet;
mod front;
mod host;
mod journal;
mod life;
mod models;
mod network;
mod room;
mod scenario;
mod sequences;
mod sums;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_lockstep::Lockstep;
use inferring_types::RequestId;
use tokio::time::{Instant, sleep};

use crate::fleet::Fleet;
use crate::front::Front;
use crate::host::Process;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// What became of a simulated fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed that gives it again.
    pub seed: u64,
    /// All that happened, in order, with the time at which it did.
    pub trace: Vec<String>,
    /// What happened and must not have, with the time at which it did.
    pub violations: Vec<String>,
    /// How many requests were made while things went wrong.
    pub requests: u64,
    /// How many of them were answered.
    pub answers: u64,
    /// How often a worker was asked.
    pub tries: u64,
}

/// Runs the fleet of a seed from its start to its end.
///
/// # Panics
/// Where the simulation itself is at fault, and where the thread is in a simulation already.
pub fn run(seed: u64) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("no more than a timer");
    // The first id of a process draws a number for all of them.
    RequestId::generate();
    // What the code under test draws by itself, on this thread.
    fastrand::seed(seed);
    let mut random = Rng::with_seed(seed);
    runtime.block_on(async {
        let lockstep = Lockstep::new(random.u64(..));
        let trace = Arc::new(Trace::new());
        let (requests, answers, tries) = tokio::select! {
            biased;
            counts = live(&lockstep, &trace, &mut random) => counts,
            () = lockstep.drive() => unreachable!("it goes on for ever"),
        };
        let (lines, violations) = trace.take();
        Report { seed, trace: lines, violations, requests, answers, tries }
    })
}

/// The whole life of a fleet.
async fn live(lockstep: &Lockstep, trace: &Arc<Trace>, random: &mut Rng) -> (u64, u64, u64) {
    let scenario = Scenario::draw(random);
    trace.note(format_args!("{scenario:?}"));
    let fleet = Fleet::start(&scenario, trace.clone(), random).await;
    let until = Instant::now() + scenario.load.time;
    let mut own = random.fork();
    let (mut ends, in_sequences, ()) = tokio::join!(
        biased;
        clients::ask(&fleet, &scenario, random.fork()),
        sequences::ask(&fleet, &scenario, &mut own),
        faults::strike(&fleet, &scenario.faults, scenario.fault_pace, until, random.fork()),
    );
    ends.add(in_sequences);
    calm::recover(&fleet, &scenario).await;
    calm::agree(&fleet, &scenario).await;
    calm::share(&fleet).await;
    calm::crowd(&fleet).await;
    room::fill(&fleet, &scenario).await;
    calm::rest(&fleet).await;
    let tries = fleet.journal.tries();
    end(fleet, lockstep).await;
    (ends.all(), ends.answers, tries)
}

/// Stops everything, and sees that nothing is left.
async fn end(fleet: Arc<Fleet>, lockstep: &Lockstep) {
    let trace = fleet.trace.clone();
    let processes: Vec<_> = fleet.hosts.iter().filter_map(|host| host.process()).collect();
    processes.iter().for_each(Process::end_on_a_thread);
    let gateways: Vec<_> = fleet.fronts.iter().flat_map(Front::gateways).collect();
    drop(fleet);
    sleep(Duration::from_secs(30)).await;
    let held = gateways.iter().filter(|gateway| gateway.strong_count() > 0).count();
    trace.check(held == 0, || format!("{held} gateways are held by somebody"));
    let running = lockstep.running();
    trace.check(running.is_empty(), || format!("threads that do not end: {running:?}"));
    trace.note("the end");
}

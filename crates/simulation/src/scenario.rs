//! What a seed draws before anything happens: how large the fleet is, how it is set up, what is
//! asked of it and what may go wrong.

use std::num::NonZeroUsize;
use std::time::Duration;

use fastrand::Rng;
use inferring_gateway::GatewayConfig;
use inferring_worker_simulated::{CacheConfig, QueueConfig, SequenceConfig, WorkerConfig};

use crate::faults::Fault;

/// A fleet, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) gateways: usize,
    pub(crate) workers: usize,
    pub(crate) gateway: GatewayConfig,
    pub(crate) worker: WorkerConfig,
    /// What may go wrong. Few kinds at a time reach further than all at once.
    pub(crate) faults: Vec<Fault>,
    /// The mean time between two faults.
    pub(crate) fault_pace: Duration,
    pub(crate) load: Load,
}

/// What clients ask.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// For how long requests are sent.
    pub(crate) time: Duration,
    /// The mean time between two requests.
    pub(crate) pace: Duration,
    /// How many different rows are asked for; the first are asked for most.
    pub(crate) contents: u32,
    /// The share of requests whose client leaves before the end.
    pub(crate) leaving: f64,
    /// The share of moments at which not one request is sent but many.
    pub(crate) bursts: f64,
    /// How many clients go through sequences.
    pub(crate) sequences: usize,
    /// The longest time that a client waits.
    pub(crate) timeout_max: Duration,
}

impl Scenario {
    pub(crate) fn draw(random: &mut Rng) -> Self {
        let faults = faults(random);
        Self {
            gateways: random.usize(1..=2),
            workers: random.usize(2..=5),
            gateway: gateway(random),
            worker: worker(&faults, random),
            faults,
            fault_pace: Duration::from_millis(random.u64(200..2000)),
            load: Load {
                time: Duration::from_secs(6),
                pace: Duration::from_millis(random.u64(20..100)),
                contents: random.u32(5..200),
                leaving: random.f64() * 0.3,
                bursts: random.f64() * 0.05,
                sequences: if random.u8(..3) == 0 { random.usize(1..=4) } else { 0 },
                timeout_max: Duration::from_millis(random.u64(200..5000)),
            },
        }
    }

    /// Whether this may go wrong.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

/// Now and then one kind alone: then what it may do to a request is known best.
fn faults(random: &mut Rng) -> Vec<Fault> {
    match random.u8(..4) {
        0 => vec![Fault::ALL[random.usize(..Fault::ALL.len())]],
        _ => Fault::ALL.iter().copied().filter(|_| random.u8(..3) == 0).collect(),
    }
}

fn gateway(random: &mut Rng) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.breaker.open_timeout = Duration::from_secs(2);
    config.ejection.time = Duration::from_secs(1);
    config.ejection.time_max = Duration::from_secs(8);
    config.breaker.open_timeout_max = Duration::from_secs(8);
    config.slow_start.window = Duration::from_millis(random.u64(0..3000));
    config.attempt_timeout = Duration::from_millis(random.u64(200..3000));
    config
}

fn worker(faults: &[Fault], random: &mut Rng) -> WorkerConfig {
    let watches = faults.contains(&Fault::Replacement) && random.bool();
    let batching = QueueConfig {
        size_max: NonZeroUsize::MIN.saturating_add(random.usize(..8)),
        delay_max: Duration::from_millis(random.u64(0..5)),
        dispatch_when_idle: random.bool(),
        queue_requests_max: if random.u8(..4) == 0 { 4 } else { 4096 },
        ..QueueConfig::default()
    };
    WorkerConfig {
        cache: CacheConfig { entries: 10_000, ..CacheConfig::default() },
        batching,
        instances: Some(NonZeroUsize::MIN.saturating_add(random.usize(..3))),
        // A hang without a limit is nobody's to end.
        run_limit: Some(Duration::from_millis(random.u64(500..2000))),
        sequences: SequenceConfig {
            idle_timeout: Duration::from_millis(random.u64(500..3000)),
            count_max: NonZeroUsize::MIN.saturating_add(random.usize(1..10)),
        },
        watch: watches.then_some(Duration::from_millis(500)),
        ..WorkerConfig::default()
    }
}

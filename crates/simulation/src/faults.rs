//! What goes wrong, when, and for how long.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_types::{WorkerId, WorkerSpec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::{Fleet, spec};
use crate::host::Host;
use crate::network::Line;

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A worker's process is killed, and started again later.
    Crash,
    /// A worker's process is stopped in good order, and started again later.
    Restart,
    /// A worker's process stands still.
    Freeze,
    /// Nothing arrives: at a worker, or from it, for one gateway or for all.
    Partition,
    /// Packets to and from a worker are lost.
    Loss,
    /// Connections to a worker break.
    Resets,
    /// A worker's runs take many times longer.
    Slow,
    /// A worker's runs fail.
    Failures,
    /// A run does not end, whatever is done about it.
    Hang,
    /// Gateways are told of other workers for a while: one fewer, one to be left alone, or one of
    /// another weight. Each of them learns it at another time.
    Membership,
    /// A gateway's process vanishes, or that of all of them, and another one begins later.
    GatewayCrash,
    /// A model of a worker is replaced by another version of it.
    Replacement,
}

impl Fault {
    pub(crate) const ALL: &[Self] = &[
        Self::Crash,
        Self::Restart,
        Self::Freeze,
        Self::Partition,
        Self::Loss,
        Self::Resets,
        Self::Slow,
        Self::Failures,
        Self::Hang,
        Self::Membership,
        Self::GatewayCrash,
        Self::Replacement,
    ];
}

/// Lets things go wrong until that moment. All is repaired when it returns.
pub(crate) async fn strike(
    fleet: &Arc<Fleet>,
    faults: &[Fault],
    pace: Duration,
    until: Instant,
    mut random: Rng,
) {
    let mut repairs = JoinSet::new();
    loop {
        let pause = pace.mul_f64(random.f64() * 2.0);
        if faults.is_empty() || Instant::now() + pause >= until {
            break;
        }
        sleep(pause).await;
        let fault = faults[random.usize(..faults.len())];
        let host = fleet.hosts[random.usize(..fleet.hosts.len())].clone();
        let gateways = match random.u8(..2) {
            0 => vec![random.usize(..fleet.fronts.len())],
            _ => (0..fleet.fronts.len()).collect(),
        };
        let blow = Blow { fleet: fleet.clone(), host, gateways, random: random.fork() };
        repairs.spawn(blow.fall(fault));
    }
    sleep_until(until).await;
    while let Some(repaired) = repairs.join_next().await {
        if let Err(error) = repaired {
            fleet.trace.violation(format_args!("the simulation failed: {error}"));
        }
    }
}

/// One fault, and where it happens.
struct Blow {
    fleet: Arc<Fleet>,
    host: Arc<Host>,
    gateways: Vec<usize>,
    random: Rng,
}

impl Blow {
    /// Returns when it is over.
    async fn fall(mut self, fault: Fault) {
        let (host, gateways) = (&self.host.id, &self.gateways);
        self.fleet.trace.note(format_args!("{fault:?} of {host}, for gateways {gateways:?}"));
        match fault {
            Fault::Crash => {
                self.host.crash();
                self.last(100, 4000).await;
                self.host.boot();
            }
            Fault::Restart => {
                let grace = Duration::from_millis(self.random.u64(1000..4000));
                self.host.stop(grace).await;
                self.last(100, 2000).await;
                self.host.boot();
            }
            Fault::Freeze => {
                self.host.freeze(true);
                self.last(50, 7000).await;
                self.host.freeze(false);
            }
            Fault::Partition => {
                let (there, back) =
                    [(true, true), (true, false), (false, true)][self.random.usize(..3)];
                self.line(|line| (line.cut_there, line.cut_back) = (there, back));
                self.last(50, 5000).await;
                self.line(|line| (line.cut_there, line.cut_back) = (false, false));
            }
            Fault::Loss => {
                let loss = self.random.f64() * 0.3;
                self.line(|line| line.loss = loss);
                self.last(500, 4000).await;
                self.line(|line| line.loss = 0.0);
            }
            Fault::Resets => {
                let resets = self.random.f64() * 0.5;
                self.line(|line| line.resets = resets);
                self.last(500, 4000).await;
                self.line(|line| line.resets = 0.0);
            }
            Fault::Slow => {
                let Some(process) = self.host.process() else { return };
                process.machine.set_slowness(self.random.u32(5..200));
                self.last(500, 4000).await;
                process.machine.set_slowness(1);
            }
            Fault::Failures => {
                let Some(process) = self.host.process() else { return };
                process.machine.set_failing(true);
                self.last(100, 3000).await;
                process.machine.set_failing(false);
            }
            Fault::Hang => {
                let Some(process) = self.host.process() else { return };
                let time = Duration::from_millis(self.random.u64(1000..20_000));
                process.machine.set_hanging(Some(time));
                self.last(100, 3000).await;
                process.machine.set_hanging(None);
            }
            Fault::Membership => {
                let how = self.random.u8(..3);
                let weight = 0.5 + self.random.f64() * 2.0;
                self.relist(|list, own| {
                    let place = list.iter().position(|worker| worker.id == *own);
                    match (how, place) {
                        (0, Some(place)) if list.len() > 1 => drop(list.remove(place)),
                        (1, Some(place)) => list[place].draining = true,
                        (2, Some(place)) => list[place].weight = weight,
                        _ => {}
                    }
                })
                .await;
                self.last(100, 4000).await;
                self.relist(|list, own| {
                    list.retain(|worker| worker.id != *own);
                    list.push(spec(own));
                })
                .await;
            }
            Fault::Replacement => {
                let (back, host) = (self.random.bool(), &self.host);
                let models: Vec<_> = host.models().collect();
                host.replace(models[self.random.usize(..models.len())], back).await;
            }
            Fault::GatewayCrash => {
                let crash = |gateway: &usize| self.fleet.fronts[*gateway].crash();
                let ended: Vec<_> = self.gateways.iter().filter_map(crash).collect();
                sleep(Duration::from_millis(10)).await;
                ended.iter().for_each(|process| self.fleet.journal.check_ended(*process));
                self.last(100, 3000).await;
                for gateway in self.gateways {
                    self.fleet.boot_gateway(gateway, &mut self.random).await;
                }
            }
        }
    }

    /// Changes the list of workers, of which each gateway learns in its time.
    async fn relist(&mut self, change: impl Fn(&mut Vec<WorkerSpec>, &WorkerId)) {
        change(&mut self.fleet.list.lock(), &self.host.id);
        let mut told = JoinSet::new();
        for gateway in 0..self.fleet.fronts.len() {
            let fleet = self.fleet.clone();
            let delay = Duration::from_millis(self.random.u64(0..500));
            told.spawn(async move {
                sleep(delay).await;
                fleet.publish(gateway).await;
            });
        }
        told.join_all().await;
    }

    async fn last(&mut self, shortest: u64, longest: u64) {
        sleep(Duration::from_millis(self.random.u64(shortest..longest))).await;
    }

    fn line(&self, change: impl Fn(&mut Line)) {
        for gateway in &self.gateways {
            self.fleet.network.change(*gateway, &self.host.id, &change);
        }
    }
}

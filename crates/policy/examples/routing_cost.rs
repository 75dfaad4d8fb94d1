//! What it costs to choose a worker for a request: nanoseconds for the order of its key, a look at
//! its heat, the bounds, the flights of equal requests, and the count until it is over; by how many
//! workers and threads there are.
//!
//! ```text
//! cargo run --release -p inferring-policy --example routing_cost
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use inferring_policy::bounded_load::{Candidate, Reserved, Spread};
use inferring_policy::flights::{Seat, Turn};
use inferring_policy::{
    Flights, HashRing, HotKeys, HotKeysConfig, Load, LoadFactor, LoadLedger, RingMember, SlowStart,
};
use inferring_types::RoutingKey;

const REQUESTS: u64 = 1_000_000;

fn main() {
    println!("| workers | threads | hot share | ring alone, ns | all, ns |");
    println!("|---|---|---|---|---|");
    for (workers, threads, hot) in
        [(1, 1, 0.0), (3, 1, 0.0), (3, 1, 0.9), (3, 2, 0.0), (10, 1, 0.0), (50, 1, 0.0)]
    {
        let fleet = Fleet::new(workers);
        let best = |rounds: &dyn Fn() -> Duration| {
            let best = (0..5).map(|_| rounds()).min().expect("it was measured");
            best.as_nanos() as f64 / REQUESTS as f64
        };
        let ring = best(&|| fleet.find_primaries());
        let all = best(&|| fleet.route(threads, hot));
        println!("| {workers} | {threads} | {hot} | {ring:.1} | {all:.1} |");
    }
}

/// What a request has taken until it is answered.
struct Stay<'a> {
    key: RoutingKey,
    seat: Option<Seat<'a>>,
    _slot: Option<Reserved<'a>>,
}

struct Fleet {
    ring: HashRing,
    loads: Vec<Load>,
    ledger: LoadLedger,
    hot_keys: HotKeys,
    flights: Flights,
    began: Instant,
}

impl Fleet {
    fn new(workers: usize) -> Self {
        let member =
            |number| RingMember { id: format!("worker_{number}").as_str().into(), weight: 1.0 };
        let members: Vec<_> = (1..=workers).map(member).collect();
        let began = Instant::now();
        Self {
            ring: HashRing::build(&members, HashRing::DEFAULT_POINTS).expect("it is a ring"),
            loads: (0..workers).map(|_| Load::new()).collect(),
            ledger: LoadLedger::new(LoadFactor::DEFAULT),
            hot_keys: HotKeys::new(HotKeysConfig::default()),
            flights: Flights::new(began),
            began,
        }
    }

    fn find_primaries(&self) -> Duration {
        let mut random = fastrand::Rng::with_seed(1);
        let began = Instant::now();
        for _ in 0..REQUESTS {
            black_box(self.ring.primary(RoutingKey(random.u64(..))));
        }
        began.elapsed()
    }

    /// Each thread has 32 requests in flight at a time; the time is that of one request in one of
    /// them.
    fn route(&self, threads: u64, hot: f64) -> Duration {
        let slow_start = SlowStart::default();
        let began = Instant::now();
        std::thread::scope(|scope| {
            for seed in 0..threads {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut in_flight: [Option<Stay<'_>>; 32] = [const { None }; 32];
                    for number in 0..REQUESTS {
                        // A gateway reads the clock once for all that a try needs.
                        let now = self.began + Duration::from_micros(60_000_000 + number);
                        let is_hot = random.f64() < hot;
                        let key = RoutingKey(if is_hot { 7 << 60 } else { random.u64(..) });
                        let mut field = smallvec::SmallVec::<[_; 32]>::new();
                        for load in &self.loads {
                            let part = slow_start.factor(now.duration_since(self.began));
                            field.push(Some(Candidate {
                                load,
                                weight: part,
                                has_queue: false,
                                hesitates: part < 1.0,
                            }));
                        }
                        let spread: Spread = self.hot_keys.spread(key, self.loads.len(), now);
                        let turn = self.flights.first_turn(key, now);
                        let stay = match turn.map(Turn::ride) {
                            Some(Ok(seat)) => Stay { key, seat: Some(seat), _slot: None },
                            turn => {
                                let order = self.ring.candidates(key);
                                let slot = self.ledger.reserve(&field, order, spread);
                                let turn = turn.and_then(Result::err);
                                let seat = turn.map(|turn| turn.lead(0));
                                Stay { key, seat, _slot: slot }
                            }
                        };
                        let place = &mut in_flight[(number % 32) as usize];
                        if let Some(over) = place.replace(black_box(stay)) {
                            self.flights.answered(over.key, now);
                            over.seat.into_iter().for_each(Seat::end);
                        }
                    }
                });
            }
        });
        began.elapsed()
    }
}

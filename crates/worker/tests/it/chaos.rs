//! Random traffic over a random worker: shapes, batches, deadlines, priorities, cancellation,
//! poison, failures and instances that hang, at once. Whatever happens, every request ends once, with its own answer or with an
//! error that is due to it, and the books balance.
//!
//! A failure prints the seed; `INFERRING_TEST_SEED=<seed>` draws the same traffic and worker
//! again (threads still interleave as they like).

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use inferring_backend::fake::FakeControl;
use inferring_types::{ErrorKind, InferRequest, InferenceService as _};
use inferring_worker::{CacheConfig, QueueConfig, Worker, WorkerConfig};

use crate::fixture::{
    Answer, Fixture, PATIENCE, expected, queueing, request, status, values, with_timeout,
    within_patience,
};

const CLIENTS: u64 = 24;
const TURNS: usize = 120;
const POISON: f32 = -777.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_request_ends_once_with_its_own_answer() {
    let seed = match std::env::var("INFERRING_TEST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("INFERRING_TEST_SEED={seed}");
    for round in 0..8 {
        let mut random = Rng::with_seed(seed.wrapping_add(round * 1000));
        let config = random_config(&mut random);
        println!("round {round}: {config:?}");
        run(&mut random, &config).await;
    }
}

fn random_config(random: &mut Rng) -> WorkerConfig {
    let batching = QueueConfig {
        size_max: random.usize(1..12).try_into().unwrap(),
        delay_max: Duration::from_micros(random.u64(0..2000)),
        dispatch_when_idle: random.bool(),
        queue_requests_max: [3, 4096][random.usize(..2)],
        ..QueueConfig::default()
    };
    let cache = CacheConfig { entries: [0, 1, 20, 1000][random.usize(..4)], ..Default::default() };
    let instances = NonZeroUsize::new(random.usize(1..4));
    let run_limit = random.bool().then_some(Duration::from_millis(200));
    WorkerConfig { cache, instances, run_limit, ..queueing(batching) }
}

async fn run(random: &mut Rng, config: &WorkerConfig) {
    let fixture = Fixture::of_any_width(config);
    fixture.engine.set_poison(Some(POISON));
    fixture.engine.set_delay(Duration::from_micros(random.u64(0..200)));
    // On a busy machine a good run may take longer than its limit as well.
    let hanging = config.run_limit.is_some();
    let failing = hanging || random.bool();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = Client {
                worker: fixture.worker.clone(),
                engine: failing.then(|| fixture.engine.clone()),
                hanging,
                random: random.fork(),
                ends: Ends::default(),
            };
            tokio::spawn(client.run())
        })
        .collect();
    let mut ends = Ends::default();
    for client in clients {
        ends = ends.plus(client.await.unwrap());
    }
    assert_eq!(ends.all(), CLIENTS * TURNS as u64);
    assert!(ends.answers > 0, "{ends:?}");
    // What hung and was replaced comes back now, and nothing hangs any more.
    fixture.engine.hang_next(0);
    fixture.engine.release();
    balance(&fixture, &ends).await;
}

/// Holds the worker's books against what its clients saw.
async fn balance(fixture: &Fixture, ends: &Ends) {
    fixture.worker.close();
    let status = status(&fixture.worker).await;
    assert_eq!((status.in_flight, status.batches.queued), (0, 0));
    assert_eq!(status.requests, ends.all());
    // An answer may be there when its client leaves: then its error, if any, is on the books.
    let errors = ends.errors..=ends.errors + ends.left;
    assert!(errors.contains(&status.errors), "{} errors, {ends:?}", status.errors);
    // Every row that is answered was looked up, and once more where another's failure befell it.
    // Without any time a request is not looked up; where it fails, not all of it may be.
    let cache = status.cache;
    let lookups = cache.hits + cache.joined + cache.misses;
    let due = ends.rows_answered..=2 * (ends.rows - ends.rows_of_no_time);
    assert!(due.contains(&lookups), "{lookups} lookups, {ends:?}");
    let batches = status.batches;
    let left = batches.full + batches.idle + batches.deadline + batches.delay;
    assert_eq!(left, batches.batches);
    assert!(batches.batches <= fixture.runs() as u64);
    assert!(batches.batches + batches.dropped <= cache.misses, "{batches:?}, {cache:?}");
    // Closing does not wait for what had hung.
    within_patience(async {
        while fixture.engine.running() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

struct Client {
    worker: Arc<Worker>,
    /// Where this run has failures: what to bring them about with.
    engine: Option<Arc<FakeControl>>,
    /// Whether instances that hang are replaced.
    hanging: bool,
    random: Rng,
    ends: Ends,
}

/// How requests ended, as their clients saw it.
#[derive(Debug, Default, Clone, Copy)]
struct Ends {
    answers: u64,
    errors: u64,
    /// The client did not wait for the end.
    left: u64,
    /// The rows of all requests.
    rows: u64,
    /// Of all rows, those that were answered.
    rows_answered: u64,
    /// Of all rows, those that came with no time left.
    rows_of_no_time: u64,
}

impl Ends {
    fn all(&self) -> u64 {
        self.answers + self.errors + self.left
    }

    fn plus(self, other: Self) -> Self {
        Self {
            answers: self.answers + other.answers,
            errors: self.errors + other.errors,
            left: self.left + other.left,
            rows: self.rows + other.rows,
            rows_answered: self.rows_answered + other.rows_answered,
            rows_of_no_time: self.rows_of_no_time + other.rows_of_no_time,
        }
    }
}

impl Client {
    async fn run(mut self) -> Ends {
        for _ in 0..TURNS {
            self.turn().await;
        }
        self.ends
    }

    async fn turn(&mut self) {
        let width = self.random.usize(1..5);
        let numbers = self.random_numbers(width);
        let timeout = match self.random.u8(..20) {
            0 => Duration::ZERO,
            1..5 => Duration::from_micros(self.random.u64(1..3000)),
            _ => 10 * PATIENCE,
        };
        let rows = (numbers.len() / width) as u64;
        self.ends.rows += rows;
        self.ends.rows_of_no_time += if timeout.is_zero() { rows } else { 0 };
        if let Some(engine) = self.engine.as_ref().filter(|_| self.random.u8(..30) == 0) {
            match self.random.u8(..20) {
                // So rare that there is always an instance left.
                0 if self.hanging => engine.hang_next(1),
                ..10 => engine.fail_next(2),
                _ => engine.panic_next(2),
            }
        }
        let request = with_timeout(request([rows, width as u64], &numbers), timeout);
        let priority = NonZeroU32::new(self.random.u32(..5));
        let request = InferRequest { priority, ..request };
        let Some(answer) = self.ask(request).await else {
            self.ends.left += 1;
            return;
        };
        match &answer {
            Ok(_) => {
                assert!(!numbers.contains(&POISON));
                assert_eq!(values(&answer), expected(width, &numbers), "another's answer");
                self.ends.answers += 1;
                self.ends.rows_answered += rows;
            }
            Err(error) => {
                let due = match error.kind() {
                    ErrorKind::DeadlineExceeded => timeout < PATIENCE,
                    ErrorKind::Overloaded => true,
                    ErrorKind::Internal => self.engine.is_some(),
                    // Where failures are brought about, two in a row can look like poison.
                    ErrorKind::InvalidArgument => {
                        numbers.contains(&POISON) || self.engine.is_some()
                    }
                    _ => false,
                };
                assert!(due, "{:?}: {}", error.kind(), error.chain());
                self.ends.errors += 1;
            }
        }
    }

    /// The answer, or `None` where the client leaves before it comes.
    async fn ask(&mut self, request: InferRequest) -> Option<Answer> {
        let answer = self.worker.infer(request);
        let patience = match self.random.u8(..5) {
            0 => Duration::from_micros(self.random.u64(1..2000)),
            _ => PATIENCE,
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => Some(answer),
            Err(_) => {
                assert!(patience < PATIENCE, "a request that never ends");
                None
            }
        }
    }

    /// One to three rows of small whole numbers, so that equal requests are frequent and sums
    /// are exact; now and then with poison in one place.
    fn random_numbers(&mut self, width: usize) -> Vec<f32> {
        let rows = self.random.usize(1..4);
        let mut numbers = vec![f32::from(self.random.u8(..4)); rows * width];
        let place = self.random.usize(..numbers.len());
        numbers[place] = match self.random.u8(..25) {
            0 => POISON,
            _ => f32::from(self.random.u8(..8)),
        };
        numbers
    }
}

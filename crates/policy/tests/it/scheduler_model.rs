//! The scheduler against plain bookkeeping, over random histories: what it may hand out, what it
//! must, and that every job leaves exactly once.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use inferring_policy::scheduler::{
    Batch, DispatchReason, JobId, Next, Refusal, RunId, Scheduler, SchedulerConfig, Step, Waiting,
    Work,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::start;

const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Debug, Clone)]
enum Event {
    Offer {
        lane: u8,
        rows: usize,
        class: usize,
        timeout: u32,
        /// Of a request that has entered, if one has.
        is_part: bool,
    },
    /// A request comes that has parts.
    Enter(u64),
    Leave,
    /// Nobody wants that job any more.
    Abandon(Index),
    Expedite {
        job: Index,
        class: usize,
        timeout: u32,
    },
    Advance(u32),
    Next,
    /// A run ends; well or not.
    End {
        run: Index,
        well: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let offer = (0..3_u8, 0..6_usize, 0..4_usize, 1..200_u32, any::<bool>()).prop_map(
        |(lane, rows, class, timeout, is_part)| Event::Offer {
            lane,
            rows,
            class,
            timeout,
            is_part,
        },
    );
    let event = prop_oneof![
        8 => offer,
        1 => (0..20_u64).prop_map(Event::Enter),
        1 => Just(Event::Leave),
        1 => any::<Index>().prop_map(Event::Abandon),
        1 => (any::<Index>(), 0..4_usize, 1..200_u32)
            .prop_map(|(job, class, timeout)| Event::Expedite { job, class, timeout }),
        3 => (0..30_u32).prop_map(Event::Advance),
        5 => Just(Event::Next),
        3 => (any::<Index>(), prop::bool::weighted(0.8))
            .prop_map(|(run, well)| Event::End { run, well }),
    ];
    prop::collection::vec(event, 1..150)
}

fn configs() -> impl Strategy<Value = SchedulerConfig> {
    let sizes = prop_oneof![Just(vec![]), Just(vec![1, 4, 8]), Just(vec![2, 3])];
    let bounds = (1..40_usize, 1..100_u64);
    let times = prop::option::weighted(0.3, 1..100_u32);
    (
        1..10_usize,
        1..10_usize,
        sizes,
        0..40_u32,
        any::<bool>(),
        1..4_usize,
        (times.clone(), times),
        bounds,
        1..4_usize,
    )
        .prop_map(
            |(rows_max, rows_enough, allowed, delay, idle, classes, times, bounds, instances)| {
                SchedulerConfig {
                    rows_max,
                    rows_enough,
                    allowed,
                    delay_max: delay * MILLISECOND,
                    dispatch_when_idle: idle,
                    classes: NonZeroUsize::new(classes).unwrap(),
                    target: times.0.map(|target| target * MILLISECOND),
                    requests_max: bounds.0,
                    bytes_max: bounds.1,
                    instances,
                    run_limit: times.1.map(|limit| limit * MILLISECOND),
                }
            },
        )
}

#[derive(Debug, Clone, Copy)]
struct Job {
    id: JobId,
    lane: u8,
    rows: usize,
    class: usize,
    enqueued: Instant,
    deadline: Instant,
    wanted: bool,
    is_part: bool,
    /// Joined by others, so that its place in the queue has changed.
    joined: bool,
}

struct Model {
    config: SchedulerConfig,
    scheduler: Scheduler<u8, usize>,
    now: Instant,
    offered: usize,
    /// Requests that have parts.
    entered: usize,
    /// Jobs that wait, by number.
    waiting: BTreeMap<usize, Job>,
    running: Vec<(RunId, Instant)>,
    /// Whether any run has ended well, so that costs are known.
    learnt: bool,
}

impl Model {
    fn new(config: SchedulerConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config.clone()),
            config,
            now: start(),
            offered: 0,
            entered: 0,
            waiting: BTreeMap::new(),
            running: Vec::new(),
            learnt: false,
        }
    }

    fn rows_max(&self) -> usize {
        let allowed = self.config.allowed.last().copied().unwrap_or(usize::MAX);
        self.config.rows_max.min(allowed)
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Offer { lane, rows, class, timeout, is_part } => {
                self.offer(lane, rows, class, timeout, is_part && self.entered > 0);
            }
            Event::Enter(bytes) => self.enter(bytes),
            Event::Leave => {
                if self.entered > 0 {
                    self.entered -= 1;
                    self.scheduler.leave();
                }
            }
            Event::Advance(passed) => self.now += passed * MILLISECOND,
            Event::Next => {
                self.next();
            }
            Event::Abandon(job) => {
                if let Some(number) = self.pick(&job) {
                    self.waiting.get_mut(&number).unwrap().wanted = false;
                }
            }
            Event::Expedite { job, class, timeout } => {
                let Some(number) = self.pick(&job) else { return };
                let deadline = self.now + timeout * MILLISECOND;
                let job = self.waiting.get_mut(&number).unwrap();
                (job.joined, job.class) = (true, job.class.min(class));
                job.deadline = job.deadline.max(deadline);
                self.scheduler.expedite(job.id, class, deadline);
            }
            Event::End { run, well } => {
                if !self.running.is_empty() {
                    let index = run.index(self.running.len());
                    let (run, began) = self.running.swap_remove(index);
                    self.learnt |= well;
                    self.scheduler.ended(run, well.then(|| self.now - began), self.now);
                }
            }
        }
        self.check_totals();
    }

    fn pick(&self, index: &Index) -> Option<usize> {
        let numbers: Vec<usize> = self.waiting.keys().copied().collect();
        (!numbers.is_empty()).then(|| numbers[index.index(numbers.len())])
    }

    fn has_room(&self, bytes: u64) -> bool {
        let Waiting { requests, bytes: waiting, .. } = self.scheduler.waiting();
        requests == 0
            || (requests < self.config.requests_max && waiting + bytes <= self.config.bytes_max)
    }

    fn enter(&mut self, bytes: u64) {
        let has_room = self.has_room(bytes);
        let entered = self.scheduler.enter(bytes, self.now);
        assert_eq!(entered.is_ok(), has_room && !self.scheduler.is_closed(), "{entered:?}");
        self.entered += usize::from(entered.is_ok());
    }

    fn offer(&mut self, lane: u8, rows: usize, class: usize, timeout: u32, is_part: bool) {
        let deadline = self.now + timeout * MILLISECOND;
        let bytes = rows as u64;
        let work =
            Work { lane, rows, row_bytes: 1, bytes, class, enqueued: self.now, deadline, is_part };
        let number = self.offered;
        self.offered += 1;
        let has_room = self.has_room(bytes);
        match self.scheduler.offer(work, number, self.now) {
            Ok(id) => {
                assert!(is_part || has_room);
                let (enqueued, class) = (self.now, class.min(self.config.classes.get() - 1));
                let job = Job {
                    id,
                    lane,
                    rows,
                    class,
                    enqueued,
                    deadline,
                    wanted: true,
                    is_part,
                    joined: false,
                };
                self.waiting.insert(number, job);
            }
            Err(refused) => {
                assert_eq!(refused.job, number, "the job is given back");
                match refused.refusal {
                    Refusal::Full { .. } => assert!(!is_part && !has_room),
                    Refusal::Late { needed, remaining, .. }
                    | Refusal::Hopeless { needed, remaining } => {
                        assert!(self.learnt, "nothing is known of costs");
                        assert!(needed > remaining);
                    }
                    Refusal::Closed => assert!(self.scheduler.is_closed()),
                }
            }
        }
    }

    /// Whether there was a batch.
    fn next(&mut self) -> bool {
        let waiting = &self.waiting;
        let Next { step, dropped, late } =
            self.scheduler.next(self.now, |number| waiting[number].wanted);
        for number in dropped {
            let job = self.waiting.remove(&number).expect("a job leaves once");
            assert!(!job.wanted);
        }
        for number in late {
            let job = self.waiting.remove(&number).expect("a job leaves once");
            assert!(self.learnt || job.deadline <= self.now, "{job:?} had time");
        }
        if self.config.target.is_none() {
            // Whoever joined a job has changed its place, and with it what can be seen behind it.
            let in_place = self.waiting.values().all(|job| !job.joined);
            let expired = self.waiting.values().filter(|job| job.deadline <= self.now);
            let running = matches!(&step, Step::Run(_));
            assert!(!in_place || running || expired.count() == 0, "expired, and still waits");
        }
        match step {
            Step::Run(batch) => {
                self.check_batch(&batch);
                self.running.push((batch.run, self.now));
                true
            }
            Step::WaitUntil(moment) => {
                assert!(!self.config.dispatch_when_idle && !self.scheduler.is_closed());
                assert!(moment > self.now, "a wait that is over is no wait");
                let oldest = self.waiting.values().map(|job| job.enqueued).min().unwrap();
                assert!(moment <= oldest + self.config.delay_max, "overslept");
                false
            }
            Step::Nothing => {
                assert!(self.waiting.is_empty(), "an instance is idle, and jobs wait");
                false
            }
        }
    }

    fn check_batch(&mut self, batch: &Batch<usize>) {
        let jobs: Vec<Job> = batch
            .jobs
            .iter()
            .map(|number| self.waiting.remove(number).expect("a job leaves once"))
            .collect();
        let (first, rest) = jobs.split_first().expect("a batch has a job");
        assert!(rest.iter().all(|job| job.lane == first.lane), "of one lane");
        let rows: usize = jobs.iter().map(|job| job.rows).sum();
        assert_eq!(batch.rows, rows);
        assert!(rest.is_empty() || rows <= self.rows_max(), "{rows} rows");
        let fitting = self.config.allowed.iter().find(|&&allowed| allowed >= rows && rows > 0);
        assert_eq!(batch.run_rows, fitting.copied().unwrap_or(rows));
        assert_eq!(batch.more, !self.waiting.is_empty());
        for job in &jobs {
            assert!(job.wanted && job.deadline > self.now, "{job:?} at {:?}", self.now);
        }
        if self.config.target.is_none() {
            self.check_order(&jobs);
        }
        if self.config.dispatch_when_idle {
            assert_ne!(batch.reason, DispatchReason::Delay, "nothing is held back");
        }
    }

    /// Of jobs of one lane and class, those that are due first left first; or before them those that
    /// came first.
    fn check_order(&self, jobs: &[Job]) {
        for class in 0..self.config.classes.get() {
            let alike = |job: &&Job| job.class == class && !job.joined;
            let taken: Vec<&Job> = jobs.iter().filter(alike).collect();
            let Some(last) = taken.last() else { continue };
            let left = self.waiting.values().filter(alike).filter(|job| job.lane == last.lane);
            let left: Vec<&Job> = left.collect();
            let by_deadline = |taken: &[&Job]| {
                let last = taken.last().map(|last| last.deadline);
                taken.is_sorted_by_key(|job| job.deadline)
                    && left.iter().all(|job| last.is_none_or(|last| job.deadline >= last))
            };
            let by_arrival = |first: &[&Job], then: &[&Job]| {
                let last = first.last().map(|last| last.enqueued);
                first.is_sorted_by_key(|job| job.enqueued)
                    && left
                        .iter()
                        .chain(then)
                        .all(|job| last.is_none_or(|last| job.enqueued >= last))
            };
            if by_deadline(&taken) {
                continue;
            }
            let is_split =
                |at: usize| by_arrival(&taken[..at], &taken[at..]) && by_deadline(&taken[at..]);
            assert!((1..=taken.len()).any(is_split), "{taken:?} before {left:?}");
        }
    }

    fn check_totals(&self) {
        let jobs = || self.waiting.values();
        let rows = jobs().map(|job| job.rows).sum();
        let requests = self.entered + jobs().filter(|job| !job.is_part).count();
        let expected = Waiting { requests, rows, bytes: rows as u64 };
        assert_eq!(self.scheduler.waiting(), expected);
        assert_eq!(self.scheduler.is_empty(), self.waiting.is_empty());
    }
}

proptest! {
    #[test]
    fn every_job_leaves_exactly_once_and_never_wrongly(config in configs(), events in events()) {
        let mut model = Model::new(config);
        for event in &events {
            model.play(event);
        }
        model.scheduler.close();
        let mut batches = 0;
        while model.next() {
            batches += 1;
            prop_assert!(batches <= model.offered, "a batch has a job");
        }
        prop_assert!(model.waiting.is_empty(), "closing leaves nothing behind");
        model.check_totals();
    }

    /// Whoever sleeps as told and then asks again has its jobs run or dropped: none is forgotten.
    #[test]
    fn waiting_ends_in_time(config in configs(), events in events()) {
        let mut model = Model::new(SchedulerConfig { dispatch_when_idle: false, ..config });
        for event in &events {
            model.play(event);
        }
        let newest = model.waiting.values().map(|job| job.enqueued).max();
        let Some(newest) = newest else { return Ok(()) };
        for _ in 0..10_000 {
            let waiting = &model.waiting;
            let asked = model.scheduler.next(model.now, |number| waiting[number].wanted);
            for number in asked.dropped.iter().chain(&asked.late) {
                model.waiting.remove(number);
            }
            match asked.step {
                Step::Run(batch) => model.check_batch(&batch),
                Step::WaitUntil(moment) => {
                    prop_assert!(model.now < moment && moment <= newest + model.config.delay_max);
                    model.now = moment;
                }
                Step::Nothing => break,
            }
        }
        prop_assert!(model.waiting.is_empty(), "slept through: {:?}", model.waiting);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// With work for all of them, each class gets its share, and the least of them some.
    #[test]
    fn no_class_starves(classes in 2..5_usize, seed in any::<u64>()) {
        let config = SchedulerConfig {
            rows_max: 1,
            classes: NonZeroUsize::new(classes).unwrap(),
            ..SchedulerConfig::default()
        };
        let mut model = Model::new(config);
        let mut random = fastrand::Rng::with_seed(seed);
        let batches = 300;
        let mut served = vec![0; classes];
        for _ in 0..batches {
            while model.waiting.len() < 8 * classes {
                let class = random.usize(..classes);
                model.offer(0, 1, class, 100_000_000, false);
            }
            for class in 0..classes {
                if !model.waiting.values().any(|job| job.class == class) {
                    model.offer(0, 1, class, 100_000_000, false);
                }
            }
            let before: Vec<usize> = model.waiting.keys().copied().collect();
            let classes: BTreeMap<usize, usize> =
                before.iter().map(|number| (*number, model.waiting[number].class)).collect();
            prop_assert!(model.next());
            let gone = before.iter().find(|number| !model.waiting.contains_key(number));
            served[classes[gone.unwrap()]] += 1;
        }
        let weights: Vec<f64> = (0..classes).map(|class| 0.25_f64.powi(class as i32)).collect();
        let all: f64 = weights.iter().sum();
        for (served, weight) in served.iter().zip(weights) {
            let share = f64::from(batches) * weight / all;
            prop_assert!((f64::from(*served) - share).abs() <= 2.0, "{served} instead of {share}");
        }
    }
}

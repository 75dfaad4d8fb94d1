//! Nothing has been learnt of these models' costs, so that what happens depends on no clock.

use std::num::NonZeroUsize;

use std::future::poll_fn;
use std::task::Poll;

use inferring_types::{
    DataType, Dimension, ErrorKind, NamedTensor, RowAxes, ShapeSpec, TensorSpec,
};

use super::*;
use crate::assembly::{Padding, Room};
use crate::cache::{Company, Key, Lookup, ResultCache, Sharing, Tenant, Ticket, Urgency};
use crate::config::CacheConfig;
use crate::turn::{Attendant, Attending, Turn};

const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    batcher: Arc<Batcher>,
    cache: Arc<ResultCache>,
}

impl Fixture {
    fn new(config: SchedulerConfig) -> Self {
        let axes = RowAxes::first(1, 1);
        Self::of(config, Assembly::of_rows(axes, Padding::none()))
    }

    fn of(config: SchedulerConfig, assembly: Assembly) -> Self {
        let cache = ResultCache::new(&CacheConfig::default());
        Self { batcher: Arc::new(Batcher::new(config, assembly)), cache }
    }

    fn submit(&self, shape: [u64; 2], timeout: Duration) -> Ticket {
        self.submit_in_class(0, shape, timeout).0
    }

    fn submit_in_class(
        &self,
        class: usize,
        shape: [u64; 2],
        timeout: Duration,
    ) -> (Ticket, Option<JobId>) {
        let accepted = Instant::now();
        let deadline = Deadline::after(accepted, timeout);
        let (ticket, leader) = self.cache.lead_alone(Urgency { class, deadline });
        let inputs = vec![tensor(shape)];
        let job = self.batcher.submit(
            inputs,
            Order { accepted, deadline, class, is_part: false },
            leader,
        );
        (ticket, job)
    }

    fn next(&self) -> Batch {
        self.batcher.next_batch(None).expect("it is not closed")
    }
}

fn tensor(shape: [u64; 2]) -> Tensor {
    let values = vec![0.0; (shape[0] * shape[1]) as usize];
    Tensor::from_f32(shape.into(), &values).unwrap()
}

/// The clock is what is waited for: nothing else happens at a deadline.
fn wait_until_passed(deadline: Deadline) {
    while !deadline.has_passed(Instant::now()) {
        std::hint::spin_loop();
    }
}

fn config(rows_max: usize) -> SchedulerConfig {
    SchedulerConfig { rows_max, rows_enough: rows_max, ..SchedulerConfig::default() }
}

#[test]
fn an_idle_instance_takes_what_is_there_up_to_the_maximum() {
    let fixture = Fixture::new(config(4));
    let _tickets: Vec<_> = (0..6).map(|_| fixture.submit([1, 3], LONG)).collect();
    assert_eq!(fixture.next().jobs(), 4);
    assert_eq!(fixture.next().jobs(), 2);
    let status = fixture.batcher.status();
    assert_eq!((status.batches, status.rows, status.full, status.idle), (2, 6, 1, 1));
    assert_eq!(status.queued, 0);
}

#[test]
fn only_jobs_of_equal_shape_share_a_batch() {
    let fixture = Fixture::new(config(8));
    let shapes = [[1, 3], [1, 5], [2, 3], [1, 5]];
    let _tickets: Vec<_> = shapes.map(|shape| fixture.submit(shape, LONG)).into();
    let sizes: Vec<_> = (0..2).map(|_| fixture.next().rows()).collect();
    assert_eq!(sizes, [3, 2]);
}

#[test]
fn a_model_that_does_not_join_rows_runs_every_job_alone() {
    let fixture = Fixture::of(config(1), Assembly::alone());
    let _tickets: Vec<_> = (0..3).map(|_| fixture.submit([5, 3], LONG)).collect();
    for _ in 0..3 {
        let batch = fixture.next();
        assert_eq!((batch.jobs(), batch.rows(), batch.run_rows()), (1, 1, 1));
    }
}

#[test]
fn without_idle_dispatch_a_batch_leaves_full_or_late() {
    let delay_max = Duration::from_millis(30);
    let fixture =
        Fixture::new(SchedulerConfig { dispatch_when_idle: false, delay_max, ..config(2) });
    let start = Instant::now();
    let _tickets: Vec<_> = (0..3).map(|_| fixture.submit([1, 3], LONG)).collect();
    assert_eq!(fixture.next().jobs(), 2);
    assert_eq!(fixture.next().jobs(), 1);
    assert!(start.elapsed() >= delay_max);
    let status = fixture.batcher.status();
    assert_eq!((status.full, status.delay, status.idle), (1, 1, 0));
}

#[test]
fn a_run_is_filled_up_to_an_allowed_size_and_its_halves_are_too() {
    let fixture = Fixture::new(SchedulerConfig { allowed: vec![1, 4, 8], ..config(8) });
    let _tickets: Vec<_> = (0..6).map(|_| fixture.submit([1, 3], LONG)).collect();
    assert_eq!(fixture.batcher.sizes(), [1, 4, 8]);
    let batch = fixture.next();
    assert_eq!((batch.rows(), batch.run_rows()), (6, 8));
    assert_eq!(batch.inputs(&mut Room::default())[0].shape().dimensions(), [8, 3]);
    let Ok([Some(first), Some(second)]) = batch.halve(Instant::now()) else {
        panic!("both are wanted");
    };
    assert_eq!((first.rows(), first.run_rows(), second.run_rows()), (3, 4, 4));
    let Ok([Some(first), Some(_)]) = first.halve(Instant::now()) else {
        panic!("both are wanted");
    };
    assert_eq!((first.rows(), first.run_rows()), (1, 1));
}

#[test]
fn sizes_that_tell_what_runs_cost_double_up_to_the_maximum() {
    for (rows_max, sizes) in [(1, vec![1]), (6, vec![1, 2, 4, 6]), (8, vec![1, 2, 4, 8])] {
        assert_eq!(Fixture::new(config(rows_max)).batcher.sizes(), sizes);
    }
}

/// An instance on a thread of its own, which waits for a batch.
fn waiting_instance(fixture: &Fixture) -> std::thread::JoinHandle<Option<Batch>> {
    let batcher = fixture.batcher.clone();
    let instance = std::thread::spawn(move || batcher.next_batch(None));
    while !fixture.batcher.state.lock().sleepers.can_be_called() {
        std::thread::yield_now();
    }
    instance
}

/// Does this on a thread that is attended to, and gives up attending when it is done.
fn in_a_turn<T: Send>(what: impl FnOnce(&Attendant) -> T + Send) -> T {
    let thread = || what(&Attending::begin().expect("nobody attends to a new thread"));
    std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

/// Ends a turn however often that takes.
fn end_turn_at_last(attendant: &Attendant) {
    while attendant.end_turn(system::now()) == Turn::LooksAgain {}
}

/// Lets the other tasks of this thread go on.
async fn others_go_on() {
    let mut has_waited = false;
    let wait_once = |context: &mut std::task::Context<'_>| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(wait_once).await;
}

fn is_woken(fixture: &Fixture) -> bool {
    !fixture.batcher.state.lock().sleepers.can_be_called()
}

#[test]
fn what_comes_in_one_turn_of_a_thread_leaves_together() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _tickets = in_a_turn(|attendant| {
        let tickets: Vec<_> = (0..5).map(|_| fixture.submit([1, 3], LONG)).collect();
        assert!(!is_woken(&fixture), "it is not called for the first of them");
        end_turn_at_last(attendant);
        assert!(is_woken(&fixture));
        tickets
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 5);
}

#[test]
fn a_thread_looks_for_more_as_long_as_it_finds_something() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _tickets = in_a_turn(|attendant| {
        let mut tickets = Vec::new();
        // What was put off first would wait for too long, were this the true time.
        let begun = Instant::now();
        for _ in 0..3 {
            tickets.push(fixture.submit([1, 3], LONG));
            assert_eq!(attendant.end_turn(begun), Turn::LooksAgain);
        }
        assert!(!is_woken(&fixture));
        assert_eq!(attendant.end_turn(begun), Turn::Over, "nothing has come");
        assert!(is_woken(&fixture));
        tickets
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 3);
}

#[test]
fn who_was_put_off_first_waits_a_short_time_at_most() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _tickets = in_a_turn(|attendant| {
        let first = fixture.submit([1, 3], LONG);
        let later = Instant::now() + turn::LOOKING_MAX;
        let second = fixture.submit([1, 3], LONG);
        assert_eq!(attendant.end_turn(later), Turn::Over);
        assert!(is_woken(&fixture));
        [first, second]
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 2);
}

#[test]
fn nobody_waits_for_more_where_runs_are_long() {
    let fixture = Fixture::new(config(8));
    fixture.batcher.learn(12, 1, Duration::from_micros(100));
    let instance = waiting_instance(&fixture);
    let _ticket = in_a_turn(|attendant| {
        let ticket = fixture.submit([1, 3], LONG);
        assert_eq!(attendant.end_turn(system::now()), Turn::Over);
        assert!(is_woken(&fixture));
        ticket
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 1);
}

#[test]
fn a_full_batch_does_not_wait_for_the_turns_end() {
    let fixture = Fixture::new(config(4));
    let instance = waiting_instance(&fixture);
    let _tickets = in_a_turn(|_| {
        let tickets: Vec<_> = (0..4).map(|_| fixture.submit([1, 3], LONG)).collect();
        assert!(is_woken(&fixture));
        tickets
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 4);
}

#[test]
fn nobody_is_forgotten_when_an_attendant_leaves() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _tickets = std::thread::scope(|scope| {
        let thread = || {
            let attending = Attending::begin().unwrap();
            assert!(Attending::begin().is_none(), "one is enough");
            let ticket = fixture.submit([1, 3], LONG);
            assert!(!is_woken(&fixture));
            drop(attending);
            assert!(is_woken(&fixture));
            assert!(Attending::begin().is_some(), "another one may come");
            ticket
        };
        scope.spawn(thread).join().unwrap()
    });
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 1);
}

/// A thread that answers what is known as fast as it can, without end, while one request is to be
/// computed.
#[tokio::test]
async fn a_turn_ends_also_on_a_thread_that_always_has_something_to_do() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let attending = tokio::spawn(turn::attend());
    others_go_on().await;
    let _ticket = fixture.submit([1, 3], LONG);
    assert!(!is_woken(&fixture));
    // The runtime looks for what has come after 61 tasks, and a turn has two looks at most here.
    for _ in 0..200 {
        others_go_on().await;
    }
    assert!(is_woken(&fixture));
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 1);
    attending.abort();
}

#[test]
fn a_thread_that_nobody_attends_to_has_instances_woken_at_once() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _ticket = fixture.submit([1, 3], LONG);
    assert_eq!(instance.join().unwrap().unwrap().jobs(), 1);
}

#[test]
fn at_the_end_of_a_turn_nobody_is_woken_for_what_another_instance_took() {
    let fixture = Fixture::new(config(8));
    let instance = waiting_instance(&fixture);
    let _ticket = in_a_turn(|attendant| {
        let ticket = fixture.submit([1, 3], LONG);
        assert_eq!(fixture.next().jobs(), 1);
        end_turn_at_last(attendant);
        ticket
    });
    assert!(!is_woken(&fixture));
    fixture.batcher.close();
    assert!(instance.join().unwrap().is_none());
}

#[tokio::test]
async fn expired_and_abandoned_jobs_never_run() {
    let fixture = Fixture::new(config(8));
    let soon = fixture.submit([1, 3], Duration::from_millis(100));
    let expired = Deadline::after(Instant::now(), Duration::from_millis(100));
    drop(fixture.submit([1, 3], LONG));
    let _alive = fixture.submit([1, 3], LONG);
    wait_until_passed(expired);
    assert_eq!(fixture.next().jobs(), 1);
    let error = soon.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(fixture.batcher.status().dropped, 2);
}

#[test]
fn halves_of_a_failed_batch_leave_out_what_nobody_waits_for() {
    let fixture = Fixture::new(config(8));
    let mut tickets: Vec<_> = (0..6).map(|_| fixture.submit([1, 3], LONG)).collect();
    let batch = fixture.next();
    drop(tickets.split_off(2));
    let Ok([Some(first), None]) = batch.halve(Instant::now()) else {
        panic!("the second half was abandoned as a whole");
    };
    assert_eq!((first.jobs(), first.run_rows()), (2, 2), "the third was abandoned");
    let Ok([None, None]) = first.halve(Instant::now() + 2 * LONG) else {
        panic!("all have expired by then");
    };
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    for config in [
        SchedulerConfig { requests_max: 2, ..config(8) },
        SchedulerConfig { bytes_max: 30, ..config(8) },
    ] {
        let fixture = Fixture::new(config);
        let _tickets: Vec<_> = (0..2).map(|_| fixture.submit([1, 3], LONG)).collect();
        let error = fixture.submit([1, 3], LONG).wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(fixture.batcher.status().refused, 1);
    }
}

#[tokio::test]
async fn closing_hands_out_the_rest_and_refuses_the_new() {
    let fixture = Fixture::new(config(8));
    let _ticket = fixture.submit([1, 3], LONG);
    fixture.batcher.close();
    let error = fixture.submit([1, 3], LONG).wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.next().jobs(), 1);
    assert!(fixture.batcher.next_batch(None).is_none());
}

#[test]
fn the_more_urgent_class_goes_first_and_within_it_the_earlier_deadline() {
    let fixture =
        Fixture::new(SchedulerConfig { classes: NonZeroUsize::new(2).unwrap(), ..config(1) });
    // Rows tell the jobs apart; each is more than a batch and runs alone.
    let orders = [(1, 1, 1), (0, 3, 2), (0, 2, 3), (1, 1, 4), (0, 1, 5)];
    let _tickets = orders
        .map(|(class, minutes, rows)| fixture.submit_in_class(class, [rows, 3], minutes * LONG).0);
    let order: Vec<_> = (0..5).map(|_| fixture.next().rows()).collect();
    let urgent: Vec<_> = order.iter().copied().filter(|rows| [2, 3, 5].contains(rows)).collect();
    assert_eq!(urgent, [5, 3, 2]);
    assert_eq!(order[0], 5, "{order:?}");
}

#[test]
fn a_job_for_which_somebody_in_a_hurry_waits_too_goes_first() {
    let fixture = Fixture::new(config(1));
    let _first = fixture.submit([1, 3], 2 * LONG);
    let (_second, job) = fixture.submit_in_class(0, [2, 3], 3 * LONG);
    let accepted = Instant::now();
    let deadline = Deadline::after(accepted, LONG);
    fixture.batcher.expedite(job.unwrap(), Order { accepted, deadline, class: 0, is_part: false });
    assert_eq!(fixture.next().rows(), 2);
}

#[tokio::test]
async fn what_cannot_be_in_time_is_refused_with_the_time_after_which_it_may_be() {
    let fixture = Fixture::new(config(1));
    fixture.batcher.learn(12, 1, Duration::from_secs(10));
    let hopeless = fixture.submit([1, 3], Duration::from_secs(5)).wait().await.unwrap_err();
    assert_eq!(hopeless.kind(), ErrorKind::DeadlineExceeded);
    let _running = fixture.submit([1, 3], LONG);
    let running = fixture.next();
    let late = fixture.submit([1, 3], Duration::from_secs(15)).wait().await.unwrap_err();
    assert_eq!((late.kind(), late.is_retryable()), (ErrorKind::Overloaded, true));
    assert!(late.worth_retrying_after().is_some_and(|time| !time.is_zero()), "{late:?}");
    assert!(late.to_string().contains("the model is busy: an answer would take"), "{late}");
    assert_eq!(fixture.batcher.status().refused, 2);
    fixture.batcher.lost(running.run());
    let _in_time = fixture.submit([1, 3], Duration::from_secs(15));
    assert_eq!(fixture.batcher.status().queued, 1);
    let [curve] = &fixture.batcher.curves()[..] else { panic!("one size of row") };
    assert!(curve.points.iter().any(|point| point.rows == 1 && point.runs == 1), "{curve:?}");
}

/// Whoever asked first has no time left when the job's turn comes, and another has.
#[tokio::test]
async fn a_job_that_is_late_for_the_first_is_in_time_for_who_joined() {
    let fixture = Fixture::new(config(1));
    let key = Key::of(b"key");
    let tenant = Tenant::new(Sharing::InFlight);
    let accepted = Instant::now();
    let [soon, later] = [Duration::from_millis(100), LONG].map(|t| Deadline::after(accepted, t));
    let look_up = |deadline| {
        let urgency = Urgency { class: 0, deadline };
        fixture.cache.get_or_lead(Company::Any, tenant, key, urgency, accepted)
    };
    let Lookup::Lead(_first, leader) = look_up(soon) else { panic!("it is new") };
    let Lookup::Join(_second, _) = look_up(later) else { panic!("it is led") };
    let order = Order { accepted, deadline: soon, class: 0, is_part: false };
    fixture.batcher.submit(vec![tensor([1, 3])], order, leader).unwrap();
    wait_until_passed(soon);
    assert_eq!(fixture.next().jobs(), 1);
    assert_eq!(fixture.batcher.status().dropped, 0);
}

/// The answers of a batch reach those who asked for them, whatever shares it.
#[tokio::test]
async fn each_job_gets_its_own_rows() {
    let fixture = Fixture::new(config(8));
    let tickets: Vec<_> = [1, 3, 2].map(|rows| fixture.submit([rows, 1], LONG)).into();
    let batch = fixture.next();
    let shape = ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(1)]);
    let spec = TensorSpec { name: "y".into(), datatype: DataType::Fp32, shape };
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let output = Tensor::from_f32([6, 1].into(), &numbers).unwrap();
    let outputs = batch.split(vec![output], &[spec]).unwrap();
    batch.complete(outputs, Duration::ZERO);
    let mut rest = &numbers[..];
    for (ticket, rows) in tickets.into_iter().zip([1, 3, 2]) {
        let answer = ticket.wait().await.unwrap();
        let [NamedTensor { tensor, .. }] = &answer.outputs[..] else { panic!("one output") };
        let (own, others) = rest.split_at(rows);
        assert_eq!(tensor.to_f32().unwrap(), own);
        assert_eq!(answer.batch_size, 6);
        rest = others;
    }
}

/// An instance that is woken takes all there is, so that the others sleep on; what it leaves
/// wakes the next.
#[test]
fn every_job_is_taken_though_few_instances_are_woken() {
    let fixture = Fixture::new(config(2));
    let instances = [(); 3].map(|()| {
        let batcher = fixture.batcher.clone();
        std::thread::spawn(move || {
            std::iter::from_fn(|| batcher.next_batch(None)).map(|batch| batch.jobs()).sum::<usize>()
        })
    });
    let tickets: Vec<_> = (0..500).map(|_| fixture.submit([1, 3], LONG)).collect();
    fixture.batcher.close();
    let taken: usize = instances.into_iter().map(|instance| instance.join().unwrap()).sum();
    assert_eq!(taken, tickets.len());
}

//! Turns and states, without a model: the tests play it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inferring_repository::ModelSettings;
use inferring_types::{
    Batching, ContentDigest, DataType, Dimension, ModelVersion, ShapeSpec, Tensor,
};

use crate::config::WorkerConfig;

use super::*;

/// No step of any test takes nearly this long.
const PATIENCE: Duration = Duration::from_secs(30);

type Begun = Result<(Vec<NamedTensor>, Turn), ServiceError>;

/// A model of `x` FP32 `[N,1]` and `h` FP32 `[2,N]` to `y` FP32 `[N,1]` and `hn` FP32 `[2,N]`.
struct Fixture {
    model: ModelMetadata,
    sequences: Arc<Sequences>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(4, 100)
    }

    fn with(count_max: usize, waiting_max: usize) -> Self {
        let open = || Dimension::Dynamic(None);
        let spec = |name: &str, dimensions: [Dimension; 2]| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: ShapeSpec::new(dimensions),
        };
        let row = |name| spec(name, [open(), Dimension::Fixed(1)]);
        let state = |name| spec(name, [Dimension::Fixed(2), open()]);
        let (inputs, outputs) = (vec![row("x"), state("h")], vec![row("y"), state("hn")]);
        let settings = format!(
            "[inputs.h]\nbatch_axis = 1\n[outputs.hn]\nbatch_axis = 1\n\
             [batching]\nqueue_requests_max = {waiting_max}\n\
             [sequences]\ncount_max = {count_max}\nstate = [{{ input = \"h\", output = \"hn\" }}]",
        );
        let settings = ModelSettings::from_toml(&settings).unwrap();
        let serving = Serving::new(&settings, &WorkerConfig::default()).unwrap();
        let axes = serving.axes(&inputs, &outputs).unwrap();
        let batching = Batching::Rows { reason: "declared".into(), axes };
        let sequences = Sequences::of_model(&serving, &inputs, &outputs, &batching).unwrap();
        let model = ModelMetadata {
            name: "m".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: ContentDigest::of(b"m"),
            size_bytes: 1,
            inputs,
            outputs,
            batching,
            batch_size_max: 32,
        };
        Self { model, sequences: sequences.unwrap() }
    }

    /// A request has arrived; it may not have its turn yet.
    fn arrive(&self, step: SequenceStep, x: &[f32]) -> Arriving<'_> {
        self.arrive_within(step, x, 10 * PATIENCE)
    }

    fn arrive_within(&self, step: SequenceStep, x: &[f32], time: Duration) -> Arriving<'_> {
        let inputs = vec![tensor("x", [x.len() as u64, 1], x)];
        let deadline = Deadline::after(Instant::now(), time);
        let begin = self.sequences.begin(&self.model, step, inputs, deadline);
        let mut arriving = Arriving { begin: Box::pin(begin), begun: None };
        arriving.poll();
        arriving
    }

    /// A request at its turn, which came at once.
    fn begin(&self, step: SequenceStep, x: &[f32]) -> Begun {
        self.arrive(step, x).turn()
    }

    fn refusal(&self, step: SequenceStep, x: &[f32]) -> ServiceError {
        self.begin(step, x).err().expect("a refusal")
    }

    /// Has a request of one row answered with this state.
    fn answer(&self, step: SequenceStep, state: f32) {
        let (_, turn) = self.begin(step, &[0.0]).unwrap();
        turn.advance(&outputs(state), &[]).unwrap();
    }

    fn live(&self) -> usize {
        self.sequences.forget_idle(Instant::now())
    }
}

/// A request that has arrived.
struct Arriving<'a> {
    begin: Pin<Box<dyn Future<Output = Begun> + 'a>>,
    begun: Option<Begun>,
}

impl Arriving<'_> {
    fn poll(&mut self) {
        if self.begun.is_none()
            && let Poll::Ready(begun) =
                self.begin.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.begun = Some(begun);
        }
    }

    fn waits(&mut self) -> bool {
        self.poll();
        self.begun.is_none()
    }

    #[track_caller]
    fn turn(mut self) -> Begun {
        self.poll();
        self.begun.expect("its turn has come")
    }
}

fn tensor(name: &str, shape: [u64; 2], values: &[f32]) -> NamedTensor {
    NamedTensor::new(name.into(), Tensor::from_f32(shape.into(), values).unwrap())
}

/// What the model answers for one row whose state is this.
fn outputs(state: f32) -> Vec<NamedTensor> {
    vec![tensor("y", [1, 1], &[-1.0]), tensor("hn", [2, 1], &[state, state])]
}

fn step(id: &str) -> SequenceStep {
    SequenceStep { id: id.parse().unwrap(), start: false, end: false }
}

fn start(id: &str) -> SequenceStep {
    SequenceStep { start: true, ..step(id) }
}

fn end(id: &str) -> SequenceStep {
    SequenceStep { end: true, ..step(id) }
}

/// The state that a request was given.
fn state(begun: &Begun) -> Vec<f32> {
    let (inputs, _) = begun.as_ref().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(inputs[1].name.as_str(), "h");
    inputs[1].tensor.to_f32().unwrap()
}

#[tokio::test]
async fn each_request_is_given_the_state_of_the_one_before() {
    let f = Fixture::new();
    assert_eq!(state(&f.begin(start("a"), &[1.0])), [0.0, 0.0], "and was not answered");
    f.answer(start("a"), 1.0);
    f.answer(start("b"), 2.0);
    assert_eq!(state(&f.begin(step("a"), &[1.0])), [1.0, 1.0]);
    assert_eq!(state(&f.begin(step("b"), &[1.0])), [2.0, 2.0]);
    f.answer(step("a"), 3.0);
    assert_eq!(state(&f.begin(end("a"), &[1.0])), [3.0, 3.0], "no end without an answer");
    f.answer(end("a"), 4.0);
    assert_eq!(f.live(), 1);
    assert!(f.begin(step("a"), &[1.0]).is_err());
}

#[tokio::test]
async fn a_start_begins_anew_and_a_start_that_ends_leaves_nothing() {
    let f = Fixture::new();
    f.answer(start("a"), 1.0);
    assert_eq!(state(&f.begin(start("a"), &[1.0])), [0.0, 0.0]);
    assert_eq!(state(&f.begin(step("a"), &[1.0])), [1.0, 1.0], "it was not answered");
    f.answer(start("a"), 2.0);
    assert_eq!(state(&f.begin(step("a"), &[1.0])), [2.0, 2.0]);
    f.answer(SequenceStep { end: true, ..start("b") }, 2.0);
    assert_eq!(f.live(), 1);
}

#[tokio::test]
async fn the_state_is_given_only_to_those_who_ask_for_it() {
    let f = Fixture::new();
    for (asked, given) in
        [(&[][..], &["y"][..]), (&["hn"], &["hn"]), (&["hn", "y"], &["y", "hn"]), (&["y"], &["y"])]
    {
        let (_, turn) = f.begin(start("a"), &[1.0]).unwrap();
        let asked: Vec<TensorName> = asked.iter().map(|name| (*name).into()).collect();
        let answer = turn.advance(&outputs(1.0), &asked).unwrap();
        assert!(answer.iter().map(|output| output.name.as_str()).eq(given.iter().copied()));
    }
}

#[tokio::test]
async fn requests_of_a_sequence_take_turns_in_the_order_of_their_arrival() {
    let f = Fixture::new();
    let first = f.begin(start("a"), &[0.0]).unwrap();
    let mut second = f.arrive(step("a"), &[0.0]);
    let mut third = f.arrive(step("a"), &[0.0]);
    assert!(second.waits() && third.waits());
    // Another sequence waits for nobody.
    f.answer(start("b"), 9.0);
    first.1.advance(&outputs(1.0), &[]).unwrap();
    assert!(third.waits(), "the second comes first, however late it looks");
    let second = second.turn();
    assert_eq!(state(&second), [1.0, 1.0]);
    assert!(third.waits());
    second.unwrap().1.advance(&outputs(2.0), &[]).unwrap();
    assert_eq!(state(&third.turn()), [2.0, 2.0]);
}

#[tokio::test]
async fn who_gives_up_waiting_is_passed_over() {
    let f = Fixture::new();
    let first = f.begin(start("a"), &[0.0]).unwrap();
    let mut second = f.arrive(step("a"), &[0.0]);
    let mut third = f.arrive(step("a"), &[0.0]);
    assert!(second.waits() && third.waits());
    drop(second);
    first.1.advance(&outputs(1.0), &[]).unwrap();
    assert_eq!(state(&third.turn()), [1.0, 1.0]);
}

#[tokio::test]
async fn nobody_waits_beyond_the_deadline() {
    let f = Fixture::new();
    let (_, busy) = f.begin(start("a"), &[0.0]).unwrap();
    let late = f.arrive_within(step("a"), &[0.0], Duration::from_millis(1));
    let error = tokio::time::timeout(PATIENCE, late.begin).await.unwrap().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(
        error.to_string(),
        "the deadline passed before the earlier requests of sequence `a` were answered",
    );
    busy.advance(&outputs(1.0), &[]).unwrap();
    assert_eq!(state(&f.begin(step("a"), &[0.0])), [1.0, 1.0]);
}

#[tokio::test]
async fn what_follows_an_end_or_a_start_that_failed_finds_nothing() {
    let f = Fixture::new();
    let (_, failing) = f.begin(start("a"), &[0.0]).unwrap();
    let (mut next, mut anew) = (f.arrive(step("a"), &[0.0]), f.arrive(start("a"), &[0.0]));
    assert!(next.waits() && anew.waits());
    drop(failing);
    let error = next.turn().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    // Those behind can begin anew in the same sequence.
    anew.turn().unwrap().1.advance(&outputs(1.0), &[]).unwrap();
    let (_, last) = f.begin(end("a"), &[0.0]).unwrap();
    let mut next = f.arrive(step("a"), &[0.0]);
    assert!(next.waits());
    last.advance(&outputs(2.0), &[]).unwrap();
    assert!(next.turn().is_err());
    assert_eq!(f.live(), 0);
}

#[tokio::test]
async fn a_sequence_keeps_the_rows_with_which_it_began() {
    let f = Fixture::new();
    let begun = f.begin(start("a"), &[1.0, 2.0]).unwrap();
    let two = [tensor("y", [2, 1], &[0.0; 2]), tensor("hn", [2, 2], &[1.0, 2.0, 3.0, 4.0])];
    begun.1.advance(&two, &[]).unwrap();
    assert_eq!(state(&f.begin(step("a"), &[1.0, 2.0])), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        f.refusal(step("a"), &[1.0]).to_string(),
        "sequence `a` of model `m` began with 2 rows and goes on with as many; the request has 1",
    );
    f.answer(start("a"), 1.0);
    assert_eq!(state(&f.begin(step("a"), &[1.0])), [1.0, 1.0]);
    assert_eq!(
        f.refusal(start("b"), &[0.0; 5]).to_string(),
        "a request of sequence `b` has 5 rows: sequences of model `m` have 4 together at most",
    );
}

#[tokio::test]
async fn what_the_model_gives_must_be_what_it_takes() {
    let f = Fixture::new();
    f.answer(start("a"), 1.0);
    let (_, turn) = f.begin(step("a"), &[0.0]).unwrap();
    let wrong = [tensor("y", [1, 1], &[0.0]), tensor("hn", [1, 2], &[0.0; 2])];
    let error = turn.advance(&wrong, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(state(&f.begin(step("a"), &[0.0])), [1.0, 1.0]);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let f = Fixture::with(1, 1);
    let unknown = f.refusal(step("a"), &[0.0]);
    assert_eq!(unknown.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        unknown.to_string(),
        "model `m` knows no sequence `a`: begin it with `sequence_start`; one is forgotten when \
         it ends, after 60s without a request, and when the model is loaded anew",
    );
    f.answer(start("a"), 1.0);
    let full = f.refusal(start("b"), &[0.0]);
    assert_eq!((full.kind(), full.is_retryable()), (ErrorKind::Overloaded, false));
    let after = full.worth_retrying_after().unwrap();
    assert!(after > Duration::from_secs(30) && after <= Duration::from_secs(60), "{after:?}");
    assert_eq!(
        full.to_string(),
        "sequence `b` cannot begin: model `m` keeps the state of 1 row and no more; a sequence \
         makes room when it ends",
    );
    let inputs = vec![tensor("x", [1, 1], &[0.0]), tensor("h", [2, 1], &[0.0; 2])];
    let deadline = Deadline::after(Instant::now(), PATIENCE);
    let given = f.sequences.begin(&f.model, step("a"), inputs, deadline).await.err().unwrap();
    assert_eq!(
        given.to_string(),
        "input `h` of model `m` is kept for sequence `a`: leave it out, or leave `sequence_id` \
         out and keep it yourself",
    );
    let (_, _busy) = f.begin(step("a"), &[0.0]).unwrap();
    let mut waiting = f.arrive(step("a"), &[0.0]);
    assert!(waiting.waits());
    let crowded = f.refusal(step("a"), &[0.0]);
    assert_eq!((crowded.kind(), crowded.is_retryable()), (ErrorKind::Overloaded, false));
    drop(waiting);
    assert!(f.arrive(step("a"), &[0.0]).waits(), "there is room again");
}

#[tokio::test]
async fn a_request_that_does_not_fit_the_model_never_waits() {
    let f = Fixture::new();
    let (_, _busy) = f.begin(start("a"), &[0.0]).unwrap();
    let inputs = vec![tensor("x", [1, 2], &[0.0; 2])];
    let deadline = Deadline::after(Instant::now(), PATIENCE);
    let error = f.sequences.begin(&f.model, step("a"), inputs, deadline).await.err().unwrap();
    assert_eq!(error.to_string(), "input `x` of model `m`: expected FP32 [?,1], got FP32 [1,2]");
    assert!(f.arrive(step("a"), &[0.0]).waits());
}

/// Nothing is left of a client that comes, waits and goes, however often.
#[tokio::test]
async fn nothing_is_left_of_requests_that_were_given_up() {
    let f = Fixture::new();
    for _ in 0..100 {
        let busy = f.begin(start("a"), &[0.0]).unwrap();
        let waiting: Vec<_> = (0..3).map(|_| f.arrive(step("a"), &[0.0])).collect();
        drop(busy);
        drop(waiting);
        assert_eq!(f.live(), 0);
    }
    assert_eq!(Arc::strong_count(&f.sequences), 1);
}

#[tokio::test]
async fn who_has_its_turn_waits_no_more() {
    let f = Fixture::with(4, 1);
    let first = f.begin(start("a"), &[0.0]).unwrap();
    let mut second = f.arrive(step("a"), &[0.0]);
    assert!(second.waits());
    first.1.advance(&outputs(1.0), &[]).unwrap();
    let _second = second.turn().unwrap();
    assert!(f.arrive(step("a"), &[0.0]).waits(), "its place among those who wait is free");
}

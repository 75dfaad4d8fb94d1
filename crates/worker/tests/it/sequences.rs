//! Models whose state the worker keeps between the requests of a sequence.
//!
//! What is right is told by the same model without sequences: there, the test keeps the state.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use inferring_backend::fake::FakeBackend;
use inferring_types::{
    BoxFuture, CacheOutcome, DataType, Deadline, ErrorKind, InferRequest, InferenceService as _,
    ModelRepository as _, NamedTensor, SequenceStep, ServiceError, Tensor,
};
use inferring_worker::{Worker, WorkerConfig};
use proptest::prelude::*;

use crate::fixture::{Answer, PATIENCE, row, status, tensor, within_patience};
use crate::folder::{Folder, Served, load, serve};

const ROWS: &str = "[inputs.state]\nbatch_axis = 1\n[outputs.next_state]\nbatch_axis = 1\n";
const STATE: &str = "[[sequences.state]]\ninput = \"state\"\noutput = \"next_state\"\n";

/// A worker with the recurrent model `m` of these settings.
fn with(settings: &str) -> Served {
    let files = [("m/1/model.onnx", "0"), ("m/config.toml", settings)];
    Served::over(FakeBackend::recurrent(), &files, &WorkerConfig::default())
}

/// One that keeps the state of sequences.
fn keeping() -> Served {
    with(&format!("{ROWS}{STATE}"))
}

/// What a client says in one step: any number of rows.
type Words = Vec<[f32; 4]>;

/// A request without a state.
fn request(words: &[[f32; 4]]) -> InferRequest {
    let scale = Tensor::new(DataType::Int64, [].into(), 2i64.to_le_bytes().to_vec().into());
    let inputs = [
        ("input", tensor([words.len() as u64, 4], words.as_flattened())),
        ("scale", scale.unwrap()),
    ];
    InferRequest {
        model: "m".parse().unwrap(),
        inputs: inputs.map(|(name, tensor)| NamedTensor::new(name.into(), tensor)).into(),
        ..row(0.0)
    }
}

/// A request with its state.
fn stateless(words: &[[f32; 4]], state: &Tensor) -> InferRequest {
    let mut request = request(words);
    request.inputs.push(NamedTensor::new("state".into(), state.clone()));
    request
}

fn zeros(rows: usize) -> Tensor {
    tensor([2, rows as u64, 3], &vec![0.0; 6 * rows])
}

fn step(id: &str, words: &[[f32; 4]]) -> InferRequest {
    let step = SequenceStep { id: id.parse().unwrap(), start: false, end: false };
    InferRequest { sequence: Some(step), ..request(words) }
}

fn start(id: &str, words: &[[f32; 4]]) -> InferRequest {
    let step = SequenceStep { id: id.parse().unwrap(), start: true, end: false };
    InferRequest { sequence: Some(step), ..request(words) }
}

fn end(id: &str, words: &[[f32; 4]]) -> InferRequest {
    let step = SequenceStep { id: id.parse().unwrap(), start: false, end: true };
    InferRequest { sequence: Some(step), ..request(words) }
}

/// One row that differs from others.
fn word(n: usize) -> Words {
    vec![[n as f32 * 0.3, 1.0, -2.5, (n % 7) as f32]]
}

async fn ask(worker: &Worker, request: InferRequest) -> Answer {
    within_patience(worker.infer(request)).await
}

/// A request that has come, and has not been answered.
fn begin(worker: &Worker, request: InferRequest) -> BoxFuture<'_, Answer> {
    let mut answer = worker.infer(request);
    let poll = pin!(&mut answer).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "answered at once: {poll:?}");
    answer
}

fn outputs(answer: &Answer) -> HashMap<&str, &Tensor> {
    let answer = answer.as_ref().unwrap_or_else(|error| panic!("{}", error.chain()));
    answer.outputs.iter().map(|output| (output.name.as_str(), &output.tensor)).collect()
}

/// The one output of a request in a sequence.
fn output(answer: &Answer) -> Tensor {
    let outputs = outputs(answer);
    assert_eq!(outputs.len(), 1, "the state is not given where nobody asked for it");
    outputs["output"].clone()
}

/// A client that keeps the state of its sequence itself.
struct Keeper {
    worker: Arc<Worker>,
    state: Tensor,
}

impl Keeper {
    fn new(worker: &Arc<Worker>, rows: usize) -> Self {
        Self { worker: worker.clone(), state: zeros(rows) }
    }

    /// The output of the next step.
    async fn says(&mut self, words: &[[f32; 4]]) -> Tensor {
        let answer = ask(&self.worker, stateless(words, &self.state)).await;
        let outputs = outputs(&answer);
        self.state = outputs["next_state"].clone();
        outputs["output"].clone()
    }
}

#[tokio::test]
async fn a_sequence_is_answered_as_if_its_client_kept_the_state() {
    for settings in
        [format!("{ROWS}{STATE}"), format!("[batching]\nmode = \"alone\"\n{ROWS}{STATE}")]
    {
        let served = with(&settings);
        for rows in [1, 3] {
            let mut keeper = Keeper::new(&served.worker, rows);
            for n in 0..50 {
                let words: Words = (0..rows).flat_map(|row| word(5 * n + row)).collect();
                let request = if n == 0 { start("a", &words) } else { step("a", &words) };
                let answer = ask(&served.worker, request).await;
                assert_eq!(output(&answer), keeper.says(&words).await, "step {n}");
            }
        }
    }
}

#[tokio::test]
async fn steps_of_different_sequences_share_a_run() {
    // Runs begin when they are full.
    let patient = "[batching]\nsize_max = 4\ndispatch_when_idle = false\ndelay_max = \"1h\"\n";
    let served = with(&format!("{patient}{ROWS}{STATE}"));
    let apart = with("");
    let mut keepers = [(); 4].map(|()| Keeper::new(&apart.worker, 1));
    let before = served.engine.rows_of_runs().len();
    for n in 0..5 {
        let begun = ["a", "b", "c", "d"].into_iter().enumerate().map(|(who, id)| {
            let words = word(10 * who + n);
            let request = if n == 0 { start(id, &words) } else { step(id, &words) };
            served.worker.infer(request)
        });
        let answers = within_patience(all(begun.collect())).await;
        for (who, answer) in answers.iter().enumerate() {
            assert_eq!(output(answer), keepers[who].says(&word(10 * who + n)).await);
        }
    }
    assert_eq!(served.engine.rows_of_runs().split_off(before), [4; 5]);
}

/// Equal words are not equal work where the state is not: nothing is shared, nothing is kept.
#[tokio::test]
async fn answers_in_a_sequence_are_neither_kept_nor_shared() {
    let served = keeping();
    let worker = &served.worker;
    let before = served.engine.rows();
    served.engine.hold();
    let begun = ["a", "b"].map(|id| begin(worker, start(id, &word(1))));
    served.engine.release();
    for begun in begun {
        assert_eq!(within_patience(begun).await.unwrap().served.cache, CacheOutcome::Computed);
    }
    for _ in 0..3 {
        let again = ask(worker, start("a", &word(1))).await.unwrap();
        assert_eq!(again.served.cache, CacheOutcome::Computed);
    }
    let outside = ask(worker, stateless(&word(1), &zeros(1))).await.unwrap();
    assert_eq!(outside.served.cache, CacheOutcome::Computed);
    assert_eq!(served.engine.rows() - before, 6);
    let outside = ask(worker, stateless(&word(1), &zeros(1))).await.unwrap();
    assert_eq!(outside.served.cache, CacheOutcome::Hit);
}

#[tokio::test]
async fn the_state_is_given_to_who_asks_for_it() {
    let served = keeping();
    let asked = InferRequest { outputs: vec!["next_state".into()], ..start("a", &word(1)) };
    let answer = ask(&served.worker, asked).await;
    assert_eq!(outputs(&answer).into_keys().collect::<Vec<_>>(), ["next_state"]);
    let both = vec!["next_state".into(), "output".into()];
    let asked = InferRequest { outputs: both, ..step("a", &word(1)) };
    let answer = ask(&served.worker, asked).await;
    assert_eq!(outputs(&answer).len(), 2);
    let mut keeper = Keeper::new(&served.worker, 1);
    keeper.says(&word(1)).await;
    assert_eq!(keeper.says(&word(1)).await, *outputs(&answer)["output"]);
    assert_eq!(keeper.state, *outputs(&answer)["next_state"]);
}

/// What is said at once is answered in its order, each in the light of what was said before.
#[tokio::test]
async fn who_does_not_wait_for_answers_is_answered_in_order() {
    let served = keeping();
    served.engine.hold();
    let requests = (0..10).map(|n| if n == 0 { start("a", &word(n)) } else { step("a", &word(n)) });
    let begun: Vec<_> = requests.map(|request| begin(&served.worker, request)).collect();
    served.engine.release();
    let mut keeper = Keeper::new(&served.worker, 1);
    for (n, answer) in within_patience(all(begun)).await.iter().enumerate() {
        assert_eq!(output(answer), keeper.says(&word(n)).await, "step {n}");
    }
}

async fn started(served: &Served) -> Keeper {
    let mut keeper = Keeper::new(&served.worker, 1);
    let answer = ask(&served.worker, start("a", &word(1))).await;
    assert_eq!(output(&answer), keeper.says(&word(1)).await);
    keeper
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_state_as_it_was() {
    let served = keeping();
    let mut keeper = started(&served).await;
    served.engine.set_poison(Some(-77.0));
    let poison = vec![[-77.0, 0.0, 0.0, 0.0]];
    for request in [step("a", &poison), end("a", &poison), start("a", &poison)] {
        let error = ask(&served.worker, request).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::NotFound);
    }
    let wrong = InferRequest { outputs: vec!["nothing".into()], ..step("a", &word(2)) };
    assert_eq!(ask(&served.worker, wrong).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        output(&ask(&served.worker, step("a", &word(3))).await),
        keeper.says(&word(3)).await
    );
}

#[tokio::test]
async fn a_step_whose_time_is_over_leaves_the_state_as_it_was() {
    let served = keeping();
    let mut keeper = started(&served).await;
    served.engine.hold();
    let soon = Deadline::after(Instant::now(), Duration::from_millis(1));
    let late = InferRequest { deadline: soon, ..step("a", &word(2)) };
    let error = ask(&served.worker, late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    served.engine.release();
    assert_eq!(
        output(&ask(&served.worker, step("a", &word(3))).await),
        keeper.says(&word(3)).await
    );
}

/// Not even a run that was finished counts: its answer was never given to anybody.
#[tokio::test]
async fn a_step_whose_client_has_left_leaves_the_state_as_it_was() {
    let served = keeping();
    let mut keeper = started(&served).await;
    for finishes in [false, true] {
        served.engine.hold();
        let gone = begin(&served.worker, step("a", &word(2)));
        assert!(served.engine.wait_until_running(1, PATIENCE));
        let behind = begin(&served.worker, step("a", &word(3)));
        if finishes {
            served.engine.release();
            let engine = served.engine.clone();
            within_patience(async {
                while engine.running() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        }
        drop(gone);
        served.engine.release();
        assert_eq!(output(&within_patience(behind).await), keeper.says(&word(3)).await);
    }
}

fn refused(answer: Answer) -> (ErrorKind, String) {
    let error: ServiceError = answer.unwrap_err();
    // What this worker does not know may be at another one; all else is nobody's but its own.
    assert_eq!(error.is_retryable(), error.to_string().contains("knows no sequence"));
    (error.kind(), error.to_string())
}

const UNKNOWN: &str = "model `m` knows no sequence `a`: begin it with `sequence_start`; one is \
                       forgotten when it ends, after 60s without a request, and when the model \
                       is loaded anew";

#[tokio::test]
async fn a_sequence_must_begin_and_ends_when_it_is_told() {
    let served = keeping();
    let unknown = (ErrorKind::InvalidArgument, UNKNOWN.to_owned());
    assert_eq!(refused(ask(&served.worker, step("a", &word(1))).await), unknown);
    let mut keeper = started(&served).await;
    let last = ask(&served.worker, end("a", &word(2))).await;
    assert_eq!(output(&last), keeper.says(&word(2)).await);
    assert_eq!(refused(ask(&served.worker, step("a", &word(1))).await), unknown);
    // To begin anew needs no end.
    started(&served).await;
    started(&served).await;
}

#[tokio::test]
async fn a_sequence_is_forgotten_when_it_is_idle_for_too_long() {
    let served = with(&format!("{ROWS}[sequences]\nidle_timeout = \"1ns\"\n{STATE}"));
    ask(&served.worker, start("a", &word(1))).await.unwrap();
    let (kind, message) = refused(ask(&served.worker, step("a", &word(1))).await);
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.contains("after 1ns without a request"), "{message}");
    // Requests at once leave it no time to idle.
    served.engine.hold();
    let first = begin(&served.worker, start("a", &word(1)));
    let second = begin(&served.worker, step("a", &word(2)));
    served.engine.release();
    let (first, second) = tokio::join!(first, second);
    let mut keeper = Keeper::new(&served.worker, 1);
    assert_eq!(output(&first), keeper.says(&word(1)).await);
    assert_eq!(output(&second), keeper.says(&word(2)).await);
}

#[tokio::test]
async fn there_are_no_more_sequences_than_allowed() {
    let served = with(&format!("{ROWS}[sequences]\ncount_max = 2\n{STATE}"));
    for id in ["a", "b"] {
        ask(&served.worker, start(id, &word(1))).await.unwrap();
    }
    let full = ask(&served.worker, start("c", &word(1))).await;
    let wait = full.as_ref().unwrap_err().worth_retrying_after().unwrap();
    assert!(wait <= Duration::from_secs(60), "{wait:?}");
    assert_eq!(refused(full).0, ErrorKind::Overloaded);
    ask(&served.worker, end("a", &word(1))).await.unwrap();
    ask(&served.worker, start("c", &word(1))).await.unwrap();
    ask(&served.worker, step("b", &word(1))).await.unwrap();
}

#[tokio::test]
async fn what_does_not_go_with_a_sequence_is_refused() {
    let served = keeping();
    let started = ask(&served.worker, start("a", &word(1))).await;
    started.unwrap();
    let with_state =
        InferRequest { sequence: step("a", &word(1)).sequence, ..stateless(&word(1), &zeros(1)) };
    for (request, message) in [
        (
            with_state,
            "input `state` of model `m` is kept for sequence `a`: leave it out, or leave \
             `sequence_id` out and keep it yourself",
        ),
        (
            step("a", &[[1.0; 4]; 2]),
            "sequence `a` of model `m` began with 1 row and goes on with as many; the request has 2",
        ),
        (request(&word(1)), "input `state` of model `m` is missing: expected FP32 [2,N,3]"),
        (
            InferRequest { inputs: Vec::new(), ..step("a", &word(1)) },
            "input `input` of model `m` is missing: expected FP32 [N,4]",
        ),
    ] {
        assert_eq!(
            refused(ask(&served.worker, request).await),
            (ErrorKind::InvalidArgument, message.to_owned()),
        );
    }
    let plain = with(ROWS);
    assert_eq!(
        refused(ask(&plain.worker, start("a", &word(1))).await),
        (
            ErrorKind::InvalidArgument,
            "model `m` keeps no state between requests: leave `sequence_id` out and send all \
             inputs; an operator has state kept by `[[sequences.state]]` in the model's \
             config.toml"
                .to_owned(),
        ),
    );
}

#[test]
fn what_cannot_be_a_state_is_not_served() {
    let files = [("m/1/model.onnx", "0"), ("m/config.toml", STATE)];
    let folder = Folder::of(&files);
    let error = serve(&folder, FakeBackend::recurrent(), &WorkerConfig::default()).err().unwrap();
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let chain: Vec<_> = chain.map(ToString::to_string).collect();
    assert!(
        chain.last().unwrap().ends_with(
            "input `state` has shape [2,N,3], and it is open how large a state is: say that its \
             rows lie there (`batch_axis = 1`), or its size (`shape`), in `[inputs.state]`"
        ),
        "{chain:?}",
    );
}

/// Another version's state need not mean the same. Who has come before the swap is still
/// answered by the old one, in the light of what it heard.
#[tokio::test]
async fn a_model_that_is_loaded_anew_has_heard_nothing() {
    let served = keeping();
    let mut keeper = started(&served).await;
    served.engine.hold();
    let begun = begin(&served.worker, step("a", &word(2)));
    let behind = begin(&served.worker, step("a", &word(3)));
    assert!(served.engine.wait_until_running(1, PATIENCE));
    served.folder.write("m/2/model.onnx", "0");
    let loading = tokio::spawn({
        let worker = served.worker.clone();
        async move { worker.load(load("m")).await }
    });
    within_patience(async {
        while served.engine.running() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    served.engine.release();
    within_patience(loading).await.unwrap().unwrap();
    let old = (within_patience(begun).await, within_patience(behind).await);
    assert_eq!(old.0.as_ref().unwrap().version.as_str(), "1");
    let unknown = (ErrorKind::InvalidArgument, UNKNOWN.to_owned());
    assert_eq!(refused(ask(&served.worker, step("a", &word(4))).await), unknown);
    assert_eq!(output(&old.0), keeper.says(&word(2)).await);
    assert_eq!(output(&old.1), keeper.says(&word(3)).await);
}

/// Many clients on many threads, each with a sequence of its own, who leave in the middle of
/// steps as they like: each hears what it would hear if it kept the state itself, and moves on
/// only with an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_come_and_go_lose_nothing_and_hear_only_themselves() {
    let served = keeping();
    let apart = with("[batching]\nmode = \"alone\"");
    let clients = (0..16).map(|client: usize| {
        let (worker, apart) = (served.worker.clone(), apart.worker.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(client as u64);
            let id = format!("client {client}");
            let (mut keeper, mut begun) = (Keeper::new(&apart, 1), false);
            for _ in 0..100 {
                let words = word(random.usize(..1000));
                let request = if begun { step(&id, &words) } else { start(&id, &words) };
                let asked = worker.infer(request);
                let answer = match random.usize(..4) {
                    0 => {
                        let patience = Duration::from_micros(random.u64(..300));
                        tokio::time::timeout(patience, asked).await.ok()
                    }
                    _ => Some(within_patience(asked).await),
                };
                if let Some(answer) = answer {
                    assert_eq!(output(&answer), keeper.says(&words).await);
                    begun = true;
                }
            }
            let answer = within_patience(worker.infer(end(&id, &word(1)))).await;
            assert_eq!(output(&answer), keeper.says(&word(1)).await);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within_patience(client).await.unwrap();
    }
    assert_eq!(status(&served.worker).await.batches.queued, 0);
}

/// What is said at once: by whom (with a sequence of 1, 2 or 3 rows), and whether it begins anew.
fn rounds() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let said = (0..3usize, prop::bool::weighted(0.15));
    prop::collection::vec(prop::collection::vec(said, 1..8), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the steps of sequences mix in time and in runs, each is answered as if it were the
    /// only one, and its client kept the state.
    #[test]
    fn any_interleaving_is_as_each_sequence_alone(rounds in rounds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let served = keeping();
            let apart = with("[batching]\nmode = \"alone\"");
            let mut keepers = [1, 2, 3].map(|rows| Keeper::new(&apart.worker, rows));
            let mut has_begun = [false; 3];
            let mut steps = 0;
            for round in rounds {
                served.engine.hold();
                let (mut said, mut begun) = (Vec::new(), Vec::new());
                for (who, anew) in round {
                    steps += 1;
                    let words: Words = (0..=who).flat_map(|row| word(steps + 31 * row)).collect();
                    let id = ["a", "b", "c"][who];
                    let starts = anew || !has_begun[who];
                    has_begun[who] = true;
                    let request = if starts { start(id, &words) } else { step(id, &words) };
                    begun.push(begin(&served.worker, request));
                    said.push((who, starts, words));
                }
                served.engine.release();
                let answers = within_patience(all(begun)).await;
                for ((who, starts, words), answer) in said.into_iter().zip(answers) {
                    let keeper = &mut keepers[who];
                    if starts {
                        keeper.state = zeros(who + 1);
                    }
                    assert_eq!(output(&answer), keeper.says(&words).await);
                }
            }
        });
    }
}

/// All answers, waited for at the same time.
async fn all(mut begun: Vec<BoxFuture<'_, Answer>>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = begun.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (answer, begun) in answers.iter_mut().zip(&mut begun) {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = begun.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

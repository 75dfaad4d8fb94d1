//! The fake engine does what it promises to tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use inferring_types::{DataType, Shape};
use tempfile::TempDir;

use super::*;
use crate::GraphOptimization;

const PATIENCE: Duration = Duration::from_secs(30);

fn rows(values: &[[f32; 4]]) -> Tensor {
    Tensor::from_f32([values.len() as u64, 4].into(), values.as_flattened()).unwrap()
}

fn load(backend: &FakeBackend, path: impl AsRef<Path>) -> Result<LoadedModel, LoadError> {
    backend.load(path.as_ref(), &LoadOptions::default())
}

fn session(backend: &FakeBackend) -> Box<dyn Session> {
    load(backend, "model.onnx").unwrap().session
}

#[test]
fn rows_are_independent_unless_told_to_mix() {
    let (first, second) = ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, -1.0]);
    for (backend, independent) in
        [(FakeBackend::new(), true), (FakeBackend::new().with_rows_that_mix(), false)]
    {
        let mut session = session(&backend);
        let together = session.execute(&[rows(&[first, second])]).unwrap()[0].to_f32().unwrap();
        let apart = [first, second]
            .map(|row| session.execute(&[rows(&[row])]).unwrap()[0].to_f32().unwrap());
        assert_eq!(together == apart.concat(), independent);
        assert_eq!(backend.control().rows_of_runs(), [2, 1, 1]);
        assert_eq!(backend.control().rows(), 4);
    }
}

#[test]
fn zero_rows_give_zero_rows() {
    let outputs = session(&FakeBackend::new()).execute(&[rows(&[])]).unwrap();
    assert_eq!(outputs, [rows(&[])]);
}

#[test]
fn a_held_run_waits_for_release() {
    let backend = FakeBackend::new();
    let control = backend.control();
    control.hold();
    let mut session = session(&backend);
    let run = thread::spawn(move || session.execute(&[rows(&[[1.0; 4]])]));
    assert!(control.wait_until_running(1, PATIENCE));
    assert!(!run.is_finished());
    control.release();
    assert!(run.join().unwrap().is_ok());
    assert_eq!((control.running(), control.runs()), (0, 1));
}

#[test]
fn a_delayed_run_takes_at_least_the_delay() {
    let backend = FakeBackend::new();
    backend.control().set_delay(Duration::from_millis(20));
    let begun = Instant::now();
    session(&backend).execute(&[rows(&[[1.0; 4]])]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_run_ends_when_it_is_interrupted_and_not_otherwise() {
    let hold = |control: &FakeControl| control.hold();
    let delay = |control: &FakeControl| control.set_delay(Duration::from_secs(3600));
    let cost = |control: &FakeControl| control.set_cost(|rows| Duration::from_secs(3600 * rows));
    for keep in [&hold as &dyn Fn(&FakeControl), &delay, &cost] {
        let backend = FakeBackend::new();
        let control = backend.control();
        keep(&control);
        let mut session = session(&backend);
        let run = Run::new();
        thread::scope(|scope| {
            let running = scope.spawn(|| session.run(&[rows(&[[1.0; 4]])], &run));
            assert!(control.wait_until_running(1, PATIENCE));
            assert!(!running.is_finished());
            run.interrupt();
            let error = running.join().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "the run was interrupted");
        });
        assert!(control.wait_until_interrupts(1, PATIENCE));
        assert_eq!((control.running(), control.runs(), control.interrupts()), (0, 1, 1));
        assert!(session.run(&[rows(&[[1.0; 4]])], &run).is_err());
        assert_eq!(control.runs(), 1, "a run that was interrupted before it began");
    }
}

#[test]
fn a_hanging_run_heeds_an_interrupt_only_once_it_is_released() {
    let backend = FakeBackend::new();
    let control = backend.control();
    control.hang_next(1);
    let (mut hanging, mut other) = (session(&backend), session(&backend));
    let run = Run::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| hanging.run(&[rows(&[[1.0; 4]])], &run));
        assert!(control.wait_until_running(1, PATIENCE));
        run.interrupt();
        assert!(control.wait_until_interrupts(1, PATIENCE));
        assert!(other.execute(&[rows(&[[1.0; 4]])]).is_ok(), "only one run hangs");
        assert!(!running.is_finished());
        control.release();
        assert!(running.join().unwrap().is_err());
    });
}

#[test]
fn the_cost_of_a_run_follows_its_rows() {
    let backend = FakeBackend::new();
    backend.control().set_cost(|rows| Duration::from_millis(if rows == 2 { 20 } else { 0 }));
    let mut session = session(&backend);
    let begun = Instant::now();
    session.execute(&[rows(&[[1.0; 4]; 2])]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_session_is_shared_where_it_may_be() {
    let backend = FakeBackend::new();
    let control = backend.control();
    let mut first = session(&backend);
    let mut second = first.share().unwrap();
    assert_eq!((control.loads(), control.shares(), control.sessions()), (1, 1, 2));
    let question = [rows(&[[1.0, 2.0, 3.0, 4.0]])];
    assert_eq!(first.execute(&question).unwrap(), second.execute(&question).unwrap());
    control.set_sharable(false);
    assert!(first.share().is_none());
    drop((first, second));
    assert_eq!((control.shares(), control.sessions()), (1, 0));
}

#[test]
fn runs_fail_panic_and_recover_as_told() {
    let backend = FakeBackend::new();
    let control = backend.control();
    let mut session = session(&backend);
    control.fail_next(1);
    assert!(session.execute(&[rows(&[[1.0; 4]])]).is_err());
    control.panic_next(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| session.execute(&[rows(&[[1.0; 4]])])));
    assert!(panicked.is_err());
    assert_eq!(control.running(), 0);
    control.set_poison(Some(-7.0));
    assert!(session.execute(&[rows(&[[1.0; 4], [0.0, -7.0, 0.0, 0.0]])]).is_err());
    assert!(session.execute(&[rows(&[[1.0; 4]])]).is_ok());
}

#[test]
fn loads_fail_as_told_and_digests_follow_the_path() {
    let backend = FakeBackend::new();
    backend.control().fail_next_loads(1);
    assert!(load(&backend, "a").is_err());
    let digest = |path: &str| load(&backend, path).unwrap().digest;
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
    assert_eq!(backend.control().loads(), 5);
}

#[test]
fn inputs_that_do_not_fit_are_refused_uncounted() {
    let backend = FakeBackend::new();
    let wrong = Tensor::from_f32([1, 3].into(), &[0.0; 3]).unwrap();
    let error = session(&backend).execute(&[wrong]).unwrap_err();
    assert_eq!(error.to_string(), "input `input`: expected FP32 [N,4], got FP32 [1,3]");
    assert_eq!(backend.control().runs(), 0);
}

#[test]
fn a_path_fails_to_load_until_it_may() {
    let backend = FakeBackend::new();
    backend.control().refuse_loads_of("2/model.onnx", "out of memory");
    let path = |version: &str| format!("models/m/{version}/model.onnx");
    assert!(load(&backend, path("1")).is_ok());
    assert!(load(&backend, path("12")).is_ok(), "components are compared whole");
    let error = load(&backend, path("2")).err().unwrap().to_string();
    assert!(error.contains("out of memory"), "{error}");
    backend.control().accept_loads_of("2/model.onnx");
    assert!(load(&backend, path("2")).is_ok());
    let paths = backend.control().loaded().into_iter().map(|(path, _)| path);
    assert_eq!(paths.collect::<Vec<_>>(), ["1", "12", "2", "2"].map(path).map(PathBuf::from));
}

#[test]
fn a_held_load_waits_for_release_and_its_session_is_counted() {
    let backend = FakeBackend::new();
    let control = backend.control();
    control.hold_loads();
    let loading = thread::spawn(move || load(&backend, "model.onnx"));
    assert!(control.wait_until_loading(1, PATIENCE));
    assert_eq!((control.loads(), control.sessions()), (1, 0));
    control.release_loads();
    let model = loading.join().unwrap().unwrap();
    assert_eq!((control.loading(), control.sessions()), (0, 1));
    drop(model);
    assert!(control.wait_until_sessions(0, PATIENCE));
}

#[test]
fn an_answer_tells_which_file_gave_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    let backend = FakeBackend::new().reading_files();
    assert!(matches!(load(&backend, &path), Err(LoadError::Read { .. })));
    let mut digests = Vec::new();
    for (content, first) in [("100\n", 112.0), ("-0.5", 11.5)] {
        std::fs::write(&path, content).unwrap();
        let mut model = load(&backend, &path).unwrap();
        digests.push(model.digest);
        let outputs = model.session.execute(&[rows(&[[1.0, 2.0, 3.0, 4.0]])]).unwrap();
        assert_eq!(outputs[0].to_f32().unwrap()[0], first);
    }
    assert_ne!(digests[0], digests[1]);
    std::fs::write(&path, "no model").unwrap();
    assert!(matches!(load(&backend, &path), Err(LoadError::Refused { .. })));
}

#[test]
fn options_are_recorded_and_there_is_no_gpu() {
    let backend = FakeBackend::new();
    let basic = LoadOptions { optimization: GraphOptimization::Basic, ..LoadOptions::default() };
    backend.load("a".as_ref(), &basic).unwrap();
    assert_eq!(backend.control().loaded(), [("a".into(), basic)]);
    let cuda = LoadOptions { device: Some(Device::Cuda(1)), ..LoadOptions::default() };
    let error = backend.load("a".as_ref(), &cuda).err().unwrap().to_string();
    assert_eq!(error, "cannot run `a` on cuda:1: the fake engine has no GPU");
    backend.trim();
    assert_eq!(backend.control().trims(), 1);
}

#[test]
fn the_recurrent_model_has_its_states_rows_on_the_second_axis() {
    let mut session = session(&FakeBackend::recurrent());
    let scale = |value: i64| {
        let data = value.to_le_bytes().to_vec();
        Tensor::new(DataType::Int64, Shape::default(), data.into()).unwrap()
    };
    let state =
        |rows: usize, values: &[f32]| Tensor::from_f32([2, rows as u64, 3].into(), values).unwrap();
    let (first, second) = ([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, -1.0]);
    let mut run = |input, state, scale| {
        let outputs = session.execute(&[input, state, scale]).unwrap();
        outputs.iter().map(|output| output.to_f32().unwrap()).collect::<Vec<_>>()
    };
    let apart = [
        run(rows(&[first]), state(1, &[1.0, 0.0, 0.0, 0.0, 0.0, 10.0]), scale(2)),
        run(rows(&[second]), state(1, &[0.0; 6]), scale(2)),
    ];
    assert_eq!(apart[0][0], [46.0, 50.0, 54.0, 58.0]);
    assert_eq!(apart[0][1], [11.0, 10.0, 10.0, 10.0, 10.0, 20.0]);
    let joined = state(2, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0]);
    let together = run(rows(&[first, second]), joined, scale(2));
    assert_eq!(together[0], [&apart[0][0][..], &apart[1][0][..]].concat());
    let next = |row: usize, k: usize| &apart[row][1][3 * k..][..3];
    assert_eq!(together[1], [next(0, 0), next(1, 0), next(0, 1), next(1, 1)].concat());
    let error = session.execute(&[rows(&[first]), state(2, &[0.0; 12]), scale(1)]).unwrap_err();
    assert_eq!(error.to_string(), "input and state differ in rows");
}

#[test]
fn a_model_may_have_no_inputs_or_compute_anything() {
    let outputs = session(&FakeBackend::constant()).execute(&[]).unwrap();
    assert_eq!(outputs, [Tensor::from_f32([4].into(), &[1.0, 2.0, 3.0, 4.0]).unwrap()]);

    let [spec] = FakeBackend::new().model.inputs.try_into().unwrap();
    let pair = vec![spec; 2];
    let swap = FakeBackend::computing(pair.clone(), pair, |inputs| {
        Ok(inputs.iter().rev().cloned().collect())
    });
    let (a, b) = (rows(&[[1.0; 4]]), rows(&[[2.0; 4]]));
    assert_eq!(session(&swap).execute(&[a.clone(), b.clone()]).unwrap(), [b, a]);
    assert_eq!(swap.control().runs(), 1);
}

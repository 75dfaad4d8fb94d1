//! Runs that are ended from another thread.

use std::hint;
use std::sync::mpsc;
use std::thread;

use inferring_backend::{Interrupted, Run};
use inferring_types::{DataType, Shape, Tensor};

use crate::onnx::{self, Size};
use crate::{load, load_bytes, models};

/// `y = x` where `go` is false. Where it is true, `x` is negated for ever.
fn endless() -> Vec<u8> {
    let (float, boolean) = (onnx::element(DataType::Fp32), onnx::element(DataType::Bool));
    let vector = || onnx::tensor(float, &[Size::Symbol("N")]);
    let scalar = |element| onnx::tensor(element, &[]);
    let body = onnx::graph(
        &[
            onnx::node("Identity", &["goes"], &["goes_on"]),
            onnx::node("Neg", &["before"], &["after"]),
        ],
        &[
            ("iteration", scalar(onnx::element(DataType::Int64))),
            ("goes", scalar(boolean)),
            ("before", vector()),
        ],
        &[("goes_on", scalar(boolean)), ("after", vector())],
        &[],
    );
    // No name in the place of the number of rounds: there is no such limit.
    let node = onnx::node("Loop", &["", "go", "x"], &["y"]).graph_attribute("body", &body);
    onnx::model(&[node], &[("go", scalar(boolean)), ("x", vector())], &[("y", vector())])
}

fn question(go: bool) -> [Tensor; 2] {
    let go = Tensor::new(DataType::Bool, Shape::default(), vec![u8::from(go)].into()).unwrap();
    [go, Tensor::from_f32([2].into(), &[1.0, -2.0]).unwrap()]
}

#[test]
fn a_run_that_would_never_end_is_ended_and_the_next_is_made() {
    let mut session = load_bytes(&endless()).session;
    for round in 0..100 {
        let run = Run::new();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                while !run.is_under_way() {
                    hint::spin_loop();
                }
                // Sooner and later: before the first operator, and in any round of the loop.
                for _ in 0..round * 500 {
                    hint::spin_loop();
                }
                run.interrupt();
            });
            session.run(&question(true), &run)
        });
        assert_eq!(outcome.unwrap_err().to_string(), Interrupted.to_string());
        let [_, x] = question(false);
        assert_eq!(session.execute(&question(false)).unwrap(), [x]);
    }
}

#[test]
fn a_run_that_was_interrupted_before_does_not_begin() {
    let mut session = load_bytes(&endless()).session;
    let run = Run::new();
    run.interrupt();
    for _ in 0..2 {
        let error = session.run(&question(true), &run).unwrap_err().to_string();
        assert_eq!(error, Interrupted.to_string());
    }
    assert!(session.execute(&question(false)).is_ok());
}

/// One thread runs and another interrupts every second run, whenever it gets there: before,
/// during or after it. All others must not notice.
#[test]
fn an_interrupt_concerns_its_own_run_whenever_it_comes() {
    let mut session = load(&models().join("tiny_mlp.onnx")).session;
    let question = Tensor::from_f32([1, 3].into(), &[0.5, -1.0, 2.0]).unwrap();
    let question = std::slice::from_ref(&question);
    let expected = session.execute(question).unwrap();
    let runs = (0..4000).map(|_| Run::new()).collect::<Vec<_>>();
    let (sender, receiver) = mpsc::sync_channel::<&Run>(1);
    thread::scope(|scope| {
        scope.spawn(move || receiver.iter().for_each(Run::interrupt));
        for (number, run) in runs.iter().enumerate() {
            let is_interrupted = number % 2 == 0;
            if is_interrupted {
                sender.send(run).unwrap();
            }
            match session.run(question, run) {
                Ok(answer) => assert_eq!(answer, expected),
                Err(error) => {
                    assert_eq!(error.to_string(), Interrupted.to_string());
                    assert!(is_interrupted, "run {number} was not interrupted");
                }
            }
        }
        drop(sender);
    });
}

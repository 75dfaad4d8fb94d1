//! Sessions over one loaded model, run by several threads at once.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use inferring_backend::{Arena, Backend as _, ExecutionMode, LoadOptions, Run, Session};
use inferring_types::{DataType, Tensor, TensorSpec};
use tempfile::TempDir;

use crate::onnx::{self, Size};
use crate::{backend, iris, models};

const THREADS: usize = 6;

/// Two branches that meet, with products large enough to be split over threads.
fn branches() -> Vec<u8> {
    let float = onnx::element(DataType::Fp32);
    let weights = (0..128 * 128_u32).flat_map(|i| ((i % 17) as f32 / 64.0 - 0.12).to_le_bytes());
    let rows = || onnx::tensor(float, &[Size::Symbol("N"), Size::Fixed(128)]);
    onnx::model_with_weights(
        &[
            onnx::node("MatMul", &["x", "w"], &["product"]),
            onnx::node("Tanh", &["x"], &["bent"]),
            onnx::node("MatMul", &["bent", "w"], &["bent_product"]),
            onnx::node("Add", &["product", "bent_product"], &["sum"]),
            onnx::node("MatMul", &["sum", "w"], &["mixed"]),
            onnx::node("Softmax", &["mixed"], &["y"]),
        ],
        &[("x", rows())],
        &[("y", rows())],
        &[onnx::constant(float, &[128, 128], &weights.collect::<Vec<_>>()).text(8, "w")],
    )
}

/// The `number`th question to a model: of as many rows as its number has it, and values of its
/// own. What fits no datatype here is left out by the callers.
fn question(inputs: &[TensorSpec], number: usize) -> Vec<Tensor> {
    let rows = 1 + number as u64 % 3;
    let tensor = |spec: &TensorSpec| {
        let sizes = spec.shape.dimensions().iter();
        let shape = sizes.map(|size| size.fixed().unwrap_or(rows)).collect::<Vec<_>>();
        let elements = shape.iter().product::<u64>();
        let data = (0..elements).flat_map(|element| {
            let value = (element as usize * 7 + number * 13) % 31;
            match spec.datatype {
                DataType::Fp32 => (value as f32 / 10.0 - 1.5).to_le_bytes().to_vec(),
                DataType::Fp16 => half::f16::from_f32(value as f32 / 10.0).to_le_bytes().to_vec(),
                // Small enough for whatever is looked up by it.
                DataType::Int64 => (value as i64 % 4).to_le_bytes().to_vec(),
                other => panic!("a model takes {other}: make some here"),
            }
        });
        Tensor::new(spec.datatype, shape.as_slice().into(), data.collect::<Vec<_>>().into())
    };
    inputs.iter().map(|spec| tensor(spec).unwrap()).collect()
}

/// Every thread asks all questions, each beginning with another, and must get the answers that
/// one thread alone got.
fn check(path: &Path, options: &LoadOptions, rounds: usize) {
    let mut model = backend().load(path, options).unwrap();
    let questions = (0..THREADS).map(|n| question(&model.inputs, n)).collect::<Vec<_>>();
    let serial = |session: &mut dyn Session| {
        let answers = questions.iter().map(|inputs| session.execute(inputs).unwrap());
        answers.collect::<Vec<_>>()
    };
    let expected = serial(&mut *model.session);
    let sessions = (0..THREADS).map(|_| model.session.share().unwrap()).collect::<Vec<_>>();
    // Those that were made from it do not need it any longer.
    drop(model);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for (number, mut session) in sessions.into_iter().enumerate() {
            let (questions, expected, barrier) = (&questions, &expected, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..rounds * THREADS {
                    let index = (number + round) % THREADS;
                    let answer = session.execute(&questions[index]).unwrap();
                    assert_eq!(answer, expected[index], "{} {options:?}", path.display());
                }
            });
        }
    });
}

#[test]
fn threads_that_share_a_model_get_the_answers_of_one_alone() {
    for (name, rounds) in [
        ("tiny_mlp.onnx", 300),
        ("slow.onnx", 1),
        ("two_inputs.onnx", 300),
        ("f16_scale.onnx", 300),
    ] {
        check(&models().join(name), &LoadOptions::default(), rounds);
    }
    check(&iris(), &LoadOptions::default(), 300);
}

#[test]
fn they_do_so_however_the_model_was_loaded() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("branches.onnx");
    std::fs::write(&path, branches()).unwrap();
    for options in [
        LoadOptions::default(),
        LoadOptions { arena: Arena::Shrink, ..LoadOptions::default() },
        LoadOptions { arena: Arena::Off, ..LoadOptions::default() },
        LoadOptions { intra_op_threads: NonZeroUsize::new(1), ..LoadOptions::default() },
        LoadOptions { intra_op_threads: NonZeroUsize::new(3), ..LoadOptions::default() },
        LoadOptions { execution_mode: ExecutionMode::Parallel, ..LoadOptions::default() },
    ] {
        check(&path, &options, 100);
    }
}

#[test]
fn the_end_of_one_shared_run_is_not_the_end_of_another() {
    let mut model = backend().load(&models().join("slow.onnx"), &LoadOptions::default()).unwrap();
    let inputs = question(&model.inputs, 0);
    let expected = model.session.execute(&inputs).unwrap();
    let mut other = model.session.share().unwrap();
    let rounds = 10;
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for _ in 0..rounds {
                assert_eq!(other.execute(&inputs).unwrap(), expected);
            }
        });
        barrier.wait();
        for _ in 0..rounds {
            let run = Run::new();
            thread::scope(|scope| {
                scope.spawn(|| run.interrupt());
                if let Ok(answer) = model.session.run(&inputs, &run) {
                    assert_eq!(answer, expected);
                }
            });
        }
    });
    assert_eq!(model.session.execute(&inputs).unwrap(), expected);
}

//! Options of one model: what they change and what they do not.

use std::num::NonZeroUsize;

use inferring_backend::{
    Arena, Backend as _, Device, ExecutionMode, GraphOptimization, LoadError, LoadOptions,
};
use inferring_types::Tensor;

use crate::{backend, iris, models};

/// Options that should not change an answer beyond its last bits.
fn variants() -> Vec<LoadOptions> {
    let plain = LoadOptions::default();
    let threads = NonZeroUsize::new;
    let mut variants = vec![
        LoadOptions { device: Some(Device::Cpu), ..plain.clone() },
        LoadOptions { intra_op_threads: threads(1), ..plain.clone() },
        LoadOptions { intra_op_threads: threads(3), ..plain.clone() },
        LoadOptions { execution_mode: ExecutionMode::Parallel, ..plain.clone() },
        LoadOptions {
            execution_mode: ExecutionMode::Parallel,
            inter_op_threads: threads(2),
            intra_op_threads: threads(2),
            ..plain.clone()
        },
        LoadOptions { arena: Arena::Shrink, ..plain.clone() },
        LoadOptions { arena: Arena::Off, ..plain.clone() },
    ];
    for optimization in
        [GraphOptimization::Disable, GraphOptimization::Basic, GraphOptimization::Extended]
    {
        variants.push(LoadOptions { optimization, ..plain.clone() });
    }
    variants
}

#[test]
fn no_option_changes_what_a_model_computes() {
    let question = |width: usize| {
        let values = (0..4 * width).map(|i| i as f32 / 7.0 - 1.0).collect::<Vec<_>>();
        Tensor::from_f32([4, width as u64].into(), &values).unwrap()
    };
    for (path, width) in [(models().join("tiny_mlp.onnx"), 3), (models().join("slow.onnx"), 4)] {
        let answer = |options: &LoadOptions| {
            let mut model = backend().load(&path, options).unwrap();
            let outputs = model.session.execute(&[question(width)]).unwrap();
            let again = model.session.execute(&[question(width)]).unwrap();
            assert_eq!(outputs, again, "{options:?}");
            outputs[0].to_f32().unwrap()
        };
        let expected = answer(&LoadOptions::default());
        for options in variants() {
            for (got, want) in answer(&options).iter().zip(&expected) {
                assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{options:?}");
            }
        }
    }
}

#[test]
fn a_device_that_does_not_work_is_told_for_the_model_that_asks_for_it() {
    // No machine has so many.
    let options = LoadOptions { device: Some(Device::Cuda(1_000_000)), ..LoadOptions::default() };
    let Err(LoadError::Device { path, device, reason }) = backend().load(&iris(), &options) else {
        panic!("a device was used that cannot exist");
    };
    assert_eq!((path, &*device), (iris(), "cuda:1000000"));
    assert!(reason.to_uppercase().contains("CUDA"), "{reason}");
}

//! How long a run takes through the backend, one session on one thread.
//!
//! ```text
//! cargo run --release -p inferring-backend --example measure -- model.onnx [rows] [threads] [device]
//! ```
//!
//! The model takes one FP32 input; dynamic dimensions other than the first become 1.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_types::{DataType, Shape, Tensor};

/// Long enough that the fastest of the windows ran undisturbed on a busy machine.
const WINDOWS: u32 = 20;
const WINDOW: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which model?")?);
    let rows = arguments.next().map_or(Ok(1), |text| text.parse::<u64>())?;
    let threads = arguments.next().map_or(Ok(NonZeroUsize::MIN), |text| text.parse())?;
    let device = arguments.next().map_or(Ok(Device::Cpu), |text| text.parse())?;

    let backend = OrtBackend::start(OrtConfig {
        device,
        intra_op_threads: Some(threads),
        ..OrtConfig::default()
    })?;
    let mut model = backend.load(&path, &LoadOptions::default())?;
    let spec = &model.inputs[0];
    let sizes =
        spec.shape.dimensions().iter().enumerate().map(|(index, dimension)| {
            dimension.fixed().unwrap_or(if index == 0 { rows } else { 1 })
        });
    let shape = Shape::new(sizes);
    let bytes = shape.elements().ok_or("too many elements")? * 4;
    let input = Tensor::new(DataType::Fp32, shape, vec![0; usize::try_from(bytes)?].into())?;

    let mut best = Duration::MAX;
    for _ in 0..WINDOWS {
        let (begun, mut runs) = (Instant::now(), 0);
        while begun.elapsed() < WINDOW {
            for _ in 0..16 {
                model.session.execute(std::slice::from_ref(&input))?;
            }
            runs += 16;
        }
        best = best.min(begun.elapsed() / runs);
    }
    let (path, shape, provider) = (path.display(), input.shape(), &model.device.provider);
    println!("{path} {shape} {provider}: {best:?} per run, best of {WINDOWS}");
    Ok(())
}

//! What happens without a GPU: `cuda` fails loudly, `auto` falls back and says so once.
//!
//! The warning comes once per process, so this file holds one test. Where CUDA works, that is
//! what it checks instead.

use std::io;
use std::path::Path;
use std::sync::Arc;

use inferring_backend::ort::{Device, OrtBackend, OrtConfig, StartError};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_types::Tensor;
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was logged, as text.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock()).lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn start(device: Device) -> Result<OrtBackend, StartError> {
    OrtBackend::start(OrtConfig { device, ..OrtConfig::default() })
}

/// The numbers of two FP32 tensors in pairs.
fn both_f32((a, b): (&Tensor, &Tensor)) -> Option<Vec<(f32, f32)>> {
    assert_eq!((a.datatype(), a.shape()), (b.datatype(), b.shape()));
    Some(a.to_f32()?.into_iter().zip(b.to_f32()?).collect())
}

#[test]
fn auto_falls_back_with_one_warning_and_cuda_fails_with_the_reason() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .init();
    let iris = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/iris/iris.onnx");
    let options = LoadOptions::default();
    let flower = Tensor::from_f32([1, 4].into(), &[5.1, 3.5, 1.4, 0.2]).unwrap();

    let mut backends = vec![start(Device::Auto).unwrap_or_else(|error| panic!("{error}"))];
    backends.push(start(Device::Auto).unwrap());
    let mut answers = Vec::new();
    for backend in &backends {
        let mut model = backend.load(&iris, &options).unwrap();
        assert_eq!(model.device, backend.device());
        answers.push(model.session.execute(std::slice::from_ref(&flower)).unwrap());
    }
    assert_eq!(answers[0], answers[1]);

    let device = backends[0].device();
    let Some(reason) = device.fallback_reason else {
        assert_eq!(device.provider, "CUDAExecutionProvider");
        assert_eq!(start(Device::Cuda(0)).unwrap().device(), device);
        let mut on_cpu = start(Device::Cpu).unwrap().load(&iris, &options).unwrap().session;
        let expected = on_cpu.execute(std::slice::from_ref(&flower)).unwrap();
        for (got, want) in answers[0].iter().zip(&expected).filter_map(both_f32).flatten() {
            assert!((got - want).abs() <= 1e-3, "{got} on the GPU, {want} on the CPU");
        }
        assert_eq!(log.lines(), [""; 0]);
        return;
    };
    assert_eq!(device.provider, "CPUExecutionProvider");
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains(&reason), "{lines:#?}");

    let Err(StartError::Device { device, reason: loud }) = start(Device::Cuda(0)) else {
        panic!("CUDA was refused to `auto` and granted on demand");
    };
    assert_eq!((device, &loud), (Device::Cuda(0), &reason));
    let message = start(Device::Cuda(0)).unwrap_err().to_string();
    assert_eq!(message, format!("cannot run models on cuda:0: {reason}"));

    assert_eq!(start(Device::Cpu).unwrap().device().fallback_reason, None);
    assert_eq!(log.lines().len(), 1, "the loud failure is the caller's to report");
}

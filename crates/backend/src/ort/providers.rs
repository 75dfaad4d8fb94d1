//! Which device runs models, and what happens where the wished-for one is missing.
//!
//! A library built for CUDA says that CUDA is available on machines that have neither driver nor
//! device, and by itself falls back to the CPU without a word. So the device is tried: a model
//! of one addition runs on it, once per process, and either works or gives the loader's reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use inferring_types::{DeviceStatus, Tensor};
use parking_lot::Mutex;

use super::environment::Runtime;
use super::opening::{self, Opened, Source, Target};
use super::session::OrtSession;
use super::signature::Signature;
use crate::{Device, LoadError, LoadOptions, Session as _};

/// Where the models of one backend go.
#[derive(Debug, Clone)]
pub(super) enum Placement {
    /// To the CPU, with the reason if something else was wished for.
    Cpu { fallback_reason: Option<String> },
    /// To a CUDA device; a model that fails there goes to the CPU unless it is `required`.
    Cuda { number: u32, required: bool },
}

impl Placement {
    /// Decides where models go, by trying.
    ///
    /// # Errors
    /// The loader's reason, where a device was demanded that does not work.
    pub(super) fn decide(device: Device, runtime: &Runtime) -> Result<Self, String> {
        let (number, required) = match device {
            Device::Cpu => return Ok(Self::Cpu { fallback_reason: None }),
            Device::Auto => (0, false),
            Device::Cuda(number) => (number, true),
        };
        match runtime.probes.cuda(runtime, number) {
            Ok(()) => Ok(Self::Cuda { number, required }),
            Err(reason) if required => Err(reason),
            Err(reason) => {
                runtime.probes.report_fallback_once(&reason);
                Ok(Self::Cpu { fallback_reason: Some(reason) })
            }
        }
    }

    /// Where models go, for a status page.
    pub(super) fn status(&self) -> DeviceStatus {
        match self {
            Self::Cpu { fallback_reason } => on_cpu(fallback_reason.clone()),
            Self::Cuda { .. } => on_cuda(),
        }
    }

    /// Loads a model where it belongs.
    ///
    /// # Errors
    /// `Refused` where the model is at fault, `Device` where the device is.
    pub(super) fn open(
        &self,
        runtime: &Runtime,
        path: &Path,
        options: &LoadOptions,
    ) -> Result<(Opened, DeviceStatus), LoadError> {
        let open = |target| opening::open(runtime, Source::File(path), target, options);
        let open_on_cpu =
            || open(Target::Cpu).map_err(|reason| LoadError::Refused { path: path.into(), reason });
        let (number, required) = match self {
            Self::Cpu { fallback_reason } => {
                return Ok((open_on_cpu()?, on_cpu(fallback_reason.clone())));
            }
            Self::Cuda { number, required } => (*number, *required),
        };
        let reason = match open(Target::Cuda(number)) {
            Ok(opened) => return Ok((opened, on_cuda())),
            Err(reason) => reason,
        };
        // A model that loads on the CPU is in order, and the device is at fault: out of memory,
        // say. The engine's error codes do not tell the two apart.
        let opened = open_on_cpu()?;
        let device = Device::Cuda(number).to_string();
        if required {
            return Err(LoadError::Device { path: path.into(), device, reason });
        }
        tracing::warn!(model = %path.display(), device, reason, "model runs on the CPU instead");
        Ok((opened, on_cpu(Some(reason))))
    }
}

fn on_cpu(fallback_reason: Option<String>) -> DeviceStatus {
    DeviceStatus { provider: "CPUExecutionProvider".to_owned(), fallback_reason }
}

fn on_cuda() -> DeviceStatus {
    DeviceStatus { provider: "CUDAExecutionProvider".to_owned(), fallback_reason: None }
}

/// What was learnt about devices, once per process.
#[derive(Debug, Default)]
pub(super) struct Probes {
    cuda: Mutex<BTreeMap<u32, Result<(), String>>>,
    fallback_reported: AtomicBool,
}

impl Probes {
    /// Whether the CUDA device of that number runs a model; tried the first time it is asked.
    fn cuda(&self, runtime: &Runtime, number: u32) -> Result<(), String> {
        let mut known = self.cuda.lock();
        known.entry(number).or_insert_with(|| probe(runtime, Target::Cuda(number))).clone()
    }

    fn report_fallback_once(&self, reason: &str) {
        if !self.fallback_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(reason, "CUDA cannot be used: models run on the CPU");
        }
    }
}

/// A model of one addition, `y = x + x` over one FP32 number (opset 13).
const ADDITION: &[u8] = b"\x08\x08\x3a\x39\
    \x0a\x0e\x0a\x01x\x0a\x01x\x12\x01y\x22\x03Add\
    \x12\x05probe\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x02\x10\x0d";

/// Runs one addition on `target`.
///
/// # Errors
/// The loader's or the engine's reason why that does not work.
fn probe(runtime: &Runtime, target: Target) -> Result<(), String> {
    let options = LoadOptions::default();
    let opened = opening::open(runtime, Source::Bytes(ADDITION), target, &options)?;
    let signature = Signature::of(&opened.engine)?;
    let one = Tensor::from_f32([1].into(), &[1.0]).expect("one number in a shape of one");
    let outputs = OrtSession::new(opened, signature)
        .execute(std::slice::from_ref(&one))
        .map_err(|error| error.to_string())?;
    match outputs.first().and_then(Tensor::to_f32).as_deref() {
        Some([2.0]) => Ok(()),
        other => Err(format!("one and one made {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ort::{OrtBackend, OrtConfig};

    #[test]
    fn the_probe_adds_where_there_is_a_device_and_fails_where_there_is_none() {
        let config = OrtConfig { device: Device::Cpu, ..OrtConfig::default() };
        let backend = OrtBackend::start(config).unwrap();
        probe(&backend.runtime, Target::Cpu).unwrap();
        // No machine has so many.
        let reason = probe(&backend.runtime, Target::Cuda(1_000_000)).unwrap_err();
        assert!(reason.to_uppercase().contains("CUDA"), "{reason}");
    }
}

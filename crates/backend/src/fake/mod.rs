//! An engine for tests: it computes something simple and does as it is told.
//!
//! It answers as a model would, counts what it loaded and ran, and can be held at the door,
//! slowed down and made to fail, so that a test waits for events and never for time to pass.
//!
//! ```
//! use inferring_backend::{Backend, LoadOptions, fake::FakeBackend};
//! use inferring_types::Tensor;
//!
//! let backend = FakeBackend::new();
//! let mut model = backend.load("any.onnx".as_ref(), &LoadOptions::default())?;
//! let input = Tensor::from_f32([1, 4].into(), &[1.0, 2.0, 3.0, 4.0])?;
//! let outputs = model.session.execute(&[input])?;
//! assert_eq!(outputs[0].to_f32().unwrap(), [12.0, 14.0, 16.0, 18.0]);
//! assert_eq!(backend.control().runs(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod control;
mod model;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use inferring_types::{
    BackendStatus, ContentDigest, DeviceStatus, Dimension, ShapeSpec, Tensor, TensorSpec,
};

pub use self::control::FakeControl;

use self::control::Fate;
use self::model::{Influence, Model};
use crate::{
    Backend, Device, ExecuteError, Interrupted, LoadError, LoadOptions, LoadedModel, Run, Session,
};

/// An engine whose every model is the same small function.
///
/// By default it is one of an FP32 tensor `input`, `[N,4]`: for a row `x` the answer `output` is
/// `y[j] = 2 x[j] + sum(x)`, in the shape of the input. The first dimension counts rows; a row is
/// everything behind it.
#[derive(Debug, Clone)]
pub struct FakeBackend {
    model: Model,
    files: Files,
    control: Arc<FakeControl>,
}

/// What a path is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// A name. There need not be a file.
    Named,
    /// A file that holds a number.
    Read,
}

impl FakeBackend {
    /// A model of `[N,4]` to `[N,4]` whose rows do not influence each other.
    pub fn new() -> Self {
        let symbol = Dimension::Dynamic(Some("N".to_owned()));
        let shape = ShapeSpec::new([symbol, Dimension::Fixed(4)]);
        Self::of(Model::sums(shape, Influence::Independent))
    }

    /// The same with this shape, for input and output.
    #[must_use]
    pub fn with_shape(self, dimensions: impl IntoIterator<Item = Dimension>) -> Self {
        let influence = self.model.influence;
        Self { model: Model::sums(ShapeSpec::new(dimensions), influence), ..self }
    }

    /// The same, but the sum is taken over all rows: joining requests changes their answers.
    #[must_use]
    pub fn with_rows_that_mix(self) -> Self {
        let shape = self.model.inputs[0].shape.clone();
        Self { model: Model::sums(shape, Influence::Mixed), ..self }
    }

    /// A model that hands its state to its next run, as one of speech does: `input` FP32 `[N,4]`,
    /// `state` FP32 `[2,N,3]` with its rows on the **second** axis, and `scale`, an INT64 scalar
    /// that all rows share; `output` FP32 `[N,4]` and `next_state` FP32 `[2,N,3]`.
    ///
    /// For a row `x` with its state `s`: `output[j] = scale (2 x[j] + sum(x) + sum(s))` and
    /// `next_state[k][j] = s[k][j] + sum(x)`.
    pub fn recurrent() -> Self {
        Self::of(Model::recurrent())
    }

    /// A model without inputs; its `output`, FP32 `[4]`, is 1, 2, 3, 4.
    pub fn constant() -> Self {
        Self::of(Model::constant())
    }

    /// A model of these inputs and outputs that computes `function`. What it is given fits the
    /// inputs; what it gives is not checked.
    pub fn computing(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        function: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, ExecuteError> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Model::new(inputs, outputs, Arc::new(function)))
    }

    /// The same, but loading reads the file: its text is a number, which is added to every FP32
    /// answer. Other content is refused, as a damaged model is; the digest is the content's. So
    /// an answer tells which version of a model gave it, and whether that was loaded anew.
    #[must_use]
    pub fn reading_files(self) -> Self {
        Self { files: Files::Read, ..self }
    }

    /// The handle that counts and controls loads and runs of this backend and its clones.
    pub fn control(&self) -> Arc<FakeControl> {
        Arc::clone(&self.control)
    }

    fn of(model: Model) -> Self {
        Self { model, files: Files::Named, control: Arc::default() }
    }
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for FakeBackend {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            name: "fake".to_owned(),
            version: "1".to_owned(),
            library: None,
            found_by: None,
        }
    }

    /// Loads without a file, unless told to read it: equal paths give models of equal digest,
    /// others of another. There is no GPU.
    fn load(&self, path: &Path, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
        let refused = |reason: String| LoadError::Refused { path: path.to_owned(), reason };
        self.control.begin_load(path, options).map_err(refused)?;
        if let Some(Device::Cuda(_)) = options.device {
            return Err(LoadError::Device {
                path: path.to_owned(),
                device: options.device.unwrap_or_default().to_string(),
                reason: "the fake engine has no GPU".to_owned(),
            });
        }
        let (content, offset) = match self.files {
            Files::Named => (path.as_os_str().as_encoded_bytes().to_owned(), 0.0),
            Files::Read => {
                let read = |source| LoadError::Read { path: path.to_owned(), source };
                let content = std::fs::read(path).map_err(read)?;
                let number =
                    str::from_utf8(&content).ok().and_then(|text| text.trim().parse().ok());
                let offset =
                    number.ok_or_else(|| refused("the file holds no number".to_owned()))?;
                (content, offset)
            }
        };
        Ok(LoadedModel {
            inputs: self.model.inputs.clone(),
            outputs: self.model.outputs.clone(),
            digest: ContentDigest::of(&content),
            size_bytes: content.len() as u64,
            device: DeviceStatus {
                provider: "CPUExecutionProvider".to_owned(),
                fallback_reason: None,
            },
            deterministic: true,
            notes: Vec::new(),
            session: Box::new(FakeSession::new(self.model.clone(), offset, self.control())),
        })
    }

    fn trim(&self) {
        self.control.count_trim();
    }
}

struct FakeSession {
    model: Model,
    /// What the file adds to every answer.
    offset: f32,
    control: Arc<FakeControl>,
}

impl FakeSession {
    fn new(model: Model, offset: f32, control: Arc<FakeControl>) -> Self {
        control.count_session();
        Self { model, offset, control }
    }
}

impl Session for FakeSession {
    fn run(&mut self, inputs: &[Tensor], run: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        crate::check_inputs(&self.model.inputs, inputs)?;
        let first = inputs.first().and_then(|input| input.shape().dimensions().first());
        let (fate, _running) = self.control.begin_run(first.copied().unwrap_or(1), run)?;
        match fate {
            Fate::Interrupted => Err(Interrupted.into()),
            Fate::Panic => panic!("the fake session was told to panic"),
            Fate::Fail => Err(ExecuteError("told to fail".to_owned())),
            Fate::Answer { poison: Some(poison) } if holds(inputs, poison) => {
                Err(ExecuteError(format!("a row holds the poison value {poison}")))
            }
            Fate::Answer { .. } => {
                let outputs = (self.model.function)(inputs)?;
                Ok(outputs.into_iter().map(|output| plus(output, self.offset)).collect())
            }
        }
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        let share = || Self::new(self.model.clone(), self.offset, Arc::clone(&self.control));
        self.control.count_share().then(|| Box::new(share()) as Box<dyn Session>)
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.control.count_session_out();
    }
}

fn holds(inputs: &[Tensor], value: f32) -> bool {
    inputs.iter().filter_map(Tensor::to_f32).flatten().any(|x| x == value)
}

fn plus(tensor: Tensor, offset: f32) -> Tensor {
    match tensor.to_f32() {
        Some(values) if offset != 0.0 => {
            let values = values.iter().map(|value| value + offset).collect::<Vec<_>>();
            Tensor::from_f32(tensor.shape().clone(), &values).expect("as many values as before")
        }
        _ => tensor,
    }
}

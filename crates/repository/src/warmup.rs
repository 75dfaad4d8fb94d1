//! Turns the samples of a configuration into requests for the model as it is.

use bytes::Bytes;
use fastrand::Rng;
use inferring_types::{DataType, Dimension, NamedTensor, Shape, Tensor, TensorError, TensorSpec};

use crate::contained::Root;
use crate::error::PlanError;
use crate::plan::ModelPlan;
use crate::settings::{BatchAxis, ElementValue, WarmupData, WarmupInput, WarmupSample};

/// The most bytes that the samples of one model may take together.
const BYTES_MAX: u64 = 1 << 30;

/// A request that is to be run before the model is served.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupRequest {
    /// What to call it in the log.
    pub name: String,
    /// How many times it is to be run; at least once.
    pub count: u32,
    /// One tensor for each input, in declared order.
    pub inputs: Vec<NamedTensor>,
}

/// Why a sample does not fit the model.
#[derive(Debug, thiserror::Error)]
pub enum WarmupError {
    /// The sample names an input that the model does not have.
    #[error("warm-up sample `{sample}`: the model has no input `{input}`")]
    UnknownInput {
        /// The sample.
        sample: String,
        /// The input.
        input: String,
    },
    /// An input's elements are not what the model takes, or not those that were announced.
    #[error("warm-up sample `{sample}`, input `{input}`: {problem}")]
    Data {
        /// The sample.
        sample: String,
        /// The input.
        input: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of data cannot be read.
    #[error("warm-up sample `{sample}`, input `{input}`: no data")]
    File {
        /// The sample.
        sample: String,
        /// The input.
        input: String,
        /// Why.
        #[source]
        source: Box<PlanError>,
    },
}

impl ModelPlan {
    /// The requests with which a model of these inputs is to be warmed up. Data files are read
    /// here.
    ///
    /// Random elements are the same each time: floats from 0 to 1, bytes of any value, and other
    /// whole numbers 0 or 1, for they are often indices.
    ///
    /// # Errors
    /// [`WarmupError`] where a sample does not fit the inputs or its data cannot be read.
    pub fn warmup(&self, inputs: &[TensorSpec]) -> Result<Vec<WarmupRequest>, WarmupError> {
        let mut left = BYTES_MAX;
        let samples = self.settings.warmup.iter().enumerate().map(|(index, sample)| {
            let name = match sample.name.as_str() {
                "" => format!("number {}", index + 1),
                name => name.to_owned(),
            };
            self.request(name, sample, inputs, &mut left)
        });
        samples.collect()
    }

    fn request(
        &self,
        name: String,
        sample: &WarmupSample,
        inputs: &[TensorSpec],
        left: &mut u64,
    ) -> Result<WarmupRequest, WarmupError> {
        let strange = |name: &&String| inputs.iter().all(|spec| spec.name.as_str() != *name);
        if let Some(input) = sample.inputs.keys().find(strange) {
            return Err(WarmupError::UnknownInput { sample: name, input: input.clone() });
        }
        let mut tensors = Vec::new();
        for spec in inputs {
            let tensor = self.tensor(sample, spec, left).map_err(|wrong| {
                let (sample, input) = (name.clone(), spec.name.to_string());
                match wrong {
                    Wrong::Data(problem) => WarmupError::Data { sample, input, problem },
                    Wrong::File(source) => {
                        WarmupError::File { sample, input, source: Box::new(source) }
                    }
                }
            })?;
            tensors.push(NamedTensor::new(spec.name.clone(), tensor));
        }
        let count = sample.count.map_or(1, u32::from);
        Ok(WarmupRequest { name, count, inputs: tensors })
    }

    /// `left` is how many bytes it may take; it is taken from that.
    fn tensor(
        &self,
        sample: &WarmupSample,
        spec: &TensorSpec,
        left: &mut u64,
    ) -> Result<Tensor, Wrong> {
        let absent = WarmupInput::default();
        let input = sample.inputs.get(spec.name.as_str()).unwrap_or(&absent);
        if let Some(datatype) = input.datatype.filter(|datatype| *datatype != spec.datatype) {
            return Err(Wrong::Data(format!("{datatype}, and the model takes {}", spec.datatype)));
        }
        let axis = match self.settings.inputs.get(spec.name.as_str()).and_then(|s| s.batch_axis) {
            None => Some(0),
            Some(BatchAxis::At(axis)) => Some(axis),
            Some(BatchAxis::None) => None,
        };
        let rows = sample.batch_size.map(u64::from).zip(axis);
        let layout = Layout::of(input, spec, rows)?;
        let size = spec.datatype.element_size().unwrap_or(4) as u64;
        let bytes = layout.elements().and_then(|elements| elements.checked_mul(size));
        *left = bytes
            .and_then(|bytes| left.checked_sub(bytes))
            .ok_or_else(|| Wrong::Data(format!("the {} elements are too many", layout.whole())))?;
        let data = self.data(input, spec.datatype, &layout)?;
        Ok(Tensor::new(spec.datatype, layout.whole(), Bytes::from(data))?)
    }

    fn data(
        &self,
        input: &WarmupInput,
        datatype: DataType,
        layout: &Layout,
    ) -> Result<Vec<u8>, Wrong> {
        let elements = layout.elements().unwrap_or(0) as usize;
        let size = datatype.element_size().unwrap_or(4);
        let row = match &input.data {
            WarmupData::Zero => return Ok(vec![0; elements * size]),
            WarmupData::Random => {
                // The seed is fixed: a warm-up that fails once fails always.
                let mut random = Rng::with_seed(0);
                let mut data = Vec::with_capacity(elements * size);
                (0..elements).for_each(|_| push_random(&mut data, datatype, &mut random));
                return Ok(data);
            }
            WarmupData::Values(values) => {
                let mut data = Vec::new();
                for value in values {
                    value.encode(datatype, &mut data).ok_or_else(|| {
                        Wrong::Data(format!("{value:?} is no element of {datatype}"))
                    })?;
                }
                data
            }
            WarmupData::File(file) => {
                let folder = &self.folder;
                let failed = |source| Wrong::File(PlanError::Read { path: folder.clone(), source });
                let root = Root::at(folder).map_err(failed)?;
                root.read(&folder.join(file), BYTES_MAX).map_err(Wrong::File)?
            }
        };
        let row = Tensor::new(datatype, layout.row(), Bytes::from(row))?;
        Ok(layout.repeat(&row))
    }
}

enum Wrong {
    Data(String),
    File(PlanError),
}

impl From<TensorError> for Wrong {
    fn from(error: TensorError) -> Self {
        Self::Data(error.to_string())
    }
}

/// The shape of a tensor: what comes before the rows' axis, how many rows, what comes after.
struct Layout {
    outer: Vec<u64>,
    /// `None` where the shape has no axis of rows, or it is not told apart.
    rows: Option<u64>,
    inner: Vec<u64>,
}

impl Layout {
    /// `rows` is their number and the axis along which they lie.
    fn of(
        input: &WarmupInput,
        spec: &TensorSpec,
        rows: Option<(u64, usize)>,
    ) -> Result<Self, Wrong> {
        let mut row: Vec<u64> = match &input.shape {
            Some(shape) => shape.clone(),
            None => {
                let open = |d: &Dimension| d.fixed().unwrap_or(1);
                spec.shape.dimensions().iter().map(open).collect()
            }
        };
        let Some((rows, axis)) = rows else {
            return Ok(Self { outer: Vec::new(), rows: None, inner: row });
        };
        // A shape taken from the model has the axis of rows, one that was given leaves it out.
        if input.shape.is_none() {
            if axis >= row.len() {
                return Ok(Self { outer: Vec::new(), rows: None, inner: row });
            }
            row.remove(axis);
        }
        if axis > row.len() {
            return Err(Wrong::Data(format!("there is no axis {axis} for {rows} rows")));
        }
        let inner = row.split_off(axis);
        Ok(Self { outer: row, rows: Some(rows), inner })
    }

    fn whole(&self) -> Shape {
        Shape::new(self.outer.iter().copied().chain(self.rows).chain(self.inner.iter().copied()))
    }

    /// The shape of one row, without the axis along which rows lie.
    fn row(&self) -> Shape {
        Shape::new(self.outer.iter().chain(&self.inner).copied())
    }

    fn elements(&self) -> Option<u64> {
        self.whole().elements()
    }

    /// The bytes of the whole tensor, of which every row is the same.
    fn repeat(&self, row: &Tensor) -> Vec<u8> {
        let Some(rows) = self.rows else { return row.data().to_vec() };
        let elements = elements_of(row);
        let inner = Shape::new(self.inner.iter().copied()).elements().unwrap_or(0) as usize;
        let mut data = Vec::new();
        // Without elements there is nothing to repeat, and no chunk of none.
        for part in elements.chunks(inner.max(1)) {
            for _ in 0..rows {
                part.iter().for_each(|element| data.extend_from_slice(element));
            }
        }
        data
    }
}

/// The bytes of each element; of BYTES with the length before it.
fn elements_of(tensor: &Tensor) -> Vec<&[u8]> {
    let mut rest = &tensor.data()[..];
    if let Some(size) = tensor.datatype().element_size() {
        return rest.chunks(size).collect();
    }
    let mut elements = Vec::new();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (element, tail) = rest.split_at(4 + u32::from_le_bytes(*length) as usize);
        elements.push(element);
        rest = tail;
    }
    elements
}

fn push_random(data: &mut Vec<u8>, datatype: DataType, random: &mut Rng) {
    let value = match datatype {
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
            ElementValue::Float(random.f64())
        }
        DataType::Uint8 => ElementValue::Integer(random.u8(..).into()),
        DataType::Int8 => ElementValue::Integer(random.i8(..).into()),
        DataType::Bool => ElementValue::Bool(random.bool()),
        DataType::Bytes => ElementValue::Text(random.alphanumeric().to_string()),
        _ => ElementValue::Integer(random.i64(0..2)),
    };
    value.encode(datatype, data).expect("the value was made for the datatype");
}

#[cfg(test)]
mod tests;

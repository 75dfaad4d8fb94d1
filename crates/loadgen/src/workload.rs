//! The inputs that are sent: generated to fit the model, different from each other, and encoded
//! before the first request goes out.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use inferring_types::{
    DataType, Dimension, ModelMetadata, ModelName, Shape, ShapeSpec, TensorSpec,
};

/// What inputs are wanted.
#[derive(Debug, Clone, Default)]
pub struct WorkloadConfig {
    /// How many different inputs take turns. Where none is given, as many as there are requests,
    /// as far as the datatype and [`Workload::BYTES_MAX`] allow: no answer then comes from a
    /// cache by chance.
    pub distinct: Option<u64>,
    /// The inputs' shape; by default one row, and [`Workload::DYNAMIC_SIZE`] for every other
    /// dimension that the model leaves open.
    pub shape: Option<Shape>,
    /// Equal seeds make equal inputs.
    pub seed: u64,
}

/// Request bodies in the plain form, `{"input_data":[..]}`.
#[derive(Debug, Clone)]
pub struct Workload {
    model: ModelName,
    datatype: DataType,
    shape: Shape,
    measured: Arc<[Bytes]>,
    warm_up: Arc<[Bytes]>,
}

/// Why no inputs can be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The plain form cannot ask this model.
    #[error("model `{model}` has {inputs} inputs: load can be made for models with one")]
    NotOneInput {
        /// The model.
        model: ModelName,
        /// Its inputs.
        inputs: usize,
    },
    /// Its input is no tensor of numbers.
    #[error("model `{model}` takes {datatype}: load can be made for numeric inputs")]
    NotNumeric {
        /// The model.
        model: ModelName,
        /// Its input's datatype.
        datatype: DataType,
    },
    /// The shape asked for is not the model's.
    #[error("shape {given} does not fit model `{model}`, which takes {expected}")]
    Shape {
        /// The model.
        model: ModelName,
        /// The shape asked for.
        given: Shape,
        /// The model's.
        expected: ShapeSpec,
    },
    /// There are not so many different inputs.
    #[error(
        "{datatype} of shape {shape} gives only {available} different inputs: {wanted} were wanted"
    )]
    TooFew {
        /// The input's datatype.
        datatype: DataType,
        /// The input's shape.
        shape: Shape,
        /// How many there are.
        available: u64,
        /// How many were asked for.
        wanted: u64,
    },
    /// They would take too much memory.
    #[error(
        "{wanted} inputs of {body_bytes} bytes exceed the {max} MiB that encoded inputs may take: \
         ask for fewer different inputs",
        max = Workload::BYTES_MAX >> 20
    )]
    TooLarge {
        /// How many were asked for.
        wanted: u64,
        /// Bytes of one, encoded.
        body_bytes: u64,
    },
}

impl Workload {
    /// The size of dimensions that the model leaves open, beside the first. Networks that halve
    /// an image five times need a multiple of 32.
    pub const DYNAMIC_SIZE: u64 = 32;

    /// Bytes that the encoded inputs may take.
    pub const BYTES_MAX: u64 = 1 << 29;

    /// How many inputs are made by default where the number of requests is not known.
    const DISTINCT_DEFAULT: u64 = 100_000;

    /// Inputs for `requests` requests to `model`, and `warm_up` others for before.
    ///
    /// # Errors
    /// [`WorkloadError`] where the model takes no such input, or not so many.
    pub fn new(
        model: &ModelMetadata,
        config: &WorkloadConfig,
        requests: Option<u64>,
        warm_up: u64,
    ) -> Result<Self, WorkloadError> {
        let spec = the_one_input(model)?;
        let shape = match &config.shape {
            Some(given) if spec.shape.admits(given) => given.clone(),
            Some(given) => {
                let (model, given) = (model.name.clone(), given.clone());
                return Err(WorkloadError::Shape { model, given, expected: spec.shape.clone() });
            }
            None => one_row(&spec.shape),
        };
        let mut generator = Generator::new(spec, shape.clone(), config.seed);
        let body_bytes = generator.body().len() as u64;
        let available = generator.available();
        let affordable = (Self::BYTES_MAX / body_bytes).min(available);
        let distinct = match config.distinct {
            Some(wanted) if wanted > available => {
                let datatype = spec.datatype;
                return Err(WorkloadError::TooFew { datatype, shape, available, wanted });
            }
            Some(wanted) if wanted > affordable => {
                return Err(WorkloadError::TooLarge { wanted, body_bytes });
            }
            Some(wanted) => wanted,
            None => requests.unwrap_or(Self::DISTINCT_DEFAULT).min(affordable),
        };
        let measured = generator.take(distinct.max(1));
        // Inputs of its own, so that what is measured was not warmed into a cache; where the
        // datatype has no more, those that are measured must serve.
        let spare = affordable.saturating_sub(distinct).min(warm_up);
        let warm_up =
            if warm_up > 0 && spare == 0 { Arc::clone(&measured) } else { generator.take(spare) };
        Ok(Self { model: model.name.clone(), datatype: spec.datatype, shape, measured, warm_up })
    }

    /// The model they are for.
    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// The datatype of the model's input.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// The shape of every input.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bodies that are measured, all different.
    pub fn measured(&self) -> &Arc<[Bytes]> {
        &self.measured
    }

    /// The bodies for before the measurement.
    pub fn warm_up(&self) -> &Arc<[Bytes]> {
        &self.warm_up
    }

    /// Mean length of a measured body.
    pub fn mean_body_bytes(&self) -> u64 {
        let total: usize = self.measured.iter().map(Bytes::len).sum();
        (total / self.measured.len()) as u64
    }
}

fn the_one_input(model: &ModelMetadata) -> Result<&TensorSpec, WorkloadError> {
    let [input] = &model.inputs[..] else {
        return Err(WorkloadError::NotOneInput {
            model: model.name.clone(),
            inputs: model.inputs.len(),
        });
    };
    if !input.datatype.is_numeric() {
        let (model, datatype) = (model.name.clone(), input.datatype);
        return Err(WorkloadError::NotNumeric { model, datatype });
    }
    Ok(input)
}

fn one_row(spec: &ShapeSpec) -> Shape {
    let size = |(index, dimension): (usize, &Dimension)| match dimension.fixed() {
        Some(size) => size,
        None if index == 0 => 1,
        None => Workload::DYNAMIC_SIZE,
    };
    Shape::new(spec.dimensions().iter().enumerate().map(size))
}

/// Makes bodies, each other than all before.
struct Generator {
    rng: Rng,
    /// Numbers are drawn from this many.
    values: u32,
    /// What a drawn number is divided by; `None` for integers.
    divisor: Option<f32>,
    elements: u64,
    /// The shape, where a flat array alone would be read as another.
    stated_shape: Option<Shape>,
    made: HashSet<Bytes>,
}

impl Generator {
    fn new(spec: &TensorSpec, shape: Shape, seed: u64) -> Self {
        // Floats are in [0, 1) with as many binary digits as the datatype holds exactly, so that
        // inputs which differ as text differ as tensors. Integers fit the smallest datatype, and
        // most vocabularies.
        let (values, divisor) = match spec.datatype {
            DataType::Fp32 | DataType::Fp64 => (1 << 24, Some((1 << 24) as f32)),
            DataType::Fp16 => (1 << 11, Some((1 << 11) as f32)),
            DataType::Bf16 => (1 << 8, Some((1 << 8) as f32)),
            _ => (1 << 7, None),
        };
        let elements = shape.elements().unwrap_or(u64::MAX);
        let read_flat = ModelMetadata::shape_of_flat(spec, elements);
        Self {
            rng: Rng::with_seed(seed),
            values,
            divisor,
            elements,
            stated_shape: (read_flat.as_ref() != Some(&shape)).then_some(shape),
            made: HashSet::new(),
        }
    }

    /// How many different inputs there are.
    fn available(&self) -> u64 {
        let exponent = u32::try_from(self.elements).unwrap_or(u32::MAX);
        u64::from(self.values).saturating_pow(exponent)
    }

    /// The next `count` bodies; there must be as many.
    fn take(&mut self, count: u64) -> Arc<[Bytes]> {
        let mut bodies = Vec::new();
        while (bodies.len() as u64) < count {
            let body = self.body();
            if self.made.insert(body.clone()) {
                bodies.push(body);
            }
        }
        bodies.into()
    }

    fn body(&mut self) -> Bytes {
        let mut body = b"{\"input_data\":[".to_vec();
        for index in 0..self.elements {
            if index > 0 {
                body.push(b',');
            }
            let drawn = self.rng.u32(..self.values);
            match self.divisor {
                Some(divisor) => {
                    let number = drawn as f32 / divisor;
                    let mut text = ryu::Buffer::new();
                    body.extend_from_slice(text.format_finite(number).as_bytes());
                }
                None => write!(body, "{drawn}").expect("writing to memory does not fail"),
            }
        }
        body.push(b']');
        if let Some(shape) = &self.stated_shape {
            write!(body, ",\"shape\":{shape}").expect("writing to memory does not fail");
        }
        body.push(b'}');
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use inferring_protocol::rest::plain;
    use inferring_types::{Batching, ContentDigest, ModelVersion, RowAxes};

    use super::*;

    const ANY: Option<u64> = None;

    fn model(datatype: DataType, shape: &[Option<u64>]) -> ModelMetadata {
        let dimensions =
            shape.iter().map(|size| size.map_or(Dimension::Dynamic(None), Dimension::Fixed));
        let spec = TensorSpec { name: "x".into(), datatype, shape: ShapeSpec::new(dimensions) };
        ModelMetadata {
            name: "m".parse().unwrap(),
            version: ModelVersion::first(),
            aliases: Vec::new(),
            digest: ContentDigest::of(b"m"),
            size_bytes: 1,
            inputs: vec![spec.clone()],
            outputs: vec![spec],
            batching: Batching::Rows { reason: "declared".into(), axes: RowAxes::first(1, 1) },
            batch_size_max: 32,
        }
    }

    fn config(distinct: u64) -> WorkloadConfig {
        WorkloadConfig { distinct: Some(distinct), ..WorkloadConfig::default() }
    }

    #[test]
    fn a_server_reads_every_body_with_the_intended_shape_and_no_two_alike() {
        for (datatype, declared, expected) in [
            (DataType::Fp32, vec![None, Some(4)], [1, 4].into()),
            (DataType::Int32, vec![None, Some(2048)], [1, 2048].into()),
            (DataType::Fp32, vec![None, Some(3), None, None], [1, 3, 32, 32].into()),
            (DataType::Int64, vec![None, None], [1, 32].into()),
            (DataType::Uint8, vec![Some(2), Some(3)], [2, 3].into()),
            (DataType::Int8, vec![None], [1].into()),
            (DataType::Fp16, vec![], Shape::default()),
            (DataType::Bf16, vec![Some(1), Some(2)], [1, 2].into()),
            (DataType::Fp64, vec![Some(1), None, None], [1, 32, 32].into()),
        ] {
            let model = model(datatype, &declared);
            let workload = Workload::new(&model, &config(100), ANY, 5).unwrap();
            assert_eq!((workload.shape(), workload.measured().len()), (&expected, 100));
            let mut seen = HashSet::new();
            for body in workload.measured().iter().chain(&workload.warm_up()[..]) {
                let input = plain::decode_request(body, &model).unwrap().input;
                assert_eq!(input.tensor.shape(), &expected, "{datatype} {declared:?}");
                assert!(seen.insert(input.tensor.data().clone()), "{datatype}: two are equal");
            }
            assert_eq!(seen.len(), 105);
        }
    }

    #[test]
    fn equal_seeds_make_equal_inputs_and_others_make_others() {
        let model = model(DataType::Fp32, &[None, Some(4)]);
        let bodies = |seed| {
            let config = WorkloadConfig { seed, ..config(10) };
            Workload::new(&model, &config, ANY, 0).unwrap().measured().to_vec()
        };
        assert_eq!(bodies(7), bodies(7));
        assert!(bodies(7).iter().all(|body| !bodies(8).contains(body)));
    }

    #[test]
    fn by_default_every_request_has_its_own_input_as_far_as_there_are_any() {
        for (shape, requests, made) in [
            ([None, Some(4)], Some(500), 500),
            ([None, Some(4)], None, 100_000),
            ([None, Some(1)], Some(500), 128),
        ] {
            let model = model(DataType::Int8, &shape);
            let workload = Workload::new(&model, &WorkloadConfig::default(), requests, 10).unwrap();
            assert_eq!(workload.measured().len(), made);
            assert!(!workload.warm_up().is_empty());
        }
    }

    #[test]
    fn a_shape_may_be_asked_for() {
        let model = model(DataType::Fp32, &[None, Some(3), None]);
        let ask = |shape: Shape| {
            let config = WorkloadConfig { shape: Some(shape), ..config(1) };
            Workload::new(&model, &config, ANY, 0)
        };
        let workload = ask([2, 3, 5].into()).unwrap();
        let input = plain::decode_request(&workload.measured()[0], &model).unwrap().input;
        assert_eq!(input.tensor.shape(), &Shape::from([2, 3, 5]));
        assert_eq!(
            ask([2, 4, 5].into()).unwrap_err().to_string(),
            "shape [2,4,5] does not fit model `m`, which takes [?,3,?]",
        );
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_the_reason() {
        let mut two_inputs = model(DataType::Fp32, &[]);
        two_inputs.inputs.push(two_inputs.inputs[0].clone());
        for (model, distinct, message) in [
            (model(DataType::Bytes, &[None]), 1, "takes BYTES: load can be made for numeric"),
            (two_inputs, 1, "model `m` has 2 inputs"),
            (model(DataType::Int8, &[Some(1)]), 129, "gives only 128 different inputs: 129 were"),
            (model(DataType::Fp32, &[Some(1 << 20)]), 1000, "exceed the 512 MiB"),
        ] {
            let error = Workload::new(&model, &config(distinct), ANY, 0).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

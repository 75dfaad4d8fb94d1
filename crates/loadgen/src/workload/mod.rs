//! The inputs that are sent: generated to fit the model, different from each other, and encoded
//! before the first request goes out.

mod body;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use inferring_types::{
    DataType, ModelMetadata, ModelName, Shape, ShapeSpec, TensorName, TensorSpec,
};

pub use body::Form;
use values::Values;

/// What inputs are wanted.
#[derive(Debug, Clone, Default)]
pub struct WorkloadConfig {
    /// How many different inputs take turns. Where none is given, as many as there are requests,
    /// as far as the datatype and [`Workload::BYTES_MAX`] allow: no answer then comes from a
    /// cache by chance.
    pub distinct: Option<u64>,
    /// The shape of the one input; by default one row, and [`Workload::DYNAMIC_SIZE`] for every
    /// other dimension that the model leaves open.
    pub shape: Option<Shape>,
    /// How requests are written; where absent, in the plain form if it can ask the model.
    pub form: Option<Form>,
    /// Inputs all of whose elements are one number, such as a mask of ones, by name.
    pub constants: BTreeMap<String, f64>,
    /// Equal seeds make equal inputs.
    pub seed: u64,
}

/// Request bodies for one model, all in one form.
#[derive(Debug, Clone)]
pub struct Workload {
    model: ModelName,
    inputs: Vec<WorkloadInput>,
    form: Form,
    json_length: Option<usize>,
    measured: Arc<[Bytes]>,
    warm_up: Arc<[Bytes]>,
}

/// What every request brings for one input of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadInput {
    /// The input.
    pub name: TensorName,
    /// Its element type.
    pub datatype: DataType,
    /// The shape of what is sent.
    pub shape: Shape,
}

/// Why no inputs can be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A form or a shape was asked for that is for models with one input.
    #[error("model `{model}` has {inputs} inputs, and {what} is for models with one")]
    NotOneInput {
        /// The model.
        model: ModelName,
        /// Its inputs.
        inputs: usize,
        /// What was asked for.
        what: &'static str,
    },
    /// An input is no tensor of numbers.
    #[error("model `{model}` takes {datatype}: load can be made for numeric inputs")]
    NotNumeric {
        /// The model.
        model: ModelName,
        /// The input's datatype.
        datatype: DataType,
    },
    /// A constant is meant for an input that there is not.
    #[error("model `{model}` has no input `{name}`: it has {inputs}")]
    NoSuchInput {
        /// The model.
        model: ModelName,
        /// The name.
        name: String,
        /// The model's inputs.
        inputs: String,
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
    #[error("{what} gives only {available} different inputs: {wanted} were wanted")]
    TooFew {
        /// Datatypes and shapes of the inputs.
        what: String,
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
    /// The size of dimensions that the model leaves open and that count no rows. Networks that halve
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
        let inputs = config.inputs(model)?;
        let form = config.form(model)?;
        let mut generator = Generator::new(model, &inputs, form, config);
        let (sample, json_length) = generator.body();
        let body_bytes = sample.len() as u64;
        let available = generator.available();
        let affordable = (Self::BYTES_MAX / body_bytes).min(available);
        let distinct = match config.distinct {
            Some(wanted) if wanted > available => {
                return Err(WorkloadError::TooFew { what: described(&inputs), available, wanted });
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
        Ok(Self { model: model.name.clone(), inputs, form, json_length, measured, warm_up })
    }

    /// The model they are for.
    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// What every request brings, in the model's order.
    pub fn inputs(&self) -> &[WorkloadInput] {
        &self.inputs
    }

    /// How requests are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The length of the JSON head that every body begins with, where raw tensors follow it.
    pub fn json_length(&self) -> Option<usize> {
        self.json_length
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

impl WorkloadConfig {
    fn inputs(&self, model: &ModelMetadata) -> Result<Vec<WorkloadInput>, WorkloadError> {
        if let Some(name) = self.constants.keys().find(|name| model.input(name).is_none()) {
            let names: Vec<_> = model.inputs.iter().map(|i| format!("`{}`", i.name)).collect();
            return Err(WorkloadError::NoSuchInput {
                model: model.name.clone(),
                name: name.clone(),
                inputs: names.join(", "),
            });
        }
        let shape_is_given = self.shape.is_some();
        if shape_is_given && model.inputs.len() != 1 {
            return Err(not_one_input(model, "a shape"));
        }
        let shapes = TensorSpec::shapes_of_one_row(&model.inputs, Workload::DYNAMIC_SIZE);
        let inputs = model.inputs.iter().zip(shapes);
        inputs.map(|(spec, one_row)| self.input(model, spec, one_row)).collect()
    }

    fn input(
        &self,
        model: &ModelMetadata,
        spec: &TensorSpec,
        one_row: Shape,
    ) -> Result<WorkloadInput, WorkloadError> {
        if !spec.datatype.is_numeric() {
            let (model, datatype) = (model.name.clone(), spec.datatype);
            return Err(WorkloadError::NotNumeric { model, datatype });
        }
        let shape = match &self.shape {
            Some(given) if spec.shape.admits(given) => given.clone(),
            Some(given) => {
                let (model, given) = (model.name.clone(), given.clone());
                return Err(WorkloadError::Shape { model, given, expected: spec.shape.clone() });
            }
            None => one_row,
        };
        Ok(WorkloadInput { name: spec.name.clone(), datatype: spec.datatype, shape })
    }

    fn form(&self, model: &ModelMetadata) -> Result<Form, WorkloadError> {
        match (self.form, &model.inputs[..]) {
            (Some(Form::Binary), _) => Ok(Form::Binary),
            (Some(Form::Plain) | None, [_]) => Ok(Form::Plain),
            (None, _) => Ok(Form::Binary),
            (Some(Form::Plain), _) => Err(not_one_input(model, "the plain form")),
        }
    }
}

fn not_one_input(model: &ModelMetadata, what: &'static str) -> WorkloadError {
    let inputs = model.inputs.len();
    WorkloadError::NotOneInput { model: model.name.clone(), inputs, what }
}

/// Datatypes and shapes, for people.
fn described(inputs: &[WorkloadInput]) -> String {
    let one = |input: &WorkloadInput| format!("{} of shape {}", input.datatype, input.shape);
    inputs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Makes bodies, each other than all before.
struct Generator<'a> {
    model: &'a ModelMetadata,
    inputs: &'a [WorkloadInput],
    values: Vec<Values>,
    form: Form,
    rng: Rng,
    made: HashSet<Bytes>,
}

impl<'a> Generator<'a> {
    fn new(
        model: &'a ModelMetadata,
        inputs: &'a [WorkloadInput],
        form: Form,
        config: &WorkloadConfig,
    ) -> Self {
        let values = inputs.iter().map(|input| match config.constants.get(input.name.as_str()) {
            Some(&number) => Values::constant(input.datatype, number),
            None => Values::random(input.datatype),
        });
        let rng = Rng::with_seed(config.seed);
        Self { model, inputs, values: values.collect(), form, rng, made: HashSet::new() }
    }

    /// How many different bodies there are.
    fn available(&self) -> u64 {
        let inputs = self.inputs.iter().zip(&self.values);
        inputs.fold(1, |product: u64, (input, values)| {
            product.saturating_mul(values.different(input.shape.elements().unwrap_or(u64::MAX)))
        })
    }

    /// The next `count` bodies; there must be as many.
    fn take(&mut self, count: u64) -> Arc<[Bytes]> {
        let mut bodies = Vec::new();
        while (bodies.len() as u64) < count {
            let (body, _) = self.body();
            if self.made.insert(body.clone()) {
                bodies.push(body);
            }
        }
        bodies.into()
    }

    /// A body, and the length of its JSON head where raw tensors follow it.
    fn body(&mut self) -> (Bytes, Option<usize>) {
        match self.form {
            Form::Plain => {
                let (spec, shape) = (&self.model.inputs[0], &self.inputs[0].shape);
                (body::plain(spec, shape, &self.values[0], &mut self.rng), None)
            }
            Form::Binary => body::binary(self.inputs, &self.values, &mut self.rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use inferring_protocol::rest::{plain, v2};
    use inferring_types::{Batching, ContentDigest, Dimension, ModelVersion, RowAxes};

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
            let input = &workload.inputs()[0];
            assert_eq!((&input.shape, workload.measured().len()), (&expected, 100));
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

    /// Two inputs, of which one is a mask: no plain body could bring both.
    #[test]
    fn a_server_reads_every_binary_body_and_its_constants() {
        let mut model = model(DataType::Int64, &[None, None]);
        model.inputs.push(TensorSpec { name: "mask".into(), ..model.inputs[0].clone() });
        let constants = BTreeMap::from([("mask".to_owned(), 1.0)]);
        let ask = |config: WorkloadConfig| Workload::new(&model, &config, ANY, 2);
        let workload = ask(WorkloadConfig { constants, ..config(20) }).unwrap();
        assert_eq!(workload.form(), Form::Binary);
        let mut seen = HashSet::new();
        for body in workload.measured().iter().chain(&workload.warm_up()[..]) {
            let inputs =
                v2::decode_request(body.clone().into(), workload.json_length()).unwrap().inputs;
            let [input, mask] = model.arrange(inputs).unwrap().try_into().unwrap();
            assert_eq!(input.tensor.shape(), &Shape::from([1, 32]));
            assert_eq!(mask.tensor.data()[..], 1i64.to_le_bytes().repeat(32)[..]);
            assert!(seen.insert(input.tensor.data().clone()), "two are equal");
        }
        assert_eq!(seen.len(), 22);
        let stranger = BTreeMap::from([("sr".to_owned(), 16.0)]);
        for (config, message) in [
            (
                WorkloadConfig { form: Some(Form::Plain), ..config(1) },
                "model `m` has 2 inputs, and the plain form is for models with one",
            ),
            (
                WorkloadConfig { shape: Some([1, 2].into()), ..config(1) },
                "model `m` has 2 inputs, and a shape is for models with one",
            ),
            (
                WorkloadConfig { constants: stranger, ..config(1) },
                "model `m` has no input `sr`: it has `x`, `mask`",
            ),
        ] {
            assert_eq!(ask(config).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn binary_numbers_are_those_of_the_plain_form() {
        for datatype in
            [DataType::Fp32, DataType::Fp64, DataType::Fp16, DataType::Bf16, DataType::Uint8]
        {
            let model = model(datatype, &[None, Some(3)]);
            let ask = |form| {
                let config = WorkloadConfig { form: Some(form), ..config(5) };
                Workload::new(&model, &config, ANY, 0).unwrap()
            };
            let (text, binary) = (ask(Form::Plain), ask(Form::Binary));
            for (text, raw) in text.measured().iter().zip(&binary.measured()[..]) {
                let plain = plain::decode_request(text, &model).unwrap().input;
                let inputs =
                    v2::decode_request(raw.clone().into(), binary.json_length()).unwrap().inputs;
                assert_eq!(inputs, [plain], "{datatype}");
            }
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
        for (model, distinct, message) in [
            (model(DataType::Bytes, &[None]), 1, "takes BYTES: load can be made for numeric"),
            (model(DataType::Int8, &[Some(1)]), 129, "gives only 128 different inputs: 129 were"),
            (model(DataType::Fp32, &[Some(1 << 20)]), 1000, "exceed the 512 MiB"),
        ] {
            let error = Workload::new(&model, &config(distinct), ANY, 0).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

//! Which of a model's inputs and outputs are its state, and what a state looks like.

use bytes::Bytes;
use inferring_types::{
    DataType, Dimension, NamedTensor, RowAxes, ServiceError, Shape, Tensor, TensorName, TensorSpec,
};

use crate::rows;
use crate::settings::Misfit;

/// The state of a model: inputs that take what outputs gave.
#[derive(Debug)]
pub(super) struct States {
    states: Vec<State>,
    /// An input that a request brings and that has rows, and the axis on which they lie.
    rows: Option<(TensorName, usize)>,
}

#[derive(Debug)]
struct State {
    name: TensorName,
    /// The places among the model's inputs and outputs.
    input: usize,
    output: usize,
    /// The axis of the input on which rows lie, where their number is open.
    axis: Option<usize>,
    /// What a row of a sequence begins with.
    zeros: Tensor,
}

/// Of each state a tensor.
pub(super) type Values = Vec<Tensor>;

impl States {
    /// The states that the settings name, each by its input and output, in a model whose rows lie
    /// along these axes.
    ///
    /// # Errors
    /// [`Misfit`] where a name is unknown or given twice, where input and output differ in
    /// datatype or shape, and where it is open how large a state is.
    pub(super) fn find<'a>(
        names: impl IntoIterator<Item = (&'a str, &'a str)>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        axes: Option<&RowAxes>,
    ) -> Result<Self, Misfit> {
        let axis = |place: usize| axes.and_then(|axes| *axes.inputs.get(place)?);
        let mut states: Vec<State> = Vec::new();
        for (input, output) in names {
            let (input, output) = (find("input", input, inputs)?, find("output", output, outputs)?);
            let (taken, given) = (&inputs[input], &outputs[output]);
            if states.iter().any(|state| state.input == input || state.output == output) {
                let names = format!("`{}` or `{}`", taken.name, given.name);
                return Err(Misfit(format!("{names} is named as a state twice")));
            }
            if taken.datatype != given.datatype || !may_be(taken, given) {
                return Err(Misfit(format!(
                    "output `{}` ({} {}) cannot be the next `{}` ({} {})",
                    given.name,
                    given.datatype,
                    given.shape,
                    taken.name,
                    taken.datatype,
                    taken.shape,
                )));
            }
            let (axis, zeros) = beginning(taken, axis(input))?;
            states.push(State { name: taken.name.clone(), input, output, axis, zeros });
        }
        let is_state = |place: usize| states.iter().any(|state| state.input == place);
        let mut others = inputs.iter().enumerate().filter(|(place, _)| !is_state(*place));
        let rows = others.find_map(|(place, spec)| Some((spec.name.clone(), axis(place)?)));
        match states.iter().find(|state| state.axis.is_some()) {
            Some(state) if rows.is_none() => Err(Misfit(format!(
                "input `{}` has its rows on an axis, and no input that is no state has: how \
                 many rows a sequence has could not be told",
                state.name,
            ))),
            _ => Ok(Self { states, rows }),
        }
    }

    /// How many rows a request has; 1 where its inputs have none, or are not what they should be.
    pub(super) fn rows_of(&self, inputs: &[NamedTensor]) -> u64 {
        let rows = self.rows.as_ref().and_then(|(name, axis)| {
            let input = inputs.iter().find(|input| input.name == *name)?;
            rows::count(&input.tensor, *axis)
        });
        rows.unwrap_or(1)
    }

    /// The first of these inputs that is a state.
    pub(super) fn any_of<'a>(&self, inputs: &'a [NamedTensor]) -> Option<&'a NamedTensor> {
        inputs.iter().find(|input| self.states.iter().any(|state| state.name == input.name))
    }

    /// What a sequence of so many rows begins with, under the names of the inputs.
    pub(super) fn beginning(&self, rows: u64) -> impl Iterator<Item = NamedTensor> {
        let beginning = move |state: &State| state.beginning(rows);
        self.states.iter().map(move |state| NamedTensor::new(state.name.clone(), beginning(state)))
    }

    /// Puts a state into inputs that are in the model's order.
    pub(super) fn put(&self, values: &[Tensor], inputs: &mut [NamedTensor]) {
        for (state, value) in self.states.iter().zip(values) {
            inputs[state.input].tensor = value.clone();
        }
    }

    /// Takes the state out of a model's answer for so many rows.
    ///
    /// It is a copy: it is kept for long, and must not hold the memory of a whole run.
    ///
    /// # Errors
    /// `Internal`, blamed on the model, where an output is not what the input takes.
    pub(super) fn take(&self, outputs: &[NamedTensor], rows: u64) -> Result<Values, ServiceError> {
        let take = |state: &State| {
            let given = &outputs[state.output];
            let (tensor, shape) = (&given.tensor, state.shape(rows));
            if tensor.datatype() != state.zeros.datatype() || *tensor.shape() != shape {
                return Err(ServiceError::failed(format!(
                    "the model gave {} {} as its state `{}`, whose input `{}` takes {} {shape}",
                    tensor.datatype(),
                    tensor.shape(),
                    given.name,
                    state.name,
                    state.zeros.datatype(),
                )));
            }
            let data = Bytes::copy_from_slice(tensor.data());
            Ok(Tensor::new(tensor.datatype(), shape, data).expect("a copy of a valid tensor"))
        };
        self.states.iter().map(take).collect()
    }

    /// Whether the output in that place is a state.
    pub(super) fn gives(&self, place: usize) -> bool {
        self.states.iter().any(|state| state.output == place)
    }
}

impl State {
    fn shape(&self, rows: u64) -> Shape {
        match self.axis {
            Some(axis) => rows::with_size(self.zeros.shape(), axis, rows),
            None => self.zeros.shape().clone(),
        }
    }

    fn beginning(&self, rows: u64) -> Tensor {
        let shape = self.shape(rows);
        if shape == *self.zeros.shape() {
            return self.zeros.clone();
        }
        zeros(self.zeros.datatype(), shape).expect("rows are counted before they are made")
    }
}

fn find(what: &str, name: &str, specs: &[TensorSpec]) -> Result<usize, Misfit> {
    specs.iter().position(|spec| spec.name.as_str() == name).ok_or_else(|| {
        let names: Vec<_> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
        Misfit(format!("the model has no {what} `{name}`: it has {}", names.join(", ")))
    })
}

/// Whether an output can have the shape that an input takes.
fn may_be(taken: &TensorSpec, given: &TensorSpec) -> bool {
    if !taken.shape.is_ranked() || !given.shape.is_ranked() {
        return true;
    }
    let (taken, given) = (taken.shape.dimensions(), given.shape.dimensions());
    let fits = |pair: (&Dimension, &Dimension)| match (pair.0.fixed(), pair.1.fixed()) {
        (Some(taken), Some(given)) => taken == given,
        _ => true,
    };
    taken.len() == given.len() && taken.iter().zip(given).all(fits)
}

/// The axis of a state on which an open number of rows lies, and one row of zeros.
fn beginning(spec: &TensorSpec, axis: Option<usize>) -> Result<(Option<usize>, Tensor), Misfit> {
    let TensorSpec { name, datatype, shape } = spec;
    if *datatype == DataType::Bytes || !shape.is_ranked() {
        return Err(Misfit(format!(
            "input `{name}` is {datatype} {shape}: a state has a fixed size, and this has none",
        )));
    }
    let axis =
        axis.filter(|&axis| matches!(shape.dimensions().get(axis), Some(d) if d.fixed().is_none()));
    let dimensions = shape.dimensions().iter().enumerate();
    let sizes = dimensions.map(|(place, dimension)| match dimension.fixed() {
        Some(size) => Ok(size),
        None if Some(place) == axis => Ok(1),
        None => Err(Misfit(format!(
            "input `{name}` has shape {shape}, and it is open how large a state is: say that its \
             rows lie there (`batch_axis = {place}`), or its size (`shape`), in \
             `[inputs.{name}]`",
        ))),
    });
    let sizes = sizes.collect::<Result<Vec<u64>, Misfit>>()?;
    let zeros = zeros(*datatype, Shape::new(sizes))
        .ok_or_else(|| Misfit(format!("a state of {shape} is too large to be kept")))?;
    Ok((axis, zeros))
}

/// Zeros of that shape; `None` where they do not fit into memory.
fn zeros(datatype: DataType, shape: Shape) -> Option<Tensor> {
    let size = datatype.element_size()? as u64;
    let bytes = usize::try_from(shape.elements()?.checked_mul(size)?).ok()?;
    let mut data = Vec::new();
    data.try_reserve_exact(bytes).ok()?;
    data.resize(bytes, 0);
    Tensor::new(datatype, shape, data.into()).ok()
}

#[cfg(test)]
mod tests {
    use inferring_types::ShapeSpec;

    use super::*;

    /// A tensor `name` of FP32; -1 is an open dimension.
    fn spec(name: &str, dimensions: &[i64]) -> TensorSpec {
        let dimension = |&size: &i64| match u64::try_from(size) {
            Ok(size) => Dimension::Fixed(size),
            Err(_) => Dimension::Dynamic(None),
        };
        let shape = ShapeSpec::new(dimensions.iter().map(dimension));
        TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
    }

    fn tensor(name: &str, shape: &[u64]) -> NamedTensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|n| n as f32).collect();
        NamedTensor::new(name.into(), Tensor::from_f32(shape.into(), &values).unwrap())
    }

    /// A model as silero is.
    fn speech() -> States {
        let inputs = [spec("input", &[-1, -1]), spec("state", &[2, -1, 3]), spec("sr", &[])];
        let outputs = [spec("output", &[-1, 1]), spec("stateN", &[-1, -1, -1])];
        let axes = RowAxes { inputs: vec![Some(0), Some(1), None], outputs: vec![Some(0); 2] };
        States::find([("state", "stateN")], &inputs, &outputs, Some(&axes)).unwrap()
    }

    #[test]
    fn a_sequence_begins_with_zeros_for_each_of_its_rows() {
        let states = speech();
        assert_eq!(states.rows_of(&[tensor("sr", &[]), tensor("input", &[5, 16])]), 5);
        for rows in [1, 5] {
            let beginning: Vec<_> = states.beginning(rows).collect();
            let zeros = Tensor::from_f32([2, rows, 3].into(), &vec![0.0; 6 * rows as usize]);
            assert_eq!(beginning, [NamedTensor::new("state".into(), zeros.unwrap())]);
        }
    }

    #[test]
    fn what_an_output_gave_is_what_the_input_takes_next() {
        let states = speech();
        let outputs = [tensor("output", &[1, 1]), tensor("stateN", &[2, 1, 3])];
        let values = states.take(&outputs, 1).unwrap();
        let mut inputs = [tensor("input", &[1, 4]), tensor("state", &[2, 1, 3]), tensor("sr", &[])];
        inputs[1].tensor = states.beginning(1).next().unwrap().tensor;
        states.put(&values, &mut inputs);
        assert_eq!(inputs[1].tensor, outputs[1].tensor);
        assert!(states.gives(1) && !states.gives(0));
        let error = states.take(&outputs, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model gave FP32 [2,1,3] as its state `stateN`, whose input `state` takes FP32 \
             [2,2,3]",
        );
    }

    /// A kept state must not hold the memory of everything that it came with.
    #[test]
    fn a_state_is_kept_as_a_copy() {
        let outputs = [tensor("output", &[1, 1]), tensor("stateN", &[2, 1, 3])];
        let kept = speech().take(&outputs, 1).unwrap();
        assert_ne!(kept[0].data().as_ptr(), outputs[1].tensor.data().as_ptr());
    }

    #[test]
    fn a_state_of_a_fixed_size_needs_no_rows() {
        let specs = [spec("h", &[1, 8])];
        let states = States::find([("h", "h")], &specs, &specs, None).unwrap();
        assert_eq!(states.rows_of(&[]), 1);
        assert_eq!(states.beginning(7).next().unwrap(), {
            let zeros = Tensor::from_f32([1, 8].into(), &[0.0; 8]).unwrap();
            NamedTensor::new("h".into(), zeros)
        });
    }

    #[test]
    fn what_cannot_be_a_state_is_told_when_the_model_is_loaded() {
        let bytes = |spec: TensorSpec| TensorSpec { datatype: DataType::Bytes, ..spec };
        let inputs = [
            spec("x", &[-1, 4]),
            spec("h", &[2, -1, 8]),
            spec("c", &[2, 8]),
            bytes(spec("t", &[1])),
            TensorSpec { shape: ShapeSpec::any_rank(), ..spec("any", &[]) },
            spec("huge", &[1 << 40, 1 << 40]),
        ];
        let outputs = [
            spec("y", &[-1, 1]),
            spec("hn", &[2, -1, 8]),
            bytes(spec("tn", &[1])),
            spec("cn", &[2, 8]),
            spec("hugeN", &[1 << 40, 1 << 40]),
        ];
        let first = RowAxes::first(inputs.len(), outputs.len());
        let second = RowAxes { inputs: vec![None, Some(1)], outputs: vec![] };
        let find = |names: &[(&'static str, &'static str)], axes: Option<&RowAxes>| {
            let found = States::find(names.iter().copied(), &inputs, &outputs, axes);
            let error = found.unwrap_err().to_string();
            error.strip_prefix("the settings do not fit: ").unwrap().to_owned()
        };
        let open = "input `h` has shape [2,?,8], and it is open how large a state is: say that \
                    its rows lie there (`batch_axis = 1`), or its size (`shape`), in `[inputs.h]`";
        assert_eq!(find(&[("h", "hn")], None), open);
        assert_eq!(find(&[("h", "hn")], Some(&first)), open);
        assert_eq!(
            find(&[("h", "hn")], Some(&second)),
            "input `h` has its rows on an axis, and no input that is no state has: how many rows \
             a sequence has could not be told",
        );
        for (names, message) in [
            (
                &[("g", "hn")][..],
                "the model has no input `g`: it has `x`, `h`, `c`, `t`, `any`, `huge`",
            ),
            (&[("h", "g")], "the model has no output `g`: it has `y`, `hn`, `tn`, `cn`, `hugeN`"),
            (&[("c", "cn"), ("c", "hn")], "`c` or `hn` is named as a state twice"),
            (&[("c", "hn")], "output `hn` (FP32 [2,?,8]) cannot be the next `c` (FP32 [2,8])"),
            (&[("c", "tn")], "output `tn` (BYTES [1]) cannot be the next `c` (FP32 [2,8])"),
            (&[("t", "tn")], "input `t` is BYTES [1]: a state has a fixed size, and this has none"),
            (
                &[("any", "cn")],
                "input `any` is FP32 [...]: a state has a fixed size, and this has none",
            ),
            (
                &[("huge", "hugeN")],
                "a state of [1099511627776,1099511627776] is too large to be kept",
            ),
        ] {
            assert_eq!(find(names, None), message);
        }
    }
}

//! What a loaded model takes and gives, as the engine declares it.
#![expect(unsafe_code, reason = "the binding does not tell a sparse or shapeless tensor apart")]

use std::ptr;

use inferring_types::{Dimension, ShapeSpec, TensorSpec};
use ort::AsPointer as _;
use ort::session::Session;
use ort::sys;
use ort::value::{Outlet, ValueType};

use super::tensor::{check, datatype_of};
use crate::ExecuteError;

/// Inputs and outputs of a model, in declared order.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
}

impl Signature {
    /// Reads it off a session.
    ///
    /// An output whose rank the engine does not know before a run appears with no dimensions.
    ///
    /// # Errors
    /// Names the input or output that cannot be served, and says why.
    pub(super) fn of(session: &Session) -> Result<Self, String> {
        let inputs = specs(session, Side::Input)?;
        let outputs = specs(session, Side::Output)?;
        if inputs.is_empty() {
            return Err("it takes no inputs: there is nothing to ask it".to_owned());
        }
        if outputs.is_empty() {
            return Err("it gives no outputs".to_owned());
        }
        Ok(Self { inputs, outputs })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn outlets(self, session: &Session) -> &[Outlet] {
        match self {
            Self::Input => session.inputs(),
            Self::Output => session.outputs(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

fn specs(session: &Session, side: Side) -> Result<Vec<TensorSpec>, String> {
    let outlets = side.outlets(session).iter().enumerate();
    let specs = outlets.map(|(index, outlet)| {
        spec(session, side, index, outlet)
            .map_err(|problem| format!("its {} `{}` {problem}", side.word(), outlet.name()))
    });
    specs.collect()
}

fn spec(
    session: &Session,
    side: Side,
    index: usize,
    outlet: &Outlet,
) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        let kind = match outlet.dtype() {
            ValueType::Sequence(_) => "a sequence",
            ValueType::Map { .. } => "a map",
            _ => "an optional value",
        };
        return Err(format!("is {kind}: only tensors are served"));
    };
    let Some(datatype) = datatype_of(*ty) else {
        return Err(format!("is a tensor of {ty}, which is no datatype of the protocol"));
    };
    match form(session, side, index).map_err(|error| error.to_string())? {
        Form::Sparse => return Err("is a sparse tensor: only dense tensors are served".to_owned()),
        Form::Shapeless if side == Side::Input => {
            return Err("declares no shape, not even how many dimensions it has".to_owned());
        }
        Form::Shapeless | Form::Dense => {}
    }
    let symbols = dimension_symbols.iter().map(|symbol| Some(symbol.to_string()));
    let symbols = symbols.chain(std::iter::repeat(None));
    let dimensions = shape.iter().zip(symbols).map(|(&size, symbol)| match u64::try_from(size) {
        Ok(size) => Dimension::Fixed(size),
        Err(_) => Dimension::Dynamic(symbol.filter(|symbol| !symbol.is_empty())),
    });
    let shape = ShapeSpec::new(dimensions);
    Ok(TensorSpec { name: outlet.name().into(), datatype, shape })
}

/// What the binding calls a tensor.
enum Form {
    Dense,
    Sparse,
    /// Of unknown rank. Its list of dimensions is empty, like a scalar's.
    Shapeless,
}

fn form(session: &Session, side: Side, index: usize) -> Result<Form, ExecuteError> {
    let api = ort::api();
    let info_of = match side {
        Side::Input => api.SessionGetInputTypeInfo,
        Side::Output => api.SessionGetOutputTypeInfo,
    };
    let mut info = ptr::null_mut();
    // SAFETY: the session is valid and the index is one of its own. The information is freed
    // when `info` is dropped, after the last use of what points into it.
    unsafe {
        check(info_of(session.ptr(), index, &raw mut info))?;
        let info = TypeInfo(info);
        let mut kind = sys::ONNXType::ONNX_TYPE_UNKNOWN;
        check((api.GetOnnxTypeFromTypeInfo)(info.0, &raw mut kind))?;
        if kind == sys::ONNXType::ONNX_TYPE_SPARSETENSOR {
            return Ok(Form::Sparse);
        }
        let mut tensor = ptr::null();
        check((api.CastTypeInfoToTensorInfo)(info.0, &raw mut tensor))?;
        let has_shape = !tensor.is_null() && (api.TensorTypeAndShape_HasShape)(tensor);
        Ok(if has_shape { Form::Dense } else { Form::Shapeless })
    }
}

struct TypeInfo(*mut sys::OrtTypeInfo);

impl Drop for TypeInfo {
    fn drop(&mut self) {
        // SAFETY: the engine gave the pointer, which is owned by `self` alone and freed once.
        unsafe { (ort::api().ReleaseTypeInfo)(self.0) }
    }
}

//! What a loaded model takes and gives, as the engine declares it.
#![expect(unsafe_code, reason = "the binding does not tell a sparse or shapeless tensor apart")]

use std::ptr;

use inferring_types::{DataType, Dimension, ShapeSpec, TensorSpec};
use ort::AsPointer as _;
use ort::session::Session;
use ort::sys;
use ort::value::{Outlet, TensorElementType, ValueType};

use super::tensor::{check, datatype_of};
use crate::ExecuteError;

/// Inputs and outputs of a model, in declared order.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<Output>,
}

/// An output, and what it is to the engine.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) spec: TensorSpec,
    /// Its type in ONNX's notation, such as `seq(map(int64,tensor(float)))`, where that is no
    /// tensor. It is served as texts then.
    pub(super) type_as_texts: Option<String>,
}

impl Signature {
    /// Reads it off a session.
    ///
    /// # Errors
    /// Names the input or output that cannot be served, and says why.
    pub(super) fn of(session: &Session) -> Result<Self, String> {
        let inputs = each(session, Side::Input, input)?;
        let outputs = each(session, Side::Output, output)?;
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

/// Describes each input or output, and names the one that cannot be described.
fn each<T>(
    session: &Session,
    side: Side,
    describe: impl Fn(&Outlet, Form) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let outlets = side.outlets(session).iter().enumerate();
    let described = outlets.map(|(index, outlet)| {
        form(session, side, index)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|form| describe(outlet, form))
            .map_err(|problem| format!("its {} `{}` {problem}", side.word(), outlet.name()))
    });
    described.collect()
}

fn input(outlet: &Outlet, form: Form) -> Result<TensorSpec, String> {
    let kind = match outlet.dtype() {
        ValueType::Tensor { .. } => return tensor(outlet, form),
        ValueType::Sequence(_) => "a sequence",
        ValueType::Map { .. } => "a map",
        ValueType::Optional(_) => "an optional value",
    };
    let notation = notation(outlet.dtype());
    Err(format!("is {kind}, {notation}: inputs must be dense tensors"))
}

fn output(outlet: &Outlet, form: Form) -> Result<Output, String> {
    if let ValueType::Tensor { .. } = outlet.dtype() {
        return Ok(Output { spec: tensor(outlet, form)?, type_as_texts: None });
    }
    let spec = TensorSpec {
        name: outlet.name().into(),
        datatype: DataType::Bytes,
        shape: ShapeSpec::new([texts_of(outlet.dtype())?]),
    };
    Ok(Output { spec, type_as_texts: Some(notation(outlet.dtype())) })
}

/// How many texts a value of that type is served as.
fn texts_of(value: &ValueType) -> Result<Dimension, String> {
    let mut elements = Vec::new();
    elements_of(value, &mut elements);
    if let Some(odd) = elements.into_iter().find(|element| datatype_of(*element).is_none()) {
        return Err(format!("holds {}, which is no datatype of the protocol", name_of(odd)));
    }
    Ok(match value {
        ValueType::Map { .. } => Dimension::Fixed(1),
        _ => Dimension::Dynamic(None),
    })
}

fn tensor(outlet: &Outlet, form: Form) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err("is no tensor".to_owned());
    };
    let Some(datatype) = datatype_of(*ty) else {
        return Err(format!(
            "is a tensor of {}, which is no datatype of the protocol",
            name_of(*ty)
        ));
    };
    let symbols = dimension_symbols.iter().map(|symbol| Some(symbol.to_string()));
    let symbols = symbols.chain(std::iter::repeat(None));
    let dimensions = shape.iter().zip(symbols).map(|(&size, symbol)| match u64::try_from(size) {
        Ok(size) => Dimension::Fixed(size),
        Err(_) => Dimension::Dynamic(symbol.filter(|symbol| !symbol.is_empty())),
    });
    let shape = match form {
        Form::Sparse => return Err("is a sparse tensor: only dense tensors are served".to_owned()),
        Form::OfAnyRank => ShapeSpec::any_rank(),
        Form::Ranked => ShapeSpec::new(dimensions),
    };
    Ok(TensorSpec { name: outlet.name().into(), datatype, shape })
}

/// Every element type that occurs in a type.
fn elements_of(value: &ValueType, elements: &mut Vec<TensorElementType>) {
    match value {
        ValueType::Tensor { ty, .. } => elements.push(*ty),
        ValueType::Map { key, value } => elements.extend([*key, *value]),
        ValueType::Sequence(inner) | ValueType::Optional(inner) => elements_of(inner, elements),
    }
}

/// A type in ONNX's own notation.
fn notation(value: &ValueType) -> String {
    match value {
        ValueType::Tensor { ty, .. } => format!("tensor({})", name_of(*ty)),
        ValueType::Sequence(inner) => format!("seq({})", notation(inner)),
        ValueType::Map { key, value } => {
            format!("map({},tensor({}))", name_of(*key), name_of(*value))
        }
        ValueType::Optional(inner) => format!("optional({})", notation(inner)),
    }
}

/// An element type by ONNX's own name.
fn name_of(element: TensorElementType) -> String {
    use TensorElementType as Element;
    let name = match element {
        Element::Float32 => "float",
        Element::Float64 => "double",
        Element::Bool => "bool",
        Element::Int8 => "int8",
        Element::Int16 => "int16",
        Element::Int32 => "int32",
        Element::Int64 => "int64",
        Element::Uint8 => "uint8",
        Element::Uint16 => "uint16",
        Element::Uint32 => "uint32",
        Element::Uint64 => "uint64",
        Element::Float16 => "float16",
        Element::Bfloat16 => "bfloat16",
        Element::String => "string",
        // `Float8E4M3FN` is `float8e4m3fn` there.
        other => return format!("{other:?}").to_lowercase(),
    };
    name.to_owned()
}

/// What the binding calls a tensor, or does not tell of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ranked,
    /// Its list of dimensions is empty, like a scalar's.
    OfAnyRank,
    Sparse,
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
        Ok(if has_shape { Form::Ranked } else { Form::OfAnyRank })
    }
}

struct TypeInfo(*mut sys::OrtTypeInfo);

impl Drop for TypeInfo {
    fn drop(&mut self) {
        // SAFETY: the engine gave the pointer, which is owned by `self` alone and freed once.
        unsafe { (ort::api().ReleaseTypeInfo)(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use ort::value::{Shape, SymbolicDimensions};

    use super::*;

    fn tensor(ty: TensorElementType) -> ValueType {
        let shape = Shape::new([-1]);
        ValueType::Tensor { ty, shape, dimension_symbols: SymbolicDimensions::empty(1) }
    }

    #[test]
    fn what_is_no_tensor_has_a_notation_and_a_number_of_texts() {
        use TensorElementType as Element;
        let sequence = |inner| ValueType::Sequence(Box::new(inner));
        let map = || ValueType::Map { key: Element::String, value: Element::Float64 };
        let optional = ValueType::Optional(Box::new(sequence(tensor(Element::Bfloat16))));
        for (value, notated, texts) in [
            (map(), "map(string,tensor(double))", Dimension::Fixed(1)),
            (sequence(map()), "seq(map(string,tensor(double)))", Dimension::Dynamic(None)),
            (optional, "optional(seq(tensor(bfloat16)))", Dimension::Dynamic(None)),
        ] {
            assert_eq!(notation(&value), notated);
            assert_eq!(texts_of(&value), Ok(texts));
        }
        let odd = "holds float8e4m3fn, which is no datatype of the protocol";
        assert_eq!(texts_of(&sequence(tensor(Element::Float8E4M3FN))), Err(odd.to_owned()));
    }
}

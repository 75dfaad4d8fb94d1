//! Writes small ONNX models.
//!
//! A model is a protobuf message; the field numbers are those of `onnx.proto3`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>).

use inferring_types::DataType;

/// A protobuf message under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        self.varint(value);
        self
    }

    pub(crate) fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(self, field: u8, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn message(self, field: u8, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

pub(crate) enum Size {
    Fixed(u64),
    Symbol(&'static str),
    Unknown,
}

/// ONNX's number of an element type.
pub(crate) fn element(datatype: DataType) -> u64 {
    match datatype {
        DataType::Fp32 => 1,
        DataType::Uint8 => 2,
        DataType::Int8 => 3,
        DataType::Uint16 => 4,
        DataType::Int16 => 5,
        DataType::Int32 => 6,
        DataType::Int64 => 7,
        DataType::Bytes => 8,
        DataType::Bool => 9,
        DataType::Fp16 => 10,
        DataType::Fp64 => 11,
        DataType::Uint32 => 12,
        DataType::Uint64 => 13,
        DataType::Bf16 => 16,
    }
}

/// ONNX's number of four-bit integers, which the protocol has no datatype for.
pub(crate) const INT4: u64 = 22;
/// Of one of the kinds of eight-bit floats, likewise.
pub(crate) const FLOAT8: u64 = 19;
/// Of complex numbers, likewise.
pub(crate) const COMPLEX64: u64 = 14;

fn tensor_type(element: u64, shape: Option<&[Size]>) -> Message {
    let tensor = Message::default().number(1, element);
    let Some(sizes) = shape else { return tensor };
    let shape = sizes.iter().fold(Message::default(), |shape, size| {
        let dimension = Message::default();
        shape.message(
            1,
            &match size {
                Size::Fixed(size) => dimension.number(1, *size),
                Size::Symbol(symbol) => dimension.text(2, symbol),
                Size::Unknown => dimension,
            },
        )
    });
    tensor.message(2, &shape)
}

pub(crate) fn tensor(element: u64, shape: &[Size]) -> Message {
    Message::default().message(1, &tensor_type(element, Some(shape)))
}

pub(crate) fn tensor_of_unknown_rank(element: u64) -> Message {
    Message::default().message(1, &tensor_type(element, None))
}

pub(crate) fn sparse_tensor(element: u64, shape: &[Size]) -> Message {
    Message::default().message(8, &tensor_type(element, Some(shape)))
}

pub(crate) fn sequence(of: &Message) -> Message {
    Message::default().message(4, &Message::default().message(1, of))
}

pub(crate) fn optional(of: &Message) -> Message {
    Message::default().message(9, &Message::default().message(1, of))
}

pub(crate) fn map(key: u64, value: &Message) -> Message {
    Message::default().message(5, &Message::default().number(1, key).message(2, value))
}

/// A tensor by its elements' bytes.
pub(crate) fn constant(element: u64, sizes: &[u64], data: &[u8]) -> Message {
    let tensor = sizes.iter().fold(Message::default(), |tensor, size| tensor.number(1, *size));
    tensor.number(2, element).bytes(9, data)
}

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, name| node.text(1, name));
    outputs.iter().fold(node, |node, name| node.text(2, name)).text(4, operator)
}

impl Message {
    /// An integer attribute of a node.
    pub(crate) fn attribute(self, name: &str, value: u64) -> Self {
        self.message(5, &Self::default().text(1, name).number(3, value).of_type(2))
    }

    /// An attribute of integers.
    pub(crate) fn integers(self, name: &str, values: &[i64]) -> Self {
        let list = values.iter().fold(Self::default().text(1, name), |list, value| {
            list.number(8, value.cast_unsigned())
        });
        self.message(5, &list.of_type(7))
    }

    /// An attribute of strings.
    pub(crate) fn strings(self, name: &str, values: &[&[u8]]) -> Self {
        let list = Self::default().text(1, name);
        let list = values.iter().fold(list, |list, value| list.bytes(9, value));
        self.message(5, &list.of_type(8))
    }

    /// An attribute that is a type.
    pub(crate) fn type_attribute(self, name: &str, value: &Self) -> Self {
        self.message(5, &Self::default().text(1, name).message(14, value).of_type(13))
    }

    /// An attribute that is a graph, such as the body of a loop.
    pub(crate) fn graph_attribute(self, name: &str, value: &Self) -> Self {
        self.message(5, &Self::default().text(1, name).message(6, value).of_type(5))
    }

    /// An attribute that is a tensor.
    pub(crate) fn tensor_attribute(self, name: &str, value: &Self) -> Self {
        self.message(5, &Self::default().text(1, name).message(5, value).of_type(4))
    }

    /// Field 20, the attribute's type. Its tag takes two bytes.
    fn of_type(mut self, kind: u8) -> Self {
        self.0.extend_from_slice(&[0xa0, 0x01, kind]);
        self
    }
}

/// A model of these nodes; inputs and outputs are names with their types.
pub(crate) fn model(
    nodes: &[Message],
    inputs: &[(&str, Message)],
    outputs: &[(&str, Message)],
) -> Vec<u8> {
    model_with_weights(nodes, inputs, outputs, &[])
}

/// The same, with initializers.
pub(crate) fn model_with_weights(
    nodes: &[Message],
    inputs: &[(&str, Message)],
    outputs: &[(&str, Message)],
    weights: &[Message],
) -> Vec<u8> {
    let opset = Message::default().number(2, 17);
    let onnx_ml = Message::default().text(1, "ai.onnx.ml").number(2, 3);
    let graph = graph(nodes, inputs, outputs, weights);
    let model = Message::default().number(1, 8).message(7, &graph);
    model.message(8, &opset).message(8, &onnx_ml).0
}

/// What a model computes, or the body of one of its nodes.
pub(crate) fn graph(
    nodes: &[Message],
    inputs: &[(&str, Message)],
    outputs: &[(&str, Message)],
    weights: &[Message],
) -> Message {
    let value = |(name, kind): &(&str, Message)| Message::default().text(1, name).message(2, kind);
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node));
    let graph = weights.iter().fold(graph.text(2, "g"), |graph, weight| graph.message(5, weight));
    let graph = inputs.iter().fold(graph, |graph, input| graph.message(11, &value(input)));
    outputs.iter().fold(graph, |graph, output| graph.message(12, &value(output)))
}

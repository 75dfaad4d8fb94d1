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

pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, name| node.text(1, name));
    outputs.iter().fold(node, |node, name| node.text(2, name)).text(4, operator)
}

impl Message {
    /// An integer attribute of a node.
    pub(crate) fn attribute(self, name: &str, value: u64) -> Self {
        self.message(5, &Self::default().text(1, name).number(3, value).bytes_of_type())
    }

    /// Field 20, the attribute's type: 2 for an integer. Its tag takes two bytes.
    fn bytes_of_type(mut self) -> Self {
        self.0.extend_from_slice(&[0xa0, 0x01, 2]);
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
    let value = |(name, kind): &(&str, Message)| Message::default().text(1, name).message(2, kind);
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node));
    let graph = weights.iter().fold(graph.text(2, "g"), |graph, weight| graph.message(5, weight));
    let graph = inputs.iter().fold(graph, |graph, input| graph.message(11, &value(input)));
    let graph = outputs.iter().fold(graph, |graph, output| graph.message(12, &value(output)));
    let opset = Message::default().number(2, 17);
    let onnx_ml = Message::default().text(1, "ai.onnx.ml").number(2, 3);
    let model = Message::default().number(1, 8).message(7, &graph);
    model.message(8, &opset).message(8, &onnx_ml).0
}

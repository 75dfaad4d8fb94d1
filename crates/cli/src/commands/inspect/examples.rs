//! Ready-made questions to a model: for curl, for this program, for Python and for gRPC.
//!
//! They are made to run as they are printed, with the model's own names, shapes and datatypes.
//! The values mean nothing: a model that looks its inputs up in a table may refuse them.

use std::fmt::Write as _;

use inferring_types::{DataType, ModelMetadata, ModelName, Shape, TensorSpec};
use serde_json::json;

use crate::http::Address;

/// For which client an example is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Client {
    /// REST from a shell.
    Curl,
    /// This program.
    Cli,
    /// tritonclient, over HTTP and over gRPC.
    Python,
    /// gRPC from a shell, by the server's reflection.
    Grpc,
}

impl Client {
    pub(super) const ALL: [Self; 4] = [Self::Curl, Self::Cli, Self::Python, Self::Grpc];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Cli => "cli",
            Self::Python => "python",
            Self::Grpc => "grpc",
        }
    }
}

/// A model to ask, as the examples need to know it.
pub(super) struct Subject<'a> {
    pub(super) name: &'a ModelName,
    pub(super) inputs: &'a [TensorSpec],
    pub(super) outputs: &'a [TensorSpec],
    /// Where it will be served.
    pub(super) address: &'a Address,
}

/// Tensors of more elements are not written out.
const WRITTEN_OUT: u64 = 32;

/// Larger tensors make no example: a shell would take minutes to write one.
const ELEMENTS_MAX: u64 = 1 << 24;

/// The size of dimensions left open that count no rows, as in `inferring bench`.
const DYNAMIC: u64 = 32;

/// A question to the subject for this client; `None` where its inputs are too large to write.
pub(super) fn example(subject: &Subject<'_>, client: Client) -> Option<String> {
    let shapes = TensorSpec::shapes_of_one_row(subject.inputs, DYNAMIC);
    let samples = subject.inputs.iter().zip(shapes).map(|(spec, shape)| Sample::of(spec, shape));
    let samples = samples.collect::<Option<Vec<_>>>()?;
    Some(match client {
        Client::Curl => curl(subject, &samples),
        Client::Cli => cli(subject, &samples),
        Client::Python => python(subject, &samples),
        Client::Grpc => grpc(subject, &samples),
    })
}

/// A tensor that an input takes.
struct Sample<'a> {
    spec: &'a TensorSpec,
    shape: Shape,
    elements: u64,
}

impl<'a> Sample<'a> {
    fn of(spec: &'a TensorSpec, shape: Shape) -> Option<Self> {
        let elements = shape.elements().filter(|&elements| elements <= ELEMENTS_MAX)?;
        Some(Self { spec, shape, elements })
    }

    /// The elements as JSON, with commas between and no brackets.
    fn elements(&self, text: fn(DataType, u64) -> String) -> Piece {
        let datatype = self.spec.datatype;
        if self.elements > WRITTEN_OUT {
            return Piece::Repeated { text: text(datatype, 0), times: self.elements };
        }
        let elements = (0..self.elements).map(|index| text(datatype, index));
        Piece::Text(elements.collect::<Vec<_>>().join(","))
    }

    /// The elements as nested arrays.
    fn nested(&self) -> String {
        fn write(out: &mut String, datatype: DataType, sizes: &[u64], next: &mut u64) {
            let Some((&size, inner)) = sizes.split_first() else {
                out.push_str(&element(datatype, *next));
                *next += 1;
                return;
            };
            out.push('[');
            for index in 0..size {
                if index > 0 {
                    out.push(',');
                }
                write(out, datatype, inner, next);
            }
            out.push(']');
        }

        let mut out = String::new();
        write(&mut out, self.spec.datatype, self.shape.dimensions(), &mut 0);
        out
    }

    /// An expression for it in Python, where NumPy is `np`, which has no type for BF16.
    fn numpy(&self, bf16: &str) -> String {
        let datatype = self.spec.datatype;
        let (value, kind) = match datatype {
            DataType::Bool => ("True", "bool_"),
            DataType::Uint8 => ("1", "uint8"),
            DataType::Uint16 => ("1", "uint16"),
            DataType::Uint32 => ("1", "uint32"),
            DataType::Uint64 => ("1", "uint64"),
            DataType::Int8 => ("1", "int8"),
            DataType::Int16 => ("1", "int16"),
            DataType::Int32 => ("1", "int32"),
            DataType::Int64 => ("1", "int64"),
            DataType::Fp16 => ("0.5", "float16"),
            DataType::Bf16 => return format!("np.full({}, 0.5, {bf16})", sizes(&self.shape)),
            DataType::Fp32 => ("0.5", "float32"),
            DataType::Fp64 => ("0.5", "float64"),
            DataType::Bytes => ("b\"hello\"", "object_"),
        };
        format!("np.full({}, {value}, np.{kind})", sizes(&self.shape))
    }
}

/// The `index`-th element as JSON. Whole numbers are 1: they often are places in a table.
fn element(datatype: DataType, index: u64) -> String {
    match datatype {
        DataType::Bool => "true".to_owned(),
        DataType::Bytes => "\"hello\"".to_owned(),
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
            let tenths = index % 10 + 1;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
        _ => "1".to_owned(),
    }
}

/// The same in the JSON form of Protocol Buffers, where bytes are base64.
fn protobuf_element(datatype: DataType, index: u64) -> String {
    match datatype {
        DataType::Bytes => "\"aGVsbG8=\"".to_owned(),
        _ => element(datatype, index),
    }
}

fn sizes(shape: &Shape) -> String {
    let sizes: Vec<_> = shape.dimensions().iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// A part of a document that a shell is to write.
enum Piece {
    Text(String),
    /// A value so many times, with commas between.
    Repeated {
        text: String,
        times: u64,
    },
    /// So many bytes of zero in base64, in double quotes.
    Zeros {
        bytes: u64,
    },
}

/// A document in the words of a shell.
#[derive(Default)]
struct Document {
    pieces: Vec<Piece>,
}

impl Document {
    fn text(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.piece(Piece::Text(text.as_ref().to_owned()))
    }

    fn piece(&mut self, piece: Piece) -> &mut Self {
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (_, piece) => self.pieces.push(piece),
        }
        self
    }

    /// A command that takes the document behind `flag`, or through a pipe where it is large.
    fn given_to(&self, command: &str, flag: &str, piped: &str) -> String {
        if let [Piece::Text(text)] = &self.pieces[..] {
            return format!("{command} \\\n  {flag} {}\n", quoted(text));
        }
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => format!("printf %s {}", quoted(text)),
            Piece::Repeated { text, times } => {
                let (first, rest) = (quoted(text), quoted(&format!("%.0s,{text}")));
                format!("printf %s {first}; printf {rest} $(seq {})", times - 1)
            }
            Piece::Zeros { bytes } => {
                format!("printf '\"'; head -c {bytes} /dev/zero | base64 -w0; printf '\"'")
            }
        });
        format!("{{ {}; }} |\n  {command} {flag} {piped}\n", pieces.collect::<Vec<_>>().join("; "))
    }
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn curl(subject: &Subject<'_>, samples: &[Sample<'_>]) -> String {
    let Subject { name, address, .. } = subject;
    let mut document = Document::default();
    document.text("{\"inputs\":[");
    for (index, sample) in samples.iter().enumerate() {
        let TensorSpec { name, datatype, .. } = sample.spec;
        let comma = if index > 0 { "," } else { "" };
        let (name, shape) = (json!(name.as_str()), json!(sample.shape.dimensions()));
        document
            .text(format!(
                "{comma}{{\"name\":{name},\"datatype\":\"{datatype}\",\"shape\":{shape},\"data\":["
            ))
            .piece(sample.elements(element))
            .text("]}");
    }
    document.text("]}");
    let command = format!("curl http://{address}/v2/models/{name}/infer");
    let mut text = document.given_to(&command, "-d", "@-");
    if let [sample] = samples
        && sample.spec.datatype.is_numeric()
        && subject.outputs.len() == 1
        && ModelMetadata::shape_of_flat(sample.spec, sample.elements) == Some(sample.shape.clone())
    {
        let mut document = Document::default();
        document.text("{\"input_data\":[").piece(sample.elements(element)).text("]}");
        let command = format!("curl http://{address}/models/{name}/infer");
        text.push_str(&document.given_to(&command, "-d", "@-"));
    }
    text
}

fn cli(subject: &Subject<'_>, samples: &[Sample<'_>]) -> String {
    let mut text = String::new();
    let mut command = format!("inferring infer {} --url http://{}", subject.name, subject.address);
    for (sample, number) in samples.iter().zip(1..) {
        let name = sample.spec.name.as_str();
        let value = if sample.elements <= WRITTEN_OUT {
            format!("{name}={}", sample.nested())
        } else {
            let mut array = sample.numpy("np.float32");
            if sample.spec.datatype == DataType::Bytes {
                // Python objects would have to be pickled.
                array.push_str(".astype(\"S\")");
            }
            let script = format!("import numpy as np; np.save(\"input{number}.npy\", {array})");
            writeln!(text, "python3 -c {}", quoted(&script)).expect("memory takes any text");
            format!("{name}=@input{number}.npy")
        };
        write!(command, " \\\n  --input {}", quoted(&value)).expect("memory takes any text");
    }
    text + &command + "\n"
}

fn python(subject: &Subject<'_>, samples: &[Sample<'_>]) -> String {
    let any_bf16 = samples.iter().any(|sample| sample.spec.datatype == DataType::Bf16);
    let ml_dtypes = if any_bf16 { "import ml_dtypes\n" } else { "" };
    let imports = format!("{ml_dtypes}import numpy as np\n");
    let script = |transport: &str| {
        let address = subject.address;
        let mut text = format!(
            "{imports}import tritonclient.{transport} as triton\n\n\
             client = triton.InferenceServerClient(\"{address}\")\ninputs = [\n",
        );
        for Sample { spec, shape, .. } in samples {
            let (name, shape) = (json!(spec.name.as_str()), sizes(shape));
            let datatype = spec.datatype;
            text += &format!("    triton.InferInput({name}, {shape}, \"{datatype}\"),\n");
        }
        text += "]\n";
        for (index, sample) in samples.iter().enumerate() {
            text += &format!(
                "inputs[{index}].set_data_from_numpy({})\n",
                sample.numpy("ml_dtypes.bfloat16")
            );
        }
        text += &format!("answer = client.infer(\"{}\", inputs)\n", subject.name);
        for output in subject.outputs {
            text += &format!("print(answer.as_numpy({}))\n", json!(output.name.as_str()));
        }
        text
    };
    format!(
        "# pip install 'tritonclient[all]'\n{}\n# The same over gRPC:\n{}",
        script("http"),
        script("grpc")
    )
}

fn grpc(subject: &Subject<'_>, samples: &[Sample<'_>]) -> String {
    // Floats of 16 bits have no field of their own, and raw contents are raw for all inputs.
    let field = |datatype| match datatype {
        DataType::Bool => Some("bool_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some("uint_contents"),
        DataType::Uint64 => Some("uint64_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some("int_contents"),
        DataType::Int64 => Some("int64_contents"),
        DataType::Fp32 => Some("fp32_contents"),
        DataType::Fp64 => Some("fp64_contents"),
        DataType::Bytes => Some("bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => None,
    };
    let raw = samples.iter().any(|sample| field(sample.spec.datatype).is_none());
    let mut document = Document::default();
    document.text(format!("{{\"model_name\":\"{}\",\"inputs\":[", subject.name));
    for (index, sample) in samples.iter().enumerate() {
        let TensorSpec { name, datatype, .. } = sample.spec;
        let comma = if index > 0 { "," } else { "" };
        let (name, shape) = (json!(name.as_str()), json!(sample.shape.dimensions()));
        document.text(format!(
            "{comma}{{\"name\":{name},\"datatype\":\"{datatype}\",\"shape\":{shape}"
        ));
        if let Some(field) = field(*datatype).filter(|_| !raw) {
            document
                .text(format!(",\"contents\":{{\"{field}\":["))
                .piece(sample.elements(protobuf_element))
                .text("]}");
        }
        document.text("}");
    }
    document.text("]");
    if raw {
        document.text(",\"raw_input_contents\":[");
        for (index, sample) in samples.iter().enumerate() {
            // A string of no bytes is four bytes of zero, its length.
            let size = sample.spec.datatype.element_size().unwrap_or(4) as u64;
            document.text(if index > 0 { "," } else { "" });
            document.piece(Piece::Zeros { bytes: sample.elements * size });
        }
        document.text("]");
    }
    document.text("}");
    let method = "inference.GRPCInferenceService/ModelInfer";
    let address = subject.address;
    let buf = format!("buf curl --protocol grpc --http2-prior-knowledge http://{address}/{method}");
    let grpcurl = document.given_to("grpcurl -plaintext", "-d", "@");
    let grpcurl = format!("{} {address} {method}\n", grpcurl.trim_end());
    format!("{}# or\n{grpcurl}", document.given_to(&buf, "--data", "@-"))
}

#[cfg(test)]
mod tests {
    use inferring_types::{Dimension, ShapeSpec};

    use super::*;

    fn spec(name: &str, datatype: DataType, sizes: &[Option<u64>]) -> TensorSpec {
        let dimension =
            |size: &Option<u64>| size.map_or(Dimension::Dynamic(None), Dimension::Fixed);
        let shape = ShapeSpec::new(sizes.iter().map(dimension));
        TensorSpec { name: name.into(), datatype, shape }
    }

    fn shown(inputs: &[TensorSpec], client: Client) -> String {
        let subject = Subject {
            name: &"m".parse().unwrap(),
            inputs,
            outputs: &[spec("y", DataType::Fp32, &[None])],
            address: &"localhost:8000".parse().unwrap(),
        };
        example(&subject, client).unwrap()
    }

    #[test]
    fn small_inputs_are_written_out() {
        let iris = [spec("it's x", DataType::Fp32, &[None, Some(4)])];
        let mut text = String::new();
        for client in Client::ALL {
            writeln!(text, "## {}\n{}", client.name(), shown(&iris, client)).unwrap();
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn large_inputs_strings_and_halves_are_written_by_the_shell() {
        let inputs = [
            spec("bytes", DataType::Int32, &[None, Some(2048)]),
            spec("text", DataType::Bytes, &[None]),
            spec("rate", DataType::Int64, &[]),
        ];
        let mut text = String::new();
        for client in Client::ALL {
            writeln!(text, "## {}\n{}", client.name(), shown(&inputs, client)).unwrap();
        }
        let half = [spec("h", DataType::Fp16, &[Some(2), None])];
        writeln!(text, "## half\n{}", shown(&half, Client::Grpc)).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_no_shell_can_write_makes_no_example() {
        for sizes in [&[Some(1 << 25)][..], &[Some(1 << 40), Some(1 << 40)]] {
            let spec = [spec("x", DataType::Fp32, sizes)];
            let shape = TensorSpec::shapes_of_one_row(&spec, DYNAMIC).remove(0);
            assert!(Sample::of(&spec[0], shape).is_none());
        }
        let nothing = spec("x", DataType::Fp32, &[Some(0)]);
        assert_eq!(Sample::of(&nothing, [0].into()).unwrap().nested(), "[]");
    }
}

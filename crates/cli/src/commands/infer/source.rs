//! What an `--input` says, and what stands in the file that it names.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use inferring_protocol::npy;
use inferring_protocol::rest::v2;
use inferring_types::{NamedTensor, Tensor, TensorName};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An `--input`: for which of the model's inputs, where that is said, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    name: Option<TensorName>,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The value itself.
    Value(String),
    /// A file, of the kind that its name tells.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// What is given for an input, before the model's declaration tells how to read it.
#[derive(Debug)]
pub(super) enum Given {
    /// A value of the command line.
    Value(String),
    /// A JSON text that is an array or a single value.
    Json(Bytes),
    /// The rows of a CSV file.
    Rows(Vec<Vec<String>>),
    /// A tensor that knows its datatype and shape.
    Tensor(Tensor),
    /// Several of these under the names of inputs.
    Several(Vec<(TensorName, Given)>),
    /// A request as the protocol has it.
    Request { inputs: Vec<NamedTensor>, outputs: Vec<TensorName> },
}

/// Arrays in an archive that take more, decompressed, are refused.
const ARCHIVE_SIZE_MAX: usize = 2 << 30;

impl FromStr for Input {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // These begin a value or a file's name, not an input's.
        let (name, source) = match text.split_once('=') {
            Some((name, source)) if !name.starts_with(['@', '[', '{', '"']) => (Some(name), source),
            _ => (None, text),
        };
        ensure!(name != Some(""), "expected a name before `=`");
        let source = match source.strip_prefix('@') {
            Some("") => bail!("expected a file behind `@`"),
            Some("-") => Source::Stdin,
            Some(path) => Source::File(path.into()),
            None => Source::Value(source.to_owned()),
        };
        Ok(Self { name: name.map(TensorName::from), source })
    }
}

impl Input {
    /// What it gives, and for which input where that is said.
    pub(super) fn read(&self) -> anyhow::Result<(Option<TensorName>, Given)> {
        let given = match &self.source {
            Source::Value(text) => Given::Value(text.clone()),
            Source::File(path) => {
                let shown = path.display();
                let extension = path.extension().and_then(|extension| extension.to_str());
                let kind = Kind::of_extension(extension).with_context(|| {
                    format!("`{shown}`: expected a .npy, .npz, .json or .csv file")
                })?;
                let content =
                    std::fs::read(path).with_context(|| format!("cannot read `{shown}`"))?;
                kind.read(content.into()).with_context(|| format!("`{shown}`"))?
            }
            Source::Stdin => {
                let mut content = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut content);
                read.context("cannot read standard input")?;
                let kind = Kind::of_content(&content);
                kind.read(content.into()).context("standard input")?
            }
        };
        Ok((self.name.clone(), given))
    }
}

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npy,
    Npz,
    Json,
    Csv,
}

impl Kind {
    fn of_extension(extension: Option<&str>) -> Option<Self> {
        match extension?.to_ascii_lowercase().as_str() {
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The kind of what has no name, by how it begins.
    fn of_content(content: &[u8]) -> Self {
        if content.starts_with(b"\x93NUMPY") {
            return Self::Npy;
        }
        if content.starts_with(b"PK\x03\x04") {
            return Self::Npz;
        }
        match content.trim_ascii_start().first() {
            Some(b'[' | b'{') => Self::Json,
            _ => Self::Csv,
        }
    }

    fn read(self, content: Bytes) -> anyhow::Result<Given> {
        match self {
            Self::Npy => Ok(Given::Tensor(npy::read(&content)?)),
            Self::Npz => {
                let arrays = npy::npz::read(&content, ARCHIVE_SIZE_MAX)?.into_iter();
                let several =
                    arrays.map(|(name, array)| (name.as_str().into(), Given::Tensor(array)));
                Ok(Given::Several(several.collect()))
            }
            Self::Json if content.trim_ascii_start().starts_with(b"{") => read_object(&content),
            Self::Json => Ok(Given::Json(content)),
            Self::Csv => read_rows(&content),
        }
    }
}

/// A request, if it has `inputs` as one has; otherwise arrays under the names of inputs.
fn read_object(content: &Bytes) -> anyhow::Result<Given> {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        inputs: Vec<&'a RawValue>,
    }

    let is_request = serde_json::from_slice::<Request>(content)
        .is_ok_and(|request| request.inputs.iter().all(|input| input.get().starts_with('{')));
    if is_request {
        let request = v2::decode_request(content.clone().into(), None)?;
        return Ok(Given::Request { inputs: request.inputs, outputs: request.outputs });
    }
    let arrays: BTreeMap<String, &RawValue> = serde_json::from_slice(content)?;
    let several = arrays.into_iter().map(|(name, array)| {
        (name.as_str().into(), Given::Json(content.slice_ref(array.get().as_bytes())))
    });
    Ok(Given::Several(several.collect()))
}

fn read_rows(content: &[u8]) -> anyhow::Result<Given> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for record in reader.records() {
        let row: Vec<String> = record?.iter().map(str::to_owned).collect();
        if let Some(first) = rows.first() {
            let (number, length, expected) = (rows.len() + 1, row.len(), first.len());
            ensure!(length == expected, "row {number} has {length} values, the first {expected}");
        }
        rows.push(row);
    }
    Ok(Given::Rows(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Source {
        Source::File(path.into())
    }

    fn value(text: &str) -> Source {
        Source::Value(text.into())
    }

    #[test]
    fn an_input_is_a_name_and_a_value_or_a_file() {
        for (text, name, source) in [
            ("x=[[1,2]]", Some("x"), value("[[1,2]]")),
            ("x=5", Some("x"), value("5")),
            ("x=", Some("x"), value("")),
            ("text=a=b", Some("text"), value("a=b")),
            ("a:0=@x.npy", Some("a:0"), file("x.npy")),
            ("x=@-", Some("x"), Source::Stdin),
            ("@all=1.npz", None, file("all=1.npz")),
            ("[\"a=b\"]", None, value("[\"a=b\"]")),
            ("5.1,3.5", None, value("5.1,3.5")),
        ] {
            let expected = Input { name: name.map(TensorName::from), source };
            assert_eq!(text.parse::<Input>().unwrap(), expected, "{text}");
        }
        for text in ["=5", "@", "x=@"] {
            assert!(text.parse::<Input>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_no_name_is_known_by_its_beginning() {
        for (content, kind) in [
            (&b"\x93NUMPY\x01"[..], Kind::Npy),
            (b"PK\x03\x04", Kind::Npz),
            (b" \n[1]", Kind::Json),
            (b"{}", Kind::Json),
            (b"1,2\n", Kind::Csv),
            (b"", Kind::Csv),
        ] {
            assert_eq!(Kind::of_content(content), kind);
        }
    }

    #[test]
    fn an_object_is_a_request_or_arrays_under_names() {
        let request = br#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[7]}],
            "outputs":[{"name":"y"}]}"#;
        let Given::Request { inputs, outputs } =
            Kind::Json.read(Bytes::from_static(request)).unwrap()
        else {
            panic!("no request");
        };
        assert_eq!((inputs.len(), outputs), (1, vec!["y".into()]));
        // An input may have that name, too.
        let arrays = Bytes::from_static(br#" {"inputs": [1, 2], "b": [[1.0]]}"#);
        let Given::Several(several) = Kind::Json.read(arrays).unwrap() else { panic!("one") };
        let shown: Vec<_> = several
            .iter()
            .map(|(name, given)| match given {
                Given::Json(text) => (name.as_str(), &text[..]),
                _ => panic!("no JSON"),
            })
            .collect();
        assert_eq!(shown, [("b", &b"[[1.0]]"[..]), ("inputs", b"[1, 2]")]);
        assert!(Kind::Json.read(Bytes::from_static(b"{\"a\":")).is_err());
    }

    #[test]
    fn rows_have_one_length() {
        let Given::Rows(rows) = read_rows(b"1,2\n\"a,\"\"b\",\n").unwrap() else {
            panic!("no rows")
        };
        assert_eq!(rows, [["1", "2"], ["a,\"b", ""]]);
        let error = read_rows(b"1,2\n3\n").unwrap_err().to_string();
        assert_eq!(error, "row 2 has 1 values, the first 2");
    }
}

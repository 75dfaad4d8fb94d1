//! The answer: outputs saved to files, the others printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use inferring_protocol::array::{self, Style};
use inferring_protocol::npy;
use inferring_types::{InferResponse, NamedTensor, Served, Tensor, TensorName};
use serde::Serialize;
use serde_json::value::RawValue;

/// How outputs are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people; long arrays are cut in the middle.
    Table,
    /// One JSON document with everything.
    Json,
    /// A NumPy file of the one output.
    Npy,
    /// A NumPy archive of all outputs.
    Npz,
}

/// An `--output`: which one, and where it goes. Without a name it is all, without a file the
/// terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: Option<TensorName>,
    file: Option<OutputFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OutputFile {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npy,
    Npz,
    Json,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) if !name.starts_with('@') => (Some(name), Some(file)),
            _ if text.starts_with('@') => (None, Some(text)),
            _ => (Some(text), None),
        };
        ensure!(name != Some(""), "expected a name before `=`");
        let file = file.map(str::parse::<OutputFile>).transpose()?;
        if let (None, Some(OutputFile { kind: Kind::Npy, .. })) = (name, &file) {
            bail!("a .npy file holds one output: name it, or save to a .npz file");
        }
        Ok(Self { name: name.map(TensorName::from), file })
    }
}

impl FromStr for OutputFile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text.strip_prefix('@').unwrap_or(text));
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Kind::Npy,
            Some("npz") => Kind::Npz,
            Some("json") => Kind::Json,
            _ => bail!("`{}`: expected a .npy, .npz or .json file", path.display()),
        };
        Ok(Self { path, kind })
    }
}

/// Whether any of these asks for all outputs.
pub(super) fn saves_all(targets: &[Target]) -> bool {
    targets.iter().any(|target| target.name.is_none())
}

/// Saves what is to be saved, and returns the outputs that are not.
pub(super) fn save<'a>(
    response: &'a InferResponse,
    targets: &[Target],
) -> anyhow::Result<Vec<&'a NamedTensor>> {
    // Several outputs may go to one file.
    let mut files: BTreeMap<&Path, (Kind, Vec<&NamedTensor>)> = BTreeMap::new();
    let goes_to = |target: &Target, output: &NamedTensor| {
        target.name.as_ref().is_none_or(|name| *name == output.name)
    };
    for target in targets {
        let Some(file) = &target.file else { continue };
        let chosen = response.outputs.iter().filter(|output| goes_to(target, output));
        let (_, outputs) = files.entry(&file.path).or_insert((file.kind, Vec::new()));
        outputs.extend(chosen);
    }
    for (path, (kind, outputs)) in files {
        let content = content(kind, &outputs).with_context(|| format!("`{}`", path.display()))?;
        std::fs::write(path, content)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let saved = |output: &&NamedTensor| {
        targets.iter().any(|target| target.file.is_some() && goes_to(target, output))
    };
    Ok(response.outputs.iter().filter(|output| !saved(output)).collect())
}

fn content(kind: Kind, outputs: &[&NamedTensor]) -> anyhow::Result<Vec<u8>> {
    match kind {
        Kind::Npz => archive(outputs),
        Kind::Npy => match outputs {
            [output] => npy_file(output),
            _ => bail!("a .npy file holds one output, and {} are to be saved", outputs.len()),
        },
        Kind::Json => {
            let arrays =
                outputs.iter().map(|output| Ok((output.name.as_str(), json(&output.tensor)?)));
            let arrays = arrays.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
            Ok(serde_json::to_vec(&arrays)?)
        }
    }
}

fn npy_file(output: &NamedTensor) -> anyhow::Result<Vec<u8>> {
    npy::write(&output.tensor).with_context(|| format!("output `{}`", output.name))
}

fn archive(outputs: &[&NamedTensor]) -> anyhow::Result<Vec<u8>> {
    let outputs: Vec<_> = outputs.iter().map(|&output| output.clone()).collect();
    Ok(npy::npz::write(&outputs)?)
}

fn json(tensor: &Tensor) -> anyhow::Result<Box<RawValue>> {
    Ok(RawValue::from_string(array::write(tensor, Style::JSON))?)
}

/// Prints these outputs of the response to standard output.
pub(super) fn print(
    response: &InferResponse,
    outputs: &[&NamedTensor],
    format: Format,
    round_trip: Duration,
) -> anyhow::Result<()> {
    let printed = match format {
        Format::Table => table(response, outputs, round_trip).into_bytes(),
        Format::Json => document(response, outputs, round_trip)?,
        // Everything was saved: an archive of nothing helps nobody.
        Format::Npy | Format::Npz if outputs.is_empty() => Vec::new(),
        Format::Npy => match outputs {
            [output] => npy_file(output)?,
            _ => bail!("--format npy prints one output, and there are {}", outputs.len()),
        },
        Format::Npz => archive(outputs)?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&printed).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Of larger tensors the beginning and end of each row are shown.
const SHOWN_WHOLE: u64 = 100;

/// How many elements are shown at either end.
const EDGE: usize = 4;

fn table(response: &InferResponse, outputs: &[&NamedTensor], round_trip: Duration) -> String {
    let mut text = String::new();
    for NamedTensor { name, tensor } in outputs {
        let edge_items = if tensor.elements() > SHOWN_WHOLE { EDGE } else { 0 };
        let style = Style { edge_items, indent: Some(2), quote_not_finite: false };
        let elements = array::write(tensor, style);
        let (datatype, shape) = (tensor.datatype(), tensor.shape());
        text.push_str(&format!("{name}  {datatype} {shape}\n  {elements}\n"));
    }
    let Served { worker, cache, inference_time, queue_time, execution_time, batch_size, load: _ } =
        &response.served;
    let run = if execution_time.is_zero() {
        String::new()
    } else {
        let rows = if *batch_size == 1 { "row" } else { "rows" };
        let (run, queue) = (Milliseconds(*execution_time), Milliseconds(*queue_time));
        format!(" (run {run} with {batch_size} {rows}, queue {queue})")
    };
    let (model, version) = (&response.model, &response.version);
    let (inference, whole) = (Milliseconds(*inference_time), Milliseconds(round_trip));
    text.push_str(&format!(
        "{model} version {version}, {} by {worker} in {inference}{run}; {whole} in all\n",
        match cache.name() {
            "hit" => "from the cache",
            "joined" => "shared with an equal request",
            other => other,
        },
    ));
    text
}

fn document(
    response: &InferResponse,
    outputs: &[&NamedTensor],
    round_trip: Duration,
) -> anyhow::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Document<'a> {
        id: &'a str,
        model_name: &'a str,
        model_version: &'a str,
        outputs: Vec<Output<'a>>,
        served: ServedDocument<'a>,
    }
    #[derive(Serialize)]
    struct Output<'a> {
        name: &'a str,
        datatype: &'a str,
        shape: &'a [u64],
        data: Box<RawValue>,
    }
    #[derive(Serialize)]
    struct ServedDocument<'a> {
        node_id: &'a str,
        cache: &'a str,
        inference_time_us: u128,
        queue_time_us: u128,
        execution_time_us: u128,
        batch_size: u32,
        round_trip_us: u128,
    }

    let outputs = outputs.iter().map(|NamedTensor { name, tensor }| {
        Ok(Output {
            name: name.as_str(),
            datatype: tensor.datatype().name(),
            shape: tensor.shape().dimensions(),
            data: json(tensor)?,
        })
    });
    let served = &response.served;
    let mut text = serde_json::to_vec(&Document {
        id: response.id.as_str(),
        model_name: response.model.as_str(),
        model_version: response.version.as_str(),
        outputs: outputs.collect::<anyhow::Result<_>>()?,
        served: ServedDocument {
            node_id: served.worker.as_str(),
            cache: served.cache.name(),
            inference_time_us: served.inference_time.as_micros(),
            queue_time_us: served.queue_time.as_micros(),
            execution_time_us: served.execution_time.as_micros(),
            batch_size: served.batch_size,
            round_trip_us: round_trip.as_micros(),
        },
    })?;
    text.push(b'\n');
    Ok(text)
}

/// A time with as many digits as say something.
pub(super) struct Milliseconds(pub(super) Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = self.0.as_secs_f64() * 1e3;
        let digits = if milliseconds < 10.0 { 2 } else { 0 };
        write!(f, "{milliseconds:.digits$} ms")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use inferring_types::{CacheOutcome, WorkerLoad};

    use super::*;

    fn response() -> InferResponse {
        let tensor =
            |values: &[f32]| Tensor::from_f32([1, values.len() as u64].into(), values).unwrap();
        let long: Vec<f32> = (0..101u8).map(f32::from).collect();
        let outputs = [("y", tensor(&[0.5, f32::NAN])), ("long", tensor(&long))]
            .map(|(name, tensor)| NamedTensor::new(name.into(), tensor));
        InferResponse {
            id: "r1".parse().unwrap(),
            model: "iris".parse().unwrap(),
            version: "3".parse().unwrap(),
            outputs: Arc::new(outputs),
            served: Served {
                worker: "worker_1".into(),
                cache: CacheOutcome::Computed,
                inference_time: Duration::from_micros(310),
                queue_time: Duration::from_micros(50),
                execution_time: Duration::from_micros(120),
                batch_size: 2,
                load: WorkerLoad::default(),
            },
            routed: None,
        }
    }

    #[test]
    fn a_target_is_an_output_and_a_file() {
        let file = |path: &str, kind| Some(OutputFile { path: path.into(), kind });
        for (text, name, expected) in [
            ("y", Some("y"), None),
            ("y=@y.npy", Some("y"), file("y.npy", Kind::Npy)),
            ("y=out/y.json", Some("y"), file("out/y.json", Kind::Json)),
            ("@all=1.npz", None, file("all=1.npz", Kind::Npz)),
        ] {
            let expected = Target { name: name.map(TensorName::from), file: expected };
            assert_eq!(text.parse::<Target>().unwrap(), expected, "{text}");
        }
        for text in ["=y.npy", "y=y.txt", "y=", "@y.npy"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_for_people_says_who_answered() {
        let response = response();
        let outputs: Vec<_> = response.outputs.iter().collect();
        let text = table(&response, &outputs, Duration::from_millis(12));
        assert_eq!(
            text,
            "y  FP32 [1,2]\n  [[0.5, NaN]]\n\
             long  FP32 [1,101]\n  [[0.0, 1.0, 2.0, 3.0, ..., 97.0, 98.0, 99.0, 100.0]]\n\
             iris version 3, computed by worker_1 in 0.31 ms (run 0.12 ms with 2 rows, \
             queue 0.05 ms); 12 ms in all\n",
        );
    }

    #[test]
    fn the_document_is_json_with_every_element() {
        let response = response();
        let outputs: Vec<_> = response.outputs.iter().collect();
        let text = document(&response, &outputs, Duration::from_millis(12)).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["outputs"][0]["data"], serde_json::json!([[0.5, "NaN"]]));
        assert_eq!(document["outputs"][1]["data"][0].as_array().unwrap().len(), 101);
        assert_eq!(document["served"]["round_trip_us"], 12_000);
    }

    #[test]
    fn saved_outputs_are_not_printed_and_one_file_takes_several() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.npz");
        let targets: Vec<Target> =
            ["y", "long"].map(|name| format!("{name}=@{}", path.display()).parse().unwrap()).into();
        assert!(save(&response(), &targets).unwrap().is_empty());
        let read = npy::npz::read(&std::fs::read(&path).unwrap(), 1 << 20).unwrap();
        assert_eq!(read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["y", "long"]);
        let response = response();
        let only_y = ["y=y.json".parse::<Target>().unwrap()];
        let only_y = only_y.map(|target| Target {
            file: target.file.map(|f| OutputFile { path: folder.path().join(f.path), ..f }),
            ..target
        });
        let rest = save(&response, &only_y).unwrap();
        assert_eq!(rest.len(), 1);
        let saved = std::fs::read_to_string(folder.path().join("y.json")).unwrap();
        assert_eq!(saved, r#"{"y":[[0.5,"NaN"]]}"#);
    }
}

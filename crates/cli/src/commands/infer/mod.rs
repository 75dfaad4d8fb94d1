//! `inferring infer`: asks a server for one inference, with inputs from files or the command line.
//!
//! The server's metadata tells which datatypes and shapes are wanted, so that what people have
//! at hand (numbers in JSON, CSV or a NumPy file) becomes that, or is refused with what was
//! expected before anything is sent.

mod answer;
mod explanation;
mod fit;
mod server;
mod source;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use inferring_types::{
    Deadline, InferRequest, ModelMetadata, ModelName, ModelVersion, NamedTensor, RequestId,
    SequenceId, SequenceStep, TensorName, TensorSpec,
};

use crate::http::Address;
use crate::node;
use answer::{Format, Target};
use server::{Asked, Ways};
use source::{Given, Input};

#[derive(Debug, clap::Args)]
pub(crate) struct InferArgs {
    /// The model to ask.
    model: ModelName,
    /// An input: NAME=VALUE, NAME=@FILE or, for a model with one input, only VALUE or @FILE.
    ///
    /// VALUE is a JSON array or a single value: `x=[[1,2,3]]`, `x=5`, `text=hello`. FILE is a .npy, .npz,
    /// .json or .csv file, or `-` for standard input. Without a name an .npz file gives all
    /// inputs; so does a .json file with an object of arrays or a whole request.
    #[arg(long, short, value_name = "[NAME=]VALUE")]
    input: Vec<Input>,
    /// An output to answer with [default: all], and the .npy, .npz or .json file to save it to.
    /// Only a FILE saves all outputs.
    #[arg(long, short, value_name = "NAME[=FILE]")]
    output: Vec<Target>,
    /// The server: a gateway, or a single worker.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: Address,
    /// The model's version, or an alias for it [default: the newest].
    #[arg(long, value_name = "VERSION")]
    version: Option<ModelVersion>,
    /// How long each question to the server may take.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "5s")]
    timeout: Duration,
    /// How urgent the request is: 1 is the most urgent [default: the model's].
    #[arg(long, value_name = "LEVEL")]
    priority: Option<NonZeroU32>,
    /// The sequence that the request belongs to, for a model whose state the server keeps. The
    /// inputs that it keeps are left out.
    #[arg(long, value_name = "ID")]
    sequence: Option<SequenceId>,
    /// Begin the sequence here.
    #[arg(long, requires = "sequence")]
    sequence_start: bool,
    /// End the sequence here: its state is forgotten.
    #[arg(long, requires = "sequence")]
    sequence_end: bool,
    /// How to print the outputs that are not saved.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Say which worker answered, why that one, and where the time went; of a failed request, which
    /// worker failed last.
    #[arg(long)]
    explain: bool,
    /// Send and receive tensors as JSON instead of raw: slower, and without NaN.
    #[arg(long)]
    json_tensors: bool,
}

pub(crate) fn run(args: InferArgs) -> anyhow::Result<ExitCode> {
    node::control_runtime()?.block_on(infer(args))
}

async fn infer(args: InferArgs) -> anyhow::Result<ExitCode> {
    let asked = Asked {
        address: args.url,
        model: args.model,
        version: args.version,
        timeout: args.timeout,
    };
    // Read first: a wrong path is the likelier mistake, and takes no server to find.
    let given = args.input.iter().map(Input::read).collect::<anyhow::Result<Vec<_>>>()?;
    let model = asked.metadata().await?;
    let given = by_name(&model, given)?;
    let mut inputs = Vec::with_capacity(given.tensors.len());
    for (name, given) in given.tensors {
        let Some(spec) = model.input(name.as_str()) else {
            // What it is decides nothing: the model refuses the name.
            model.arrange(vec![placeholder(name)])?;
            continue;
        };
        let tensor = fit::fit(spec, given, &mut |note| eprintln!("input `{name}`: {note}"))
            .with_context(|| format!("input `{name}`"))?;
        inputs.push(NamedTensor::new(spec.name.clone(), tensor));
    }
    let outputs = outputs(&model, &args.output, given.outputs)?;
    if args.format == Format::Npy {
        let printed = if outputs.is_empty() { model.outputs.len() } else { outputs.len() };
        ensure!(
            printed == 1 || answer::saves_all(&args.output),
            "--format npy prints one output, and there are {printed}: name one with --output, or \
             use --format npz",
        );
    }
    let (start, end) = (args.sequence_start, args.sequence_end);
    let sequence = args.sequence.map(|id| SequenceStep { id, start, end });
    let request = InferRequest {
        id: RequestId::generate(),
        model: asked.model.clone(),
        version: asked.version.clone(),
        // Which inputs a sequence needs is known to its worker alone.
        inputs: if sequence.is_some() { inputs } else { model.arrange(inputs)? },
        outputs,
        deadline: Deadline::after(Instant::now(), asked.timeout),
        priority: args.priority,
        sequence,
    };
    let started = Instant::now();
    let ways = Ways { as_json: args.json_tensors, explain: args.explain };
    let (response, explanation) = asked.infer(&request, ways).await?;
    let round_trip = started.elapsed();
    let rest = answer::save(&response, &args.output)?;
    answer::print(&response, &rest, args.format, round_trip)?;
    if args.explain {
        eprint!("{}", explanation::in_words(explanation.as_ref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is given for each input, and the outputs that a whole request asks for.
struct Named {
    tensors: Vec<(TensorName, Given)>,
    outputs: Vec<TensorName>,
}

/// Finds out for which input each thing is given.
fn by_name(
    model: &ModelMetadata,
    given: Vec<(Option<TensorName>, Given)>,
) -> anyhow::Result<Named> {
    let mut named = Named { tensors: Vec::new(), outputs: Vec::new() };
    for (name, given) in given {
        match (name, given) {
            (Some(name), Given::Several(mut several)) => {
                ensure!(
                    several.len() == 1,
                    "input `{name}`: the file holds {} arrays, not one: give it without a name \
                     for all inputs at once",
                    several.len(),
                );
                let (_, given) = several.remove(0);
                named.tensors.push((name, given));
            }
            (None, Given::Several(several)) => named.tensors.extend(several),
            (Some(name), Given::Request { .. }) => {
                bail!("input `{name}`: a whole request is given without a name");
            }
            (None, Given::Request { inputs, outputs }) => {
                let tensors =
                    inputs.into_iter().map(|input| (input.name, Given::Tensor(input.tensor)));
                named.tensors.extend(tensors);
                named.outputs.extend(outputs);
            }
            (Some(name), given) => named.tensors.push((name, given)),
            (None, given) => match &model.inputs[..] {
                [only] => named.tensors.push((only.name.clone(), given)),
                inputs => bail!(
                    "model `{}` takes {} inputs ({}): say for which with --input NAME=…",
                    model.name,
                    inputs.len(),
                    names(inputs),
                ),
            },
        }
    }
    Ok(named)
}

/// The outputs to ask for; none for all.
fn outputs(
    model: &ModelMetadata,
    targets: &[Target],
    of_request: Vec<TensorName>,
) -> anyhow::Result<Vec<TensorName>> {
    if answer::saves_all(targets) {
        return Ok(Vec::new());
    }
    let mut outputs: Vec<_> = targets.iter().filter_map(|t| t.name.clone()).collect();
    if outputs.is_empty() {
        outputs = of_request;
    }
    let stranger =
        outputs.iter().find(|name| !model.outputs.iter().any(|spec| spec.name == **name));
    if let Some(stranger) = stranger {
        let expected = names(&model.outputs);
        bail!("model `{}` has no output `{stranger}`: expected {expected}", model.name);
    }
    Ok(outputs)
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
}

/// Any tensor under this name.
fn placeholder(name: TensorName) -> NamedTensor {
    let tensor = inferring_types::Tensor::from_f32([0].into(), &[]);
    NamedTensor::new(name, tensor.expect("no elements for a shape of none"))
}

fn positive_duration(text: &str) -> anyhow::Result<Duration> {
    let duration = humantime::parse_duration(text).context("expected a time such as 30s")?;
    ensure!(!duration.is_zero(), "expected a time above zero");
    Ok(duration)
}

//! `inferring inspect`: tells what a model takes and gives, whether it batches, and how to ask it.

mod examples;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use inferring_backend::ort::OrtBackend;
use inferring_backend::{Backend, LoadOptions, LoadedModel};
use inferring_repository::{ModelSettings, Repository};
use inferring_types::{BackendStatus, ModelName, TensorSpec};
use inferring_worker::{Proof, prove_by};
use serde_json::json;

use crate::common::{Common, Output};
use crate::config::{self, Overrides};
use crate::http::Address;
use crate::log;
use examples::{Client, Subject};

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The model file, or the folder of a model: its newest version is looked at.
    model: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Print nothing but ready-made questions to the model, for these clients.
    #[arg(
        long,
        value_enum,
        value_name = "CLIENT",
        value_delimiter = ',',
        conflicts_with = "output"
    )]
    examples: Vec<Client>,
}

pub(crate) fn run(args: &InspectArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let config = config::load(common, Overrides::default())?;
    log::start(&config.log)?;
    // Where this configuration would serve the model.
    let address = Address::of_listener(&config.listen.gateway)?;
    let Found { path, name: found_name, settings } = find(&args.model)?;
    let path = &path;
    let backend = OrtBackend::start(config.backend.ort())?;
    let mut model = backend.load(path, &LoadOptions::default())?;
    let specs = (&model.inputs[..], &model.outputs[..]);
    let proof = prove_by(&settings, &config.worker, &mut *model.session, specs)?;
    let engine = backend.status();
    // A file whose name cannot name a model has to be renamed before it can be served.
    let any_name = || "model".parse().expect("letters are a name");
    let name = found_name.clone().unwrap_or_else(any_name);
    let example = |client| {
        let subject = Subject {
            name: &name,
            inputs: &model.inputs,
            outputs: &model.outputs,
            address: &address,
        };
        examples::example(&subject, client)
    };
    match args.output {
        _ if !args.examples.is_empty() => {
            let texts = args.examples.iter().map(|&client| example(client));
            let texts = texts.collect::<Option<Vec<_>>>().context(
                "the model's inputs are too large for an example: see `inferring infer --help`",
            )?;
            print!("{}", texts.join("\n"));
        }
        Output::Text => {
            print!("{}", as_text(path, &model, &proof, &engine));
            print_examples(&args.model, &example);
        }
        Output::Json => {
            let mut document = as_json(path, found_name.as_ref(), &model, &proof, &engine);
            document["examples"] = Client::ALL
                .into_iter()
                .filter_map(|client| Some((client.name().to_owned(), example(client)?.into())))
                .collect::<serde_json::Map<_, _>>()
                .into();
            println!("{document:#}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All examples, each under the name that `--examples` has for it.
fn print_examples(path: &Path, example: &dyn Fn(Client) -> Option<String>) {
    println!("\nOnce it is served (inferring serve {}), ask it:", path.display());
    for client in Client::ALL {
        if let Some(text) = example(client) {
            println!("\n## {}\n{}", client.name(), text.trim_end());
        }
    }
}

/// What is looked at.
struct Found {
    /// The file.
    path: PathBuf,
    /// The name under which it would be served.
    name: Option<ModelName>,
    /// By which it would be served.
    settings: ModelSettings,
}

fn find(path: &Path) -> anyhow::Result<Found> {
    let found = std::fs::metadata(path)
        .with_context(|| format!("cannot read model file `{}`", path.display()))?;
    if !found.is_dir() {
        let name = path.file_stem().and_then(|stem| stem.to_string_lossy().parse().ok());
        return Ok(Found { path: path.to_owned(), name, settings: ModelSettings::default() });
    }
    let snapshot = Repository::open([path])?.scan();
    match snapshot.models() {
        [] => bail!("`{}` holds no model", path.display()),
        [only] => {
            let plan = only.plan.as_ref().map_err(|error| anyhow!(error.clone()))?;
            let newest = plan.versions.last().expect("a plan has at least one version");
            Ok(Found {
                path: newest.path.clone(),
                name: Some(plan.name.clone()),
                settings: plan.settings.clone(),
            })
        }
        several => {
            let names: Vec<_> = several.iter().map(|model| model.name.to_string()).collect();
            let names = names.join(", ");
            bail!("`{}` holds several models ({names}): name the folder of one", path.display())
        }
    }
}

fn as_text(path: &Path, model: &LoadedModel, proof: &Proof, engine: &BackendStatus) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<12}{value}").expect("writing to memory does not fail");
    };
    line("model", &path.display().to_string());
    line("size", &format!("{} bytes", model.size_bytes));
    line("digest", &model.digest.to_string());
    for (name, specs) in [("input", &model.inputs), ("output", &model.outputs)] {
        for spec in specs {
            line(name, &format!("{}  {} {}", spec.name, spec.datatype, spec.shape));
        }
    }
    for note in &model.notes {
        line("note", note);
    }
    if !model.deterministic {
        line("note", "draws random numbers: its answers are never kept or shared");
    }
    let joins = if proof.batching.joins_rows() { "yes" } else { "no" };
    line("batches", &format!("{joins}: {}", proof.batching.reason()));
    line("device", &model.device.provider);
    if let Some(reason) = &model.device.fallback_reason {
        line("", &format!("not CUDA: {reason}"));
    }
    let library = engine.library.as_deref().unwrap_or("built in");
    let found_by = engine.found_by.as_deref().unwrap_or("part of this program");
    line("engine", &format!("{} {}  {library} ({found_by})", engine.name, engine.version));
    text
}

fn as_json(
    path: &Path,
    name: Option<&ModelName>,
    model: &LoadedModel,
    proof: &Proof,
    engine: &BackendStatus,
) -> serde_json::Value {
    let tensor = |spec: &TensorSpec| {
        json!({
            "name": spec.name.as_str(),
            "datatype": spec.datatype.name(),
            "shape": spec.shape.dimensions().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    json!({
        "path": path,
        "name": name.map(ModelName::as_str),
        "size_bytes": model.size_bytes,
        "digest": model.digest.to_string(),
        "inputs": model.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": model.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "batches": proof.batching.joins_rows(),
        "batching_reason": proof.batching.reason(),
        "deterministic": model.deterministic,
        "notes": model.notes,
        "provider": model.device.provider,
        "fallback_reason": model.device.fallback_reason,
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "library": engine.library,
            "found_by": engine.found_by,
        },
    })
}

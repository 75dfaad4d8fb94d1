//! `inferring inspect`: tells what a model takes and gives, and whether it batches.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use inferring_backend::ort::OrtBackend;
use inferring_backend::{Backend, LoadOptions, LoadedModel};
use inferring_types::{BackendStatus, ModelName, TensorSpec};
use inferring_worker::{Proof, prove};
use serde_json::json;

use crate::common::{Common, Output};
use crate::config::{self, Overrides};
use crate::log;

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The model file.
    model: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: &InspectArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let config = config::load(common, Overrides::default())?;
    log::start(&config.log)?;
    let path = &args.model;
    std::fs::metadata(path)
        .with_context(|| format!("cannot read model file `{}`", path.display()))?;
    let backend = OrtBackend::start(config.backend.ort())?;
    let mut model = backend.load(path, &LoadOptions::default())?;
    let proof = prove(&mut *model.session, &model.inputs, &model.outputs);
    let engine = backend.status();
    match args.output {
        Output::Text => print!("{}", as_text(path, &model, &proof, &engine)),
        Output::Json => println!("{:#}", as_json(path, &model, &proof, &engine)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The name under which the file would be served.
fn name_of(path: &Path) -> Option<ModelName> {
    path.file_stem()?.to_string_lossy().parse().ok()
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
        "name": name_of(path).map(|name| name.to_string()),
        "size_bytes": model.size_bytes,
        "digest": model.digest.to_string(),
        "inputs": model.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": model.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "batches": proof.batching.joins_rows(),
        "batching_reason": proof.batching.reason(),
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

//! What the serving commands have in common: the engine, model files, signals, and the way from
//! a bound address to an orderly end.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use inferring_backend::ort::OrtBackend;
use inferring_server::{Node, Server};
use inferring_types::WorkerId;
use inferring_worker::{ModelFile, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::Config;

/// Loads the models in the configuration into a worker.
pub(crate) fn start_worker(
    id: WorkerId,
    backend: &OrtBackend,
    config: &Config,
) -> anyhow::Result<Arc<Worker>> {
    let files = model_files(config)?;
    Ok(Worker::start(id, &files, backend, &config.worker)?)
}

/// Starts ONNX Runtime.
pub(crate) fn start_backend(config: &Config) -> anyhow::Result<OrtBackend> {
    // Model files are checked first: a wrong path is the likelier mistake.
    model_files(config)?;
    Ok(OrtBackend::start(config.backend.ort())?)
}

fn model_files(config: &Config) -> anyhow::Result<Vec<ModelFile>> {
    if config.models.is_empty() {
        bail!(
            "no model to serve: name an .onnx file on the command line, in MODEL_PATH (worker) \
             or as `models` in the configuration"
        );
    }
    config.models.iter().map(|path| model_file(path)).collect()
}

fn model_file(path: &Path) -> anyhow::Result<ModelFile> {
    std::fs::metadata(path)
        .with_context(|| format!("cannot read model file `{}`", path.display()))?;
    ModelFile::named_after(path)
        .with_context(|| format!("model file `{}`: rename it", path.display()))
}

/// The runtime of everything that is not a request: accepting, probing, signals.
pub(crate) fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// What is told once requests are taken: the line for which scripts wait.
pub(crate) struct Ready {
    /// What kind of node it is.
    pub(crate) what: &'static str,
    /// What it serves.
    pub(crate) detail: String,
}

/// Says that `node` is ready and serves it until Ctrl-C or SIGTERM; then calls `start_draining`
/// and lets what is in flight finish. A second signal ends the process at once.
pub(crate) async fn serve_until_signal(
    server: Server,
    node: Arc<dyn Node>,
    config: &Config,
    ready: Ready,
    start_draining: impl FnOnce(),
) -> anyhow::Result<ExitCode> {
    // Before anybody is told: whoever reads the line may at once ask the process to stop.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    announce(&ready, &server);
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("stopping: requests in flight are finished first");
        start_draining();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    };
    let cut = server.serve(node, config.server.clone(), stop).await?;
    info!("stopped");
    Ok(if cut == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(Ready { what, detail }: &Ready, server: &Server) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(out, "{what} ready on http://{} {detail}", server.local_addr());
    let _ = out.flush();
}

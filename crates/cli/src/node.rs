//! What the serving commands have in common: the engine, model files, signals, and the way from
//! a bound address to an orderly end.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use inferring_backend::ort::OrtBackend;
use inferring_repository::Repository;
use inferring_server::{BindError, Node, Server};
use inferring_types::{ModelMetadata, WorkerId};
use inferring_worker::Worker;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::Config;

/// Loads the models in the configuration into a worker.
pub(crate) fn start_worker(
    id: WorkerId,
    repository: Repository,
    backend: &OrtBackend,
    config: &Config,
) -> anyhow::Result<Arc<Worker>> {
    Ok(Worker::start(id, repository, Arc::new(backend.clone()), &config.worker)?)
}

/// Starts ONNX Runtime.
pub(crate) fn start_backend(config: &Config) -> anyhow::Result<OrtBackend> {
    Ok(OrtBackend::start(config.backend.ort())?)
}

/// The models that the configuration names.
///
/// It is opened before anything else is started: a wrong path is the likeliest mistake.
pub(crate) fn open_repository(config: &Config) -> anyhow::Result<Repository> {
    if config.models.is_empty() {
        bail!(
            "no model to serve: name an .onnx file or a folder of models on the command line, in \
             MODEL_PATH (worker) or as `models` in the configuration"
        );
    }
    Ok(Repository::open(&config.models)?)
}

/// The runtime of everything that is not a request: accepting, probing, signals.
pub(crate) fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Binds where to listen, and where to listen besides.
pub(crate) fn bind(address: &str, config: &Config) -> Result<Server, BindError> {
    let server = Server::bind(address)?;
    match &config.listen.grpc {
        Some(address) => server.and_bind(address),
        None => Ok(server),
    }
}

/// The names of models for a line of text: each once, and not all of very many.
pub(crate) fn list(models: &[Arc<ModelMetadata>]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    // Versions of one model are side by side.
    names.dedup();
    let hidden = names.len().saturating_sub(SHOWN_MAX);
    names.truncate(SHOWN_MAX);
    let shown = names.join(", ");
    if hidden == 0 { shown } else { format!("{shown} and {hidden} more") }
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
    let _ = write!(out, "{what} ready on http://{} {detail}", server.local_addr());
    for address in server.further_addrs() {
        let _ = write!(out, ", also on http://{address}");
    }
    let _ = writeln!(out);
    let _ = out.flush();
}

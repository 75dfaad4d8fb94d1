//! What the serving commands have in common: the engine, model files, signals, and the way from
//! a bound address to an orderly end.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use inferring_backend::ort::OrtBackend;
use inferring_repository::Repository;
use inferring_server::AdminNode;
use inferring_types::{ModelMetadata, WorkerId};
use inferring_worker::Worker;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use crate::config::Config;
use crate::listening::Listeners;
use crate::supervisor;

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

/// Says that `node` is ready and serves it until Ctrl-C or SIGTERM; then has it drain and lets what
/// is in flight finish. A second signal ends the process at once.
///
/// Operators are listened to until the last client is served.
pub(crate) async fn serve_until_signal(
    listeners: Listeners,
    node: Arc<dyn AdminNode>,
    config: &Config,
    ready: Ready,
) -> anyhow::Result<ExitCode> {
    // Before anybody is told: whoever reads the line may at once ask the process to stop.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    listeners.announce(ready.what, &ready.detail);
    supervisor::tell_ready(&ready.detail);
    let Listeners { clients, operators } = listeners;
    let draining = node.clone();
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("stopping: requests in flight are finished first");
        supervisor::tell_stopping();
        draining.set_draining(true);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    };
    let (clients_served, all_served) = oneshot::channel::<()>();
    let serving_clients = async {
        let cut = clients.serve(node.clone(), config.server.clone(), stop).await;
        drop(clients_served);
        cut
    };
    let serving_operators = async {
        let Some(operators) = operators else { return Ok(0) };
        let stop = async { drop(all_served.await) };
        operators.serve_admin(node.clone(), config.server.clone(), stop).await
    };
    let (cut, operators) = tokio::join!(serving_clients, serving_operators);
    operators?;
    info!("stopped");
    Ok(if cut? == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

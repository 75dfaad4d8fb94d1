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
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use crate::config::Config;
use crate::listening::Listeners;
use crate::supervisor;

/// A worker that is to serve the models in the configuration.
pub(crate) fn new_worker(
    id: WorkerId,
    repository: Repository,
    backend: &OrtBackend,
    config: &Config,
) -> Arc<Worker> {
    Worker::new(id, repository, Arc::new(backend.clone()), &config.worker)
}

/// Has a worker load its models, on a thread that may take its time.
pub(crate) async fn load_models(worker: &Arc<Worker>) -> anyhow::Result<()> {
    let worker = worker.clone();
    let loaded = tokio::task::spawn_blocking(move || worker.load_models()).await;
    Ok(loaded.context("loading the models ended in a panic")??)
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

/// Serves `node` until Ctrl-C or SIGTERM; then has it drain and lets what is in flight finish. A
/// second signal ends the process at once, and so does the first one before the node is ready.
///
/// From the first moment on the node answers how it is. `getting_ready` begins then; when it is
/// done, those are told who wait for the node to take requests.
///
/// Operators are listened to until the last client is served.
pub(crate) async fn serve_until_signal(
    listeners: Listeners,
    node: Arc<dyn AdminNode>,
    config: &Config,
    getting_ready: impl Future<Output = anyhow::Result<Ready>>,
) -> anyhow::Result<ExitCode> {
    // Before anybody is told: whoever reads the line may at once ask the process to stop.
    let mut signals = Signals::listen()?;
    let places = listeners.places();
    let (stop, stopping) = oneshot::channel::<()>();
    let draining = node.clone();
    let life = async {
        let ready = tokio::select! {
            ready = getting_ready => ready?,
            () = signals.next() => {
                info!("stopping: no request was taken yet");
                end_at_once(0);
            }
        };
        places.announce(ready.what, &ready.detail);
        supervisor::tell_ready(&ready.detail);
        signals.next().await;
        info!("stopping: requests in flight are finished first");
        supervisor::tell_stopping();
        draining.set_draining(true);
        drop(stop);
        tokio::spawn(async move {
            signals.next().await;
            end_at_once(130);
        });
        Ok(())
    };
    let serving = serve(listeners, node, config, async { drop(stopping.await) });
    let (cut, ()) = tokio::try_join!(serving, life)?;
    info!("stopped");
    Ok(if cut == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves clients until `stop` completes and the last of them is served, and operators until then.
/// Returns how many connections of clients were cut.
async fn serve(
    listeners: Listeners,
    node: Arc<dyn AdminNode>,
    config: &Config,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<usize> {
    let Listeners { clients, operators } = listeners;
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
    Ok(cut?)
}

/// What asks the process to stop: Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Completes with the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ends the process as it stands, whatever its threads are at.
///
/// The ordinary way would first take down what ONNX Runtime keeps for the whole process, and a
/// thread that is loading or running a model would crash on its absence.
fn end_at_once(code: i32) -> ! {
    #[expect(unsafe_code, reason = "the standard library has no way to end so")]
    // SAFETY: it has no preconditions, and nothing of this process runs after it.
    unsafe {
        libc::_exit(code)
    }
}

//! `inferring worker`: serves models as one worker of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use inferring_types::InferenceService;

use crate::common::Common;
use crate::config::{self, Overrides, ServingFlags};
use crate::log;
use crate::node::{self, Ready};

#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Model files and folders of models; the first model is the default one. MODEL_PATH names one
    /// of them where none is given.
    models: Vec<PathBuf>,
    /// Where to listen; port 0 takes any free port.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to listen besides, for clients that expect gRPC on a port of its own. Both ports
    /// answer gRPC and REST.
    #[arg(long, value_name = "HOST:PORT")]
    grpc_listen: Option<String>,
    /// The id that answers and health checks carry; the address where none is given.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    serving: ServingFlags,
}

pub(crate) fn run(args: WorkerArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let mut models = args.models;
    if models.is_empty() {
        models.extend(std::env::var_os("MODEL_PATH").map(PathBuf::from));
    }
    let overrides = Overrides::default()
        .with_list("models", &models)
        .with("listen.worker", args.listen)
        .with("listen.grpc", args.grpc_listen)
        .with("id", args.id);
    let mut config = config::load(common, args.serving.over(overrides))?;
    config.server.leave_cores_to_models();
    log::start(&config.log)?;
    let repository = node::open_repository(&config)?;
    node::control_runtime()?.block_on(async {
        let server = node::bind(&config.listen.worker, &config)?;
        let id = config.id.clone().unwrap_or_else(|| server.local_addr().to_string());
        let backend = node::start_backend(&config)?;
        let worker = node::start_worker(id.as_str().into(), repository, &backend, &config)?;
        let detail = format!("as {id}, models: {}", node::list(&worker.models()));
        let ready = Ready { what: "worker", detail };
        let draining = worker.clone();
        let served = worker.clone();
        let stopped = || draining.start_draining();
        let code = node::serve_until_signal(server, served, &config, ready, stopped).await;
        worker.close();
        code
    })
}

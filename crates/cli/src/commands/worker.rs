//! `inferring worker`: serves models as one worker of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use inferring_server::Server;
use inferring_types::{InferenceService, WorkerId};

use crate::common::Common;
use crate::config::{self, Overrides};
use crate::log;
use crate::node::{self, Ready};

#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Model files; the first is the default model. MODEL_PATH names one where none is given.
    models: Vec<PathBuf>,
    /// Where to listen; port 0 takes any free port.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The id that answers and health checks carry; the address where none is given.
    #[arg(long)]
    id: Option<String>,
}

pub(crate) fn run(args: WorkerArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let mut models = args.models;
    if models.is_empty() {
        models.extend(std::env::var_os("MODEL_PATH").map(PathBuf::from));
    }
    let overrides = Overrides::default()
        .with_list("models", &models)
        .with("listen.worker", args.listen)
        .with("id", args.id);
    let mut config = config::load(common, overrides)?;
    config.server.leave_cores_to_models();
    log::start(&config.log)?;
    node::control_runtime()?.block_on(async {
        let server = Server::bind(&config.listen.worker)?;
        let id = config.id.clone().unwrap_or_else(|| server.local_addr().to_string());
        let backend = node::start_backend(&config)?;
        let worker = node::start_worker(WorkerId::from(id.as_str()), &backend, &config)?;
        let models: Vec<_> = worker.models().iter().map(|model| model.name.to_string()).collect();
        let detail = format!("as {id}, models: {}", models.join(", "));
        let ready = Ready { what: "worker", detail };
        let draining = worker.clone();
        let served = worker.clone();
        let stopped = || draining.start_draining();
        let code = node::serve_until_signal(server, served, &config, ready, stopped).await;
        worker.close();
        code
    })
}

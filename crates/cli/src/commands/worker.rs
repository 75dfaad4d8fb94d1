//! `inferring worker`: serves models as one worker of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use inferring_types::InferenceService;

use crate::common::Common;
use crate::config::{self, Overrides, ServingFlags};
use crate::inherited::Inherited;
use crate::listening::{ListenFlags, Listeners};
use crate::log;
use crate::node::{self, Ready};

#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Model files and folders of models; the first model is the default one. MODEL_PATH names one
    /// of them where none is given.
    models: Vec<PathBuf>,
    #[command(flatten)]
    listening: ListenFlags,
    /// The id that answers and health checks carry; the address where none is given.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    serving: ServingFlags,
}

pub(crate) fn run(args: WorkerArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let inherited = Inherited::take()?;
    let mut models = args.models;
    if models.is_empty() {
        models.extend(std::env::var_os("MODEL_PATH").map(PathBuf::from));
    }
    let overrides = Overrides::default().with_list("models", &models).with("id", args.id);
    let overrides = args.listening.over(overrides, "listen.worker");
    let mut config = config::load(common, args.serving.over(overrides))?;
    config.server.leave_cores_to_models();
    log::start(&config.log)?;
    let repository = node::open_repository(&config)?;
    node::control_runtime()?.block_on(async {
        let listeners = Listeners::bind(&config.listen.worker, &config, inherited)?;
        let id = config.id.clone().unwrap_or_else(|| listeners.local_addr().to_string());
        let backend = node::start_backend(&config)?;
        let worker = node::new_worker(id.as_str().into(), repository, &backend, &config);
        let loading = async {
            node::load_models(&worker).await?;
            let detail = format!("as {id}, models: {}", node::list(&worker.models()));
            Ok(Ready { what: "worker", detail })
        };
        let code = node::serve_until_signal(listeners, worker.clone(), &config, loading).await;
        worker.close();
        code
    })
}

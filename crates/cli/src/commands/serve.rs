//! `inferring serve`: a gateway over workers, all in this process.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use inferring_gateway::{Gateway, Member};
use inferring_types::{InferenceService, WorkerId};
use inferring_worker::Worker;

use crate::common::Common;
use crate::config::{self, Overrides, ServingFlags};
use crate::log;
use crate::node::{self, Ready};

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Model files and folders of models; the first model is the default one.
    models: Vec<PathBuf>,
    /// How many workers.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Where to listen; port 0 takes any free port.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to listen besides, for clients that expect gRPC on a port of its own. Both ports
    /// answer gRPC and REST.
    #[arg(long, value_name = "HOST:PORT")]
    grpc_listen: Option<String>,
    #[command(flatten)]
    serving: ServingFlags,
}

pub(crate) fn run(args: ServeArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let overrides = Overrides::default()
        .with_list("models", &args.models)
        .with("serve.workers", args.workers)
        .with("listen.gateway", args.listen)
        .with("listen.grpc", args.grpc_listen);
    let mut config = config::load(common, args.serving.over(overrides))?;
    config.server.leave_cores_to_models();
    log::start(&config.log)?;
    let repository = node::open_repository(&config)?;
    node::control_runtime()?.block_on(async {
        let server = node::bind(&config.listen.gateway, &config)?;
        let backend = node::start_backend(&config)?;
        let workers = (1..=config.serve.workers.get())
            .map(|number| {
                let id = WorkerId::from(format!("worker_{number}").as_str());
                Ok((id.clone(), node::start_worker(id, repository.clone(), &backend, &config)?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let members = workers.iter().map(|(id, worker)| member(id, worker)).collect();
        let gateway = Gateway::new(members, config.gateway.clone())?;
        let _probes = gateway.start_probes().await;
        let ready = Ready { what: "gateway", detail: describe(&workers, &*gateway) };
        let draining = gateway.clone();
        let stopped = || draining.start_draining();
        let code = node::serve_until_signal(server, gateway, &config, ready, stopped).await;
        for (_, worker) in &workers {
            worker.close();
        }
        code
    })
}

fn member(id: &WorkerId, worker: &Arc<Worker>) -> Member {
    Member {
        id: id.clone(),
        address: "in process".to_owned(),
        weight: 1.0,
        service: worker.clone(),
    }
}

fn describe(workers: &[(WorkerId, Arc<Worker>)], service: &dyn InferenceService) -> String {
    let plural = if workers.len() == 1 { "" } else { "s" };
    format!("over {} worker{plural}, models: {}", workers.len(), node::list(&service.models()))
}

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
use crate::inherited::Inherited;
use crate::listening::{ListenFlags, Listeners};
use crate::log;
use crate::node::{self, Ready};
use crate::remote;

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Model files and folders of models; the first model is the default one.
    models: Vec<PathBuf>,
    /// How many workers.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    listening: ListenFlags,
    #[command(flatten)]
    serving: ServingFlags,
}

pub(crate) fn run(args: ServeArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let inherited = Inherited::take()?;
    let overrides =
        Overrides::default().with_list("models", &args.models).with("serve.workers", args.workers);
    let overrides = args.listening.over(overrides, "listen.gateway");
    let mut config = config::load(common, args.serving.over(overrides))?;
    config.server.leave_cores_to_models();
    log::start(&config.log)?;
    let repository = node::open_repository(&config)?;
    node::control_runtime()?.block_on(async {
        let listeners = Listeners::bind(&config.listen.gateway, &config, inherited)?;
        let backend = node::start_backend(&config)?;
        let workers: Vec<_> = (1..=config.serve.workers.get())
            .map(|number| {
                let id = WorkerId::from(format!("worker_{number}").as_str());
                (id.clone(), node::new_worker(id, repository.clone(), &backend, &config))
            })
            .collect();
        let members = workers.iter().map(|(id, worker)| member(id, worker)).collect();
        let connect = remote::connector(&config.client);
        let gateway = Gateway::with_connector(members, config.gateway.clone(), connect)?;
        // So that it can tell why it takes no requests yet. It takes them when all have loaded.
        gateway.probe_all().await;
        let mut probes = None;
        let loading = async {
            for (_, worker) in &workers {
                node::load_models(worker).await?;
            }
            probes = Some(gateway.start_probes().await);
            Ok(Ready { what: "gateway", detail: describe(&workers, &*gateway) })
        };
        let code = node::serve_until_signal(listeners, gateway.clone(), &config, loading).await;
        drop(probes);
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

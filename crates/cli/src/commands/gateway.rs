//! `inferring gateway`: routes requests to workers in other processes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use inferring_gateway::discovery::{FixedList, MembershipSource, WatchedFile};
use inferring_gateway::{Gateway, MembershipConfig};
use inferring_types::{NodeStatus, StatusSource, WorkerSpec};

use crate::common::Common;
use crate::config::{self, Config, Overrides};
use crate::inherited::Inherited;
use crate::listening::{ListenFlags, Listeners};
use crate::log;
use crate::node::{self, Ready};
use crate::remote;

#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Workers, each `[ID=]HOST:PORT[*WEIGHT]`. The id, which defaults to the address, fixes the
    /// worker's place on the ring: all gateways must use the same.
    #[arg(value_name = "WORKER")]
    workers: Vec<String>,
    /// A TOML file that lists the workers instead, followed while the gateway runs.
    #[arg(long, value_name = "FILE", conflicts_with = "workers")]
    workers_file: Option<PathBuf>,
    #[command(flatten)]
    listening: ListenFlags,
}

pub(crate) fn run(args: GatewayArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let inherited = Inherited::take()?;
    let overrides = Overrides::default()
        .with_list("workers", &args.workers)
        .with("gateway.membership.file", args.workers_file);
    let config = config::load(common, args.listening.over(overrides, "listen.gateway"))?;
    log::start(&config.log)?;
    let mut source = source(&config)?;
    node::control_runtime()?.block_on(async {
        let workers = source.next().await?;
        let connect = remote::connector(&config.client);
        let gateway = Gateway::from_list(workers, config.gateway.clone(), connect)?;
        let listeners = Listeners::bind(&config.listen.gateway, &config, inherited)?;
        let _probes = gateway.start_probes().await;
        let _following = gateway.follow(source).await;
        let ready = Ready { what: "gateway", detail: describe(&gateway).await };
        node::serve_until_signal(listeners, gateway, &config, std::future::ready(Ok(ready))).await
    })
}

/// Where the list of workers comes from.
fn source(config: &Config) -> anyhow::Result<Box<dyn MembershipSource>> {
    let MembershipConfig { file, interval } = &config.gateway.membership;
    match (file, &config.workers[..]) {
        (None, []) => bail!(
            "no worker to route to: name them on the command line (inferring gateway \
             localhost:8001 localhost:8002), as `workers` in the configuration, or in a file \
             (--workers-file)"
        ),
        (Some(_), [_, ..]) => bail!(
            "there are two lists of workers, `workers` and the file `gateway.membership.file`: \
             name one of them"
        ),
        (Some(file), []) => Ok(Box::new(WatchedFile::new(file.clone(), *interval))),
        (None, workers) => {
            let workers = workers.iter().map(|text| text.parse());
            let workers = workers.collect::<Result<Vec<WorkerSpec>, _>>()?;
            Ok(Box::new(FixedList::new(workers)))
        }
    }
}

async fn describe(gateway: &Arc<Gateway>) -> String {
    let Ok(NodeStatus::Gateway(status)) = gateway.status().await else {
        return String::new();
    };
    let reachable = status.workers.iter().filter(|worker| worker.reachable).count();
    let total = status.workers.len();
    format!("over {total} workers, {reachable} reachable, models: {}", node::list(&status.models))
}

//! `inferring gateway`: routes requests to workers in other processes.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use inferring_client::{ClientConfig, RemoteWorker};
use inferring_gateway::{Gateway, Member};
use inferring_types::{NodeStatus, StatusSource, WorkerId};

use crate::common::Common;
use crate::config::{self, Overrides};
use crate::log;
use crate::node::{self, Ready};

#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Workers, each `[ID=]HOST:PORT[*WEIGHT]`. The id, which defaults to the address, fixes the
    /// worker's place on the ring: all gateways must use the same.
    #[arg(value_name = "WORKER")]
    workers: Vec<String>,
    /// Where to listen; port 0 takes any free port.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to listen besides, for clients that expect gRPC on a port of its own. Both ports
    /// answer gRPC and REST.
    #[arg(long, value_name = "HOST:PORT")]
    grpc_listen: Option<String>,
}

pub(crate) fn run(args: GatewayArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let overrides = Overrides::default()
        .with_list("workers", &args.workers)
        .with("listen.gateway", args.listen)
        .with("listen.grpc", args.grpc_listen);
    let config = config::load(common, overrides)?;
    log::start(&config.log)?;
    if config.workers.is_empty() {
        bail!(
            "no worker to route to: name them on the command line (inferring gateway \
             localhost:8001 localhost:8002) or as `workers` in the configuration"
        );
    }
    let members = config
        .workers
        .iter()
        .map(|text| member(text, &config.client))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let gateway = Gateway::new(members, config.gateway.clone())?;
    node::control_runtime()?.block_on(async {
        let server = node::bind(&config.listen.gateway, &config)?;
        let _probes = gateway.start_probes().await;
        let ready = Ready { what: "gateway", detail: describe(&gateway).await };
        let draining = gateway.clone();
        node::serve_until_signal(server, gateway, &config, ready, || draining.start_draining())
            .await
    })
}

fn member(text: &str, config: &ClientConfig) -> anyhow::Result<Member> {
    let place = WorkerPlace::parse(text)
        .with_context(|| format!("worker `{text}`: expected [ID=]HOST:PORT[*WEIGHT]"))?;
    let service = RemoteWorker::new(place.address, config.clone())?;
    Ok(Member {
        id: WorkerId::from(place.id),
        address: place.address.to_owned(),
        weight: place.weight,
        service: Arc::new(service),
    })
}

async fn describe(gateway: &Arc<Gateway>) -> String {
    let Ok(NodeStatus::Gateway(status)) = gateway.status().await else {
        return String::new();
    };
    let reachable = status.workers.iter().filter(|worker| worker.reachable).count();
    let total = status.workers.len();
    format!("over {total} workers, {reachable} reachable, models: {}", node::list(&status.models))
}

/// `[ID=]HOST:PORT[*WEIGHT]`, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct WorkerPlace<'a> {
    pub(super) id: &'a str,
    pub(super) address: &'a str,
    weight: f64,
}

impl<'a> WorkerPlace<'a> {
    pub(super) fn parse(text: &'a str) -> anyhow::Result<Self> {
        let (id, rest) = match text.split_once('=') {
            Some((id, rest)) => (Some(id), rest),
            None => (None, text),
        };
        let (address, weight) = match rest.split_once('*') {
            Some((address, weight)) => (address, weight.parse().context("the weight")?),
            None => (rest, 1.0),
        };
        // People paste URLs.
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').context("the port is missing")?;
        ensure!(!host.is_empty(), "the host is missing");
        port.parse::<u16>().context("the port")?;
        let id = id.unwrap_or(address);
        ensure!(!id.is_empty(), "the id is empty");
        Ok(Self { id, address, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_by_address_id_and_weight() {
        for (text, id, address, weight) in [
            ("localhost:8001", "localhost:8001", "localhost:8001", 1.0),
            ("w1=10.0.0.1:8001*2.5", "w1", "10.0.0.1:8001", 2.5),
            ("http://localhost:8001/", "localhost:8001", "localhost:8001", 1.0),
            ("[::1]:8001", "[::1]:8001", "[::1]:8001", 1.0),
        ] {
            assert_eq!(WorkerPlace::parse(text).unwrap(), WorkerPlace { id, address, weight });
        }
        for text in ["localhost", "localhost:99999", ":8001", "=h:1", "h:1*x", ""] {
            assert!(WorkerPlace::parse(text).is_err(), "{text}");
        }
    }
}

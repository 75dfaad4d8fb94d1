//! Finds out all that the checks judge. Nothing is judged here, and nothing that fails ends it:
//! a failure is a finding.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use inferring_backend::Backend;
use inferring_backend::ort::{Device, OrtBackend, OrtConfig, StartError};
use inferring_protocol::rest::ModelDocument;
use inferring_protocol::rest::documents::{GatewayStats, WorkerHealth};
use inferring_types::{ModelMetadata, ServiceError, WorkerSpec, WorkerStatus};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::DoctorArgs;
use super::facts::{
    Configuration, Engine, Facts, GatewayState, NamedBy, Node, Port, Problem, Workers,
};
use super::system::{Listener, System, is_local, listener_at};
use super::trial::{self, Trial};
use crate::common::Common;
use crate::config::{self, Config, Overrides};
use crate::http::{Address, get};

/// Where workers usually listen, tried when nobody names them.
const USUAL_PORTS: [u16; 3] = [8001, 8002, 8003];

/// ONNX Runtime, tried on this machine.
///
/// This takes as long as the devices do, and is no work for an asynchronous task.
pub(super) fn engine(config: OrtConfig) -> Result<Engine, StartError> {
    let asked = config.device;
    // On the CPU first: a device that does not work says nothing about the library.
    let on_cpu = OrtConfig { device: Device::Cpu, ..config.clone() };
    let backend = OrtBackend::start(on_cpu)?;
    let device = OrtBackend::start(config)
        .map(|backend| backend.device())
        .map_err(|error| error.to_string());
    let has_gpu = System::of_this_machine().has_nvidia_driver();
    Ok(Engine { status: backend.status(), asked, device, has_gpu })
}

/// What the settings say about where to look.
pub(super) struct Settings {
    gateway: Address,
    /// Where no one names workers elsewhere.
    workers: Vec<Place>,
    configuration: Configuration,
}

/// A worker's address, and the name under which a gateway knows it.
type Place = (Address, Option<String>);

impl Settings {
    /// The settings in force, or the defaults beside what is wrong with them.
    pub(super) fn load(common: &Common) -> (Config, Self) {
        let loaded = config::load(common, Overrides::default());
        let read = loaded.and_then(|config| Self::read(common, config));
        read.unwrap_or_else(|error| {
            let defaults = Self::read(common, Config::default());
            let (config, mut settings) = defaults.expect("the defaults are valid");
            settings.configuration.problem = Some(format!("{error:#}"));
            (config, settings)
        })
    }

    fn read(common: &Common, config: Config) -> anyhow::Result<(Config, Self)> {
        let gateway =
            Address::of_listener(&config.listen.gateway).context("setting `listen.gateway`")?;
        let place = |text: &String| {
            let place: WorkerSpec = text.parse()?;
            Ok((place.address.parse()?, Some(place.id.to_string())))
        };
        let workers = config.workers.iter().map(place).collect::<anyhow::Result<_>>();
        let configuration = Configuration {
            file: common.config.clone(),
            problem: None,
            breaker: config.gateway.breaker.clone(),
            probe: config.gateway.probe.clone(),
        };
        let workers = workers.context("setting `workers`")?;
        Ok((config, Self { gateway, workers, configuration }))
    }
}

/// Asks the system, the gateway and the workers.
pub(super) async fn facts(
    args: DoctorArgs,
    settings: Settings,
    engine: Result<Engine, StartError>,
) -> Facts {
    let timeout = args.timeout;
    let system = System::of_this_machine();
    let processes = system.processes().map_err(|error| error.to_string());
    let look = Look { listeners: system.listeners().map_err(|e| e.to_string()), system, timeout };

    let Settings { gateway, workers, configuration } = settings;
    let gateway = look.gateway(args.gateway.unwrap_or(gateway)).await;
    let stats = gateway.state.as_ref().ok().map(|state| &state.stats);
    let (named_by, places, in_process) = worker_places(args.workers, stats, workers, &look);
    let mut nodes = JoinSet::new();
    let look = Arc::new(look);
    for (index, place) in places.into_iter().enumerate() {
        let look = look.clone();
        nodes.spawn(async move { (index, look.worker(place).await) });
    }
    let mut nodes = nodes.join_all().await;
    nodes.sort_by_key(|(index, _)| *index);
    let nodes = nodes.into_iter().map(|(_, node)| node).collect();

    let workers = Workers { named_by, nodes, in_process };
    let trial = trial(&gateway, &workers, timeout).await;
    Facts { engine, configuration, processes, gateway, workers, trial }
}

/// Which workers to look at: those named, or those that the gateway names, or those of the
/// configuration, or whoever listens on the usual ports. With how many more the gateway has in its own process.
fn worker_places(
    named: Vec<Address>,
    stats: Option<&GatewayStats>,
    configured: Vec<Place>,
    look: &Look,
) -> (NamedBy, Vec<Place>, usize) {
    if !named.is_empty() {
        let known_as = |address: &Address| {
            let workers = &stats?.workers;
            let worker = workers.iter().find(|worker| worker.address == address.to_string())?;
            Some(worker.node.clone())
        };
        let places = named.into_iter().map(|address| (address.clone(), known_as(&address)));
        return (NamedBy::Flag, places.collect(), 0);
    }
    if let Some(stats) = stats {
        let places: Vec<_> = stats
            .workers
            .iter()
            .filter_map(|worker| Some((worker.address.parse().ok()?, Some(worker.node.clone()))))
            .collect();
        let in_process = stats.workers.len() - places.len();
        return (NamedBy::Gateway, places, in_process);
    }
    if !configured.is_empty() {
        return (NamedBy::Configuration, configured, 0);
    }
    let listeners = look.listeners.as_deref().unwrap_or_default();
    let usual = USUAL_PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let listening = usual.into_iter().filter(|at| listener_at(listeners, *at).is_some());
    (NamedBy::Nobody, listening.map(|at| (Address::from(at), None)).collect(), 0)
}

/// Looks at nodes: at their ports from within this machine, and at their answers.
struct Look {
    system: System,
    listeners: Result<Vec<Listener>, String>,
    timeout: Duration,
}

impl Look {
    async fn gateway(&self, address: Address) -> Node<GatewayState> {
        let port = self.port(&address).await;
        let state = gateway_state(&address, self.timeout).await;
        Node { address, known_as: None, port, state }
    }

    async fn worker(&self, (address, known_as): Place) -> Node<WorkerStatus> {
        let port = self.port(&address).await;
        let state = worker_state(&address, self.timeout).await;
        Node { address, known_as, port, state }
    }

    async fn port(&self, address: &Address) -> Port {
        let sockets = match address.resolve(self.timeout).await {
            Ok(sockets) => sockets,
            Err(error) => return Port::Unknown(error.to_string()),
        };
        if !sockets.iter().any(|socket| is_local(socket.ip())) {
            return Port::Elsewhere;
        }
        let listeners = match &self.listeners {
            Ok(listeners) => listeners,
            Err(reason) => return Port::Unknown(format!("this system does not show it: {reason}")),
        };
        match sockets.iter().find_map(|socket| listener_at(listeners, *socket)) {
            Some(listener) => {
                Port::Listening { owner: self.system.owner(listener), user: listener.user }
            }
            None => Port::Silent,
        }
    }
}

async fn gateway_state(address: &Address, timeout: Duration) -> Result<GatewayState, Problem> {
    let health = get(address, "/health", timeout).await?;
    let stats = get(address, "/stats", timeout).await?;
    let stats: GatewayStats =
        serde_json::from_slice(stats.body()).map_err(|_| stranger(stats.status(), stats.body()))?;
    let models = get(address, "/v2/models", timeout).await?;
    let models = read_models(models.body())
        .ok_or_else(|| Problem::Stranger("its list of models cannot be read".to_owned()))?;
    Ok(GatewayState { ready: health.status() == StatusCode::OK, stats, models })
}

async fn worker_state(address: &Address, timeout: Duration) -> Result<WorkerStatus, Problem> {
    let health = get(address, "/health", timeout).await?;
    // One that is not ready answers 503 with the same document.
    let document: WorkerHealth = serde_json::from_slice(health.body())
        .map_err(|_| stranger(health.status(), health.body()))?;
    document.try_into().map_err(|error: ServiceError| Problem::Stranger(error.to_string()))
}

/// What it is that answered, as far as its answer tells.
fn stranger(status: StatusCode, body: &[u8]) -> Problem {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    Problem::Stranger(if document["role"] == "gateway" {
        "it is a gateway".to_owned()
    } else if document["node_id"].is_string() {
        "it is a worker".to_owned()
    } else {
        format!("it is no node of inferring (or of another version): it answered {status}")
    })
}

#[derive(Deserialize)]
struct ModelList {
    models: Vec<ModelDocument>,
}

fn read_models(body: &[u8]) -> Option<Vec<Arc<ModelMetadata>>> {
    let list: ModelList = serde_json::from_slice(body).ok()?;
    list.models.into_iter().map(|model| ModelMetadata::try_from(model).ok().map(Arc::new)).collect()
}

/// Sends one inference through the gateway, and then the same to every worker that has the model.
async fn trial(gateway: &Node<GatewayState>, workers: &Workers, timeout: Duration) -> Trial {
    let of_gateway = gateway.state.as_ref().ok().and_then(|state| state.models.first());
    let of_worker = || {
        let states = workers.nodes.iter().filter_map(|node| node.state.as_ref().ok());
        states.filter_map(|state| state.models.first()).map(|model| &model.metadata).next()
    };
    let Some(model) = of_gateway.or_else(of_worker) else {
        return Trial::NoModel;
    };
    let input = match trial::make_input(model) {
        Ok(input) => input,
        Err(reason) => return Trial::NoInput { reason },
    };
    // The gateway is asked first, so that no cache has the answer yet.
    let through_gateway = match of_gateway {
        Some(_) => Some(trial::ask(&gateway.address, model, &input, timeout).await),
        None => None,
    };
    let mut replies = JoinSet::new();
    for (index, node) in workers.nodes.iter().enumerate() {
        let serves = |state: &WorkerStatus| {
            state.models.iter().any(|other| {
                other.metadata.name == model.name && other.metadata.digest == model.digest
            })
        };
        if node.state.as_ref().is_ok_and(serves) {
            let (address, model, input) = (node.address.clone(), model.clone(), input.clone());
            replies
                .spawn(async move { (index, trial::ask(&address, &model, &input, timeout).await) });
        }
    }
    let mut direct: Vec<_> = workers.nodes.iter().map(|_| None).collect();
    for (index, reply) in replies.join_all().await {
        direct[index] = Some(reply);
    }
    Trial::Made { model: model.clone(), gateway: through_gateway, workers: direct }
}

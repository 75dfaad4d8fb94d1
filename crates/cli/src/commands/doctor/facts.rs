//! What was found out, before anyone judges it.

use std::path::PathBuf;
use std::sync::Arc;

use inferring_backend::ort::{Device, StartError};
use inferring_gateway::{BreakerSettings, ProbeConfig};
use inferring_protocol::rest::documents::GatewayStats;
use inferring_types::{BackendStatus, DeviceStatus, ModelMetadata, WorkerStatus};

use super::system::{Owner, Process};
use super::trial::Trial;
use crate::http::{Address, HttpError};

/// Everything that the checks judge.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) engine: Result<Engine, StartError>,
    pub(super) configuration: Configuration,
    /// The processes of this program on this machine, or why they cannot be seen.
    pub(super) processes: Result<Vec<Process>, String>,
    pub(super) gateway: Node<GatewayState>,
    pub(super) workers: Workers,
    pub(super) trial: Trial,
}

/// ONNX Runtime on this machine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) status: BackendStatus,
    pub(super) asked: Device,
    /// Where models would run here, or why not where they were asked to.
    pub(super) device: Result<DeviceStatus, String>,
    /// Whether the machine has an NVIDIA driver at work.
    pub(super) has_gpu: bool,
}

/// The settings that `inferring` would run with here.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) file: Option<PathBuf>,
    pub(super) problem: Option<String>,
    /// What this configuration says of breakers and probes; a gateway elsewhere may differ.
    pub(super) breaker: BreakerSettings,
    pub(super) probe: ProbeConfig,
}

/// A gateway or a worker at an address.
#[derive(Debug)]
pub(super) struct Node<S> {
    pub(super) address: Address,
    /// The name under which the gateway knows it.
    pub(super) known_as: Option<String>,
    pub(super) port: Port,
    pub(super) state: Result<S, Problem>,
}

/// What this machine tells of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// Somebody listens: the process where it can be seen, else the number of its user.
    Listening { owner: Option<Owner>, user: u32 },
    /// Nobody listens.
    Silent,
    /// It belongs to another machine.
    Elsewhere,
    /// This system does not show who listens, or the name leads nowhere.
    Unknown(String),
}

/// Why a node's state is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// It gave no answer.
    Http(HttpError),
    /// It answered, but not as what it should be; with what it is, as far as that can be told.
    Stranger(String),
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

/// A gateway's own account of itself.
#[derive(Debug)]
pub(super) struct GatewayState {
    pub(super) ready: bool,
    pub(super) stats: GatewayStats,
    /// The models it serves; the first is the default one.
    pub(super) models: Vec<Arc<ModelMetadata>>,
}

/// The workers that were examined.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) named_by: NamedBy,
    pub(super) nodes: Vec<Node<WorkerStatus>>,
    /// Workers that run inside the gateway's process: they have no address.
    pub(super) in_process: usize,
}

/// Who said which workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The command line.
    Flag,
    /// The configuration.
    Configuration,
    /// The gateway.
    Gateway,
    /// Nobody: the usual ports were tried.
    Nobody,
}

//! All settings, composed from those of each crate.

mod flags;
mod layers;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use inferring_backend::ort::{Device, OrtConfig};
use inferring_client::ClientConfig;
use inferring_gateway::GatewayConfig;
use inferring_server::ServerConfig;
use inferring_worker::WorkerConfig;
use serde::{Deserialize, Serialize};

pub(crate) use flags::ServingFlags;
pub(crate) use layers::{Overrides, load};

/// Everything that can be set. Each crate owns its own part and its defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Model files, models' folders and folders of models; the first model is the default one.
    pub(crate) models: Vec<PathBuf>,
    /// Workers to route to, each `[ID=]HOST:PORT[*WEIGHT]`.
    pub(crate) workers: Vec<String>,
    /// This worker's id; its address where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Addresses to listen on.
    pub(crate) listen: ListenConfig,
    /// A gateway over workers in one process.
    pub(crate) serve: ServeConfig,
    /// Listening and answering, for gateways and workers.
    pub(crate) server: ServerConfig,
    /// Routing, breakers and probes.
    pub(crate) gateway: GatewayConfig,
    /// Connections from a gateway to its workers.
    pub(crate) client: ClientConfig,
    /// Caching and batching.
    pub(crate) worker: WorkerConfig,
    /// ONNX Runtime.
    pub(crate) backend: BackendConfig,
    /// Logging.
    pub(crate) log: LogConfig,
}

/// Addresses to listen on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListenConfig {
    /// Of a gateway, and of `serve`.
    pub(crate) gateway: String,
    /// Of a worker.
    pub(crate) worker: String,
    /// Of any of them besides, for clients that expect gRPC on a port of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<String>,
    /// Of any of them besides, for operators alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<String>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            gateway: "127.0.0.1:8000".to_owned(),
            worker: "127.0.0.1:8001".to_owned(),
            grpc: None,
            admin: None,
        }
    }
}

/// A gateway over workers in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServeConfig {
    /// How many workers.
    pub(crate) workers: NonZeroUsize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { workers: NonZeroUsize::MIN }
    }
}

/// ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BackendConfig {
    /// The library, or the folder that holds it; searched for where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) library: Option<PathBuf>,
    /// Where models run.
    #[serde(with = "as_text")]
    pub(crate) device: Device,
    /// Threads that all sessions of the process share; one per core, at most 16, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) intra_op_threads: Option<NonZeroUsize>,
    /// Whether idle threads spin instead of sleeping.
    pub(crate) spinning: bool,
}

impl BackendConfig {
    pub(crate) fn ort(&self) -> OrtConfig {
        OrtConfig {
            library: self.library.clone(),
            device: self.device,
            intra_op_threads: self.intra_op_threads,
            spinning: self.spinning,
        }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// What to log.
    pub(crate) filter: String,
    /// How to write it.
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How to write logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A value by the text that names it.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

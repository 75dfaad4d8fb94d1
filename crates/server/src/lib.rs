//! Puts a service (a worker, a gateway) on the network.
//!
//! [`Server`] listens and hands each connection to one of a few threads, each with a runtime of
//! its own; [`rest`] and [`grpc`] answer requests. Which service stands behind makes no
//! difference here.

mod account;
mod client_stream;
mod clients;
mod config;
mod connection;
mod frame_budget;
mod framing;
mod grpc;
mod listener;
mod pace;
mod public;
mod rest;
mod threads;
mod upgrade;

use inferring_types::{InferenceService, ModelRepository, NodeAdmin, StatusSource};

pub use config::{RepositoryControl, ServerConfig};
pub use listener::{BindError, Server};

/// What a server puts on the network.
pub trait Node: InferenceService + StatusSource + ModelRepository {}

impl<T: InferenceService + StatusSource + ModelRepository> Node for T {}

/// What a server puts on a network that only operators reach.
pub trait AdminNode: Node + NodeAdmin {}

impl<T: Node + NodeAdmin> AdminNode for T {}

/// What the server speaks beyond the protocol, by the names that clients know.
const EXTENSIONS: [&str; 5] =
    ["binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"];

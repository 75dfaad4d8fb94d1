//! A remote [`InferenceService`](inferring_types::InferenceService): the gateway's way to a
//! worker in another process, and a client for Rust programs.
//!
//! It speaks HTTP/1.1 with Open Inference Protocol v2 in its binary form over connections of its
//! own; see `docs/adr/0002-gateway-to-worker-hop.md` for why.

mod config;
mod connection;
mod pool;
mod remote;
mod repository;

pub use config::ClientConfig;
pub use remote::RemoteWorker;

//! A remote [`InferenceService`](inferring_types::InferenceService): the gateway's way to a
//! worker in another process, and a client for Rust programs.
//!
//! It speaks Open Inference Protocol v2 in its binary form: over HTTP/1.1 on connections of its own
//! (`docs/adr/0002-gateway-to-worker-hop.md`), and where requests are small and many, in frames
//! (`docs/adr/0021-frames-on-the-hop.md`).

mod calls;
mod channel;
mod channels;
mod config;
mod connection;
mod draining;
mod places;
mod pool;
mod remote;
mod repository;
mod sync;

pub use config::ClientConfig;
pub use remote::RemoteWorker;

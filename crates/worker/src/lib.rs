//! The local [`InferenceService`](inferring_types::InferenceService): models of this process,
//! each behind a result cache, single flight and a batcher.
//!
//! A request passes `cache` (hit, join the flight of an equal request, or lead it), then the
//! model's `batcher`, from which an `instance` on its own thread takes batches. See
//! `ARCHITECTURE.md` for the whole way.

mod batchability;
mod batcher;
mod cache;
mod config;
mod instance;
mod model;
mod registry;
mod repository;
mod rows;
mod worker;

pub use batchability::{Proof, prove};
pub use config::{BatchingMode, CacheConfig, QueueConfig, WorkerConfig};
pub use registry::{ModelFile, StartError};
pub use worker::Worker;

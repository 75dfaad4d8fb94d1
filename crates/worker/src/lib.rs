//! The local [`InferenceService`](inferring_types::InferenceService): models of this process,
//! each behind a result cache, single flight and a batcher.
//!
//! A request finds its model in the `registry`'s snapshot and passes the `cache` (hit, join the
//! flight of an equal request, or lead it), then the model's `batcher`, from which an instance of
//! its `executor`, on a thread of its own, takes batches. The `loader` changes what is served,
//! beside the requests. See `ARCHITECTURE.md` for the whole way.

// Its own tests are run over the real system, and once.
#![cfg(not(all(simulated, test)))]

mod assembly;
mod batchability;
mod batcher;
mod cache;
mod config;
mod executor;
mod grid;
mod loader;
mod model;
mod party;
mod reading;
mod registry;
mod repository;
mod rows;
mod sequences;
mod settings;
mod statistics;
mod sync;
mod system;
mod threads;
mod turn;
mod watch;
mod watchdog;
mod worker;

pub use batchability::{Proof, prove, prove_by};
pub use config::{
    BatchingMode, CacheConfig, InvalidConfig, Pinning, QueueConfig, SequenceConfig, WorkerConfig,
};
pub use executor::ModelError;
pub use loader::{LoadFailure, StartError};
pub use settings::Misfit;
pub use worker::Worker;

//! The program as its users meet it: real processes, real models, real faults.
//!
//! Every test starts what it needs on ports of its own, so tests run beside each other and in
//! any order. They need ONNX Runtime, found as the program finds it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod abuse;
mod answers;
mod architecture;
mod bad_input;
mod batching;
mod deadlines;
mod drain;
mod explained;
mod faults;
mod grpc;
mod grpc_client;
mod heads;
mod in_process;
mod infer_command;
mod leaving;
mod loading;
mod lost_workers;
mod malformed;
mod misbehaving;
mod network;
mod odd_numbers;
mod pressure;
mod request_ids;
mod rest;
mod rolling_restart;
mod routing;
mod sequences;
mod service_manager;
mod several_models;
mod single_flight;
mod slow_reads;
mod soak;
mod stalled_clients;
mod start_up;
mod starting;
mod swapping;
mod unloading;
mod versions;
mod watching;
mod ways;

use inferring_integration_tests::cluster::ClusterPlan;
use inferring_integration_tests::process::Launch;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_inferring");

/// Three workers with the iris classifier and a gateway, unless the test says otherwise.
fn cluster() -> ClusterPlan {
    ClusterPlan::new(PROGRAM)
}

/// The program with this command on any free port; models and settings are the test's to add.
fn serving(command: &str) -> Launch {
    Launch::new(PROGRAM, [command, "--listen", "127.0.0.1:0"])
}

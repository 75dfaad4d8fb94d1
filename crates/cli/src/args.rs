//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{bench, config, doctor, gateway, infer, inspect, serve, worker, workers};
use crate::common::Common;

/// Serves ONNX models, on one machine or many: equal work is computed once.
#[derive(Debug, Parser)]
#[command(name = "inferring", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models: a gateway over workers, all in this process.
    Serve(serve::ServeArgs),
    /// Serve models as one worker of a cluster.
    Worker(worker::WorkerArgs),
    /// Route requests to workers.
    Gateway(gateway::GatewayArgs),
    /// Look at a gateway's workers and change them while it runs.
    Workers(workers::WorkersArgs),
    /// Ask a server for one inference, with inputs from files or the command line.
    Infer(infer::InferArgs),
    /// Put load on a gateway or a worker, and report what it measured.
    Bench(bench::BenchArgs),
    /// Examine the machine, a gateway and its workers, and say what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Tell what a model takes and gives, and whether it batches.
    Inspect(inspect::InspectArgs),
    /// Show the settings in force.
    Config(config::ConfigArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}

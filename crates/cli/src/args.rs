//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{bench, config, doctor, gateway, inspect, serve, worker};

/// Serves ONNX models, on one machine or many: equal work is computed once.
#[derive(Debug, Parser)]
#[command(name = "inferring", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Read settings from this TOML file; flags and INFERRING_* variables go before it.
    #[arg(long, global = true, env = "INFERRING_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one setting, as `worker.cache.entries=500`; `inferring config show` names them all.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where models run: auto, cpu, cuda or cuda:N.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// The ONNX Runtime library, or the folder that holds it; searched for otherwise.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as inferring_gateway=debug.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models: a gateway over workers, all in this process.
    Serve(serve::ServeArgs),
    /// Serve models as one worker of a cluster.
    Worker(worker::WorkerArgs),
    /// Route requests to workers.
    Gateway(gateway::GatewayArgs),
    /// Put load on a gateway or a worker, and report what it measured.
    Bench(bench::BenchArgs),
    /// Examine the machine, a gateway and its workers, and say what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Tell what a model takes and gives, and whether it batches.
    Inspect(inspect::InspectArgs),
    /// Show the settings in force.
    Config(config::ConfigArgs),
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}

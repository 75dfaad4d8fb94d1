//! What commands have in common on the command line.

use std::path::PathBuf;

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

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

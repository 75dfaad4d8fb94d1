//! `inferring workers`: looks at a running gateway's workers, and changes them.

mod admin;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use inferring_protocol::rest::admin::{AddWorkerRequest, WorkerDocument};
use inferring_types::WorkerSpec;

use crate::common::Common;
use crate::config::{self, Overrides};
use crate::http::Address;
use crate::node;
use admin::Admin;

/// Where the admin listener is, where nobody says so.
const USUAL_ADDRESS: &str = "127.0.0.1:8009";

#[derive(Debug, clap::Args)]
pub(crate) struct WorkersArgs {
    /// The gateway's admin listener: `listen.admin` of the configuration, else 127.0.0.1:8009.
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// How long the gateway may take for one answer.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s")]
    timeout: humantime::Duration,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: WorkersCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WorkersCommand {
    /// Print all workers, and how they are.
    List {
        /// Print the ids alone, one a line.
        #[arg(long, conflicts_with = "json")]
        ids: bool,
    },
    /// Print one worker.
    Show {
        /// Its id.
        worker: String,
    },
    /// Add a worker; it gets requests once it has answered a health check.
    Add {
        /// The worker, as `[ID=]HOST:PORT[*WEIGHT]`.
        worker: WorkerSpec,
        /// Have it get no requests until it is undrained.
        #[arg(long)]
        draining: bool,
    },
    /// Remove a worker; what it was sent, it finishes.
    Remove {
        /// Its id.
        worker: String,
    },
    /// Change a worker's share of the keys.
    Weight {
        /// Its id.
        worker: String,
        /// The share, relative to the other workers'.
        weight: f64,
    },
    /// Send a worker no new requests.
    Drain {
        /// Its id.
        worker: String,
        /// Wait, at most this long, until it has answered what it was sent.
        #[arg(long, value_name = "TIME")]
        wait: Option<humantime::Duration>,
    },
    /// Send a worker requests again.
    Undrain {
        /// Its id.
        worker: String,
        /// Wait before that, at most this long, until it answers health checks.
        #[arg(long, value_name = "TIME")]
        wait: Option<humantime::Duration>,
        /// With --wait: until a process other than this one does (`process`, as `show` has it).
        #[arg(long, value_name = "PROCESS", requires = "wait")]
        not_process: Option<String>,
    },
}

pub(crate) fn run(args: &WorkersArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let address: Address = match &args.admin {
        Some(address) => address.parse()?,
        None => {
            let configured = config::load(common, Overrides::default())?.listen.admin;
            Address::of_listener(configured.as_deref().unwrap_or(USUAL_ADDRESS))?
        }
    };
    let admin = Admin::new(address, *args.timeout);
    let text = node::control_runtime()?.block_on(carry_out(&args.command, &admin, args.json))?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Does it, and tells how things are after it.
async fn carry_out(command: &WorkersCommand, admin: &Admin, json: bool) -> anyhow::Result<String> {
    let one = |worker: &WorkerDocument| if json { pretty(worker) } else { Ok(table::one(worker)) };
    match command {
        WorkersCommand::List { ids } => {
            let workers = admin.workers().await?;
            match (json, ids) {
                (true, _) => pretty(&workers),
                (false, true) => Ok(workers.workers.iter().map(|w| w.id.clone() + "\n").collect()),
                (false, false) => Ok(table::all(&workers)),
            }
        }
        WorkersCommand::Show { worker } => one(&admin.worker(worker).await?),
        WorkersCommand::Add { worker, draining } => {
            let request = AddWorkerRequest {
                id: Some(worker.id.to_string()),
                address: worker.address.clone(),
                weight: Some(worker.weight),
                draining: *draining,
            };
            one(&admin.add(&request).await?)
        }
        WorkersCommand::Remove { worker } => one(&admin.remove(worker).await?),
        WorkersCommand::Weight { worker, weight } => one(&admin.weigh(worker, *weight).await?),
        WorkersCommand::Drain { worker, wait } => {
            let drained = admin.drain(worker).await?;
            match wait {
                None => one(&drained),
                Some(limit) => one(&admin.wait_until_idle(worker, **limit).await?),
            }
        }
        WorkersCommand::Undrain { worker, wait, not_process } => {
            if let Some(limit) = wait {
                admin.wait_until_there(worker, not_process.as_deref(), **limit).await?;
            }
            one(&admin.undrain(worker).await?)
        }
    }
}

fn pretty(document: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// How often the gateway is asked while something is waited for.
const PAUSE: Duration = Duration::from_millis(50);

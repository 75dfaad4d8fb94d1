//! `inferring doctor`: looks at everything that a first answer takes, and says what is wrong
//! and what to do.
//!
//! It runs in two steps. [`gather`] finds out all there is to know and judges nothing; then pure
//! functions over those [`facts`] judge ([`local`], [`cluster`], [`inference`]), so that every
//! verdict can be tested without a process or a socket. One cause makes one failure: what cannot
//! be judged because of it is skipped.

mod check;
mod cluster;
mod facts;
mod gather;
mod inference;
mod local;
mod report;
mod system;
#[cfg(test)]
mod tests;
mod trial;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::common::{Common, Output};
use crate::http::Address;
use crate::{log, node};
use check::Check;
use facts::Facts;
use gather::Settings;
use report::Report;

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The gateway to examine; the one at the setting `listen.gateway` where none is named.
    #[arg(long, value_name = "URL")]
    gateway: Option<Address>,
    /// The workers to examine; those that the gateway names where none are named here.
    #[arg(long, value_name = "URL", num_args = 1..)]
    workers: Vec<Address>,
    /// How long each answer may take.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Examines, prints, and fails where anything failed.
pub(crate) fn run(args: DoctorArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let output = args.output;
    let (config, settings) = Settings::load(common);
    if common.log.is_some() {
        // What others log as warnings is among the findings.
        log::start(&config.log)?;
    }
    let engine = gather::engine(config.backend.ort());
    let runtime = node::control_runtime()?;
    let facts = runtime.block_on(gather::facts(args, settings, engine));
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();

    let report = Report::new(judge(&facts));
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => {
            let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            write!(out, "{}", report.as_text(colour))?;
        }
        Output::Json => writeln!(out, "{}", report.as_json()?)?,
    }
    Ok(if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(facts: &Facts) -> Vec<Check> {
    [local::checks(facts), cluster::checks(facts), inference::checks(facts)].concat()
}

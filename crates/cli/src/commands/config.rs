//! `inferring config`: shows the settings in force.

use std::process::ExitCode;

use crate::common::Common;
use crate::config::{self, Overrides};

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Print every setting in force, as a TOML file that would set it.
    Show,
}

pub(crate) fn run(args: &ConfigArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Show = args.command;
    let config = config::load(common, Overrides::default())?;
    print!("{}", toml::to_string_pretty(&config)?);
    Ok(ExitCode::SUCCESS)
}

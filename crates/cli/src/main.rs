//! The `inferring` program.

mod args;
mod commands;
mod common;
mod config;
mod descriptors;
mod http;
mod huge_pages;
mod inherited;
mod listening;
mod log;
mod node;
mod remote;
mod supervisor;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    // Before any thread exists: the environment is read-only from here on.
    inferring_backend::ort::disable_telemetry();
    let args = Args::parse();
    if matches!(args.command, Command::Serve(_) | Command::Worker(_)) {
        huge_pages::ask_for();
    }
    descriptors::raise_limit();
    let outcome = match args.command {
        Command::Serve(serve) => commands::serve::run(serve, &args.common),
        Command::Worker(worker) => commands::worker::run(worker, &args.common),
        Command::Gateway(gateway) => commands::gateway::run(gateway, &args.common),
        Command::Workers(workers) => commands::workers::run(&workers, &args.common),
        Command::Infer(infer) => commands::infer::run(infer),
        Command::Bench(bench) => commands::bench::run(bench),
        Command::Doctor(doctor) => commands::doctor::run(doctor, &args.common),
        Command::Inspect(inspect) => commands::inspect::run(&inspect, &args.common),
        Command::Config(command) => commands::config::run(&command, &args.common),
    };
    outcome.unwrap_or_else(|error| {
        // One paragraph: what was attempted, what went wrong, what to do.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

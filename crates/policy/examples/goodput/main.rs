//! Prints how the scheduler does beside other rules of batching: many requests for models of very
//! different costs, on a virtual clock.
//!
//! ```text
//! cargo run --release -p inferring-policy --example goodput -- [cases] [REQUESTS [SEEDS]]
//! ```
//!
//! With `cases` it prints every case as CSV instead of a summary. What came of it is kept in
//! `bench/batching-simulation`.

mod report;
mod simulation;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let as_csv = arguments.next_if(|argument| argument == "cases").is_some();
    let numbers: Result<Vec<u64>, _> = arguments.map(|argument| argument.parse()).collect();
    let (requests, seeds) = match numbers.as_deref() {
        Ok([]) => (20_000, 3),
        Ok(&[requests]) => (requests, 3),
        Ok(&[requests, seeds]) => (requests, seeds),
        _ => {
            eprintln!("usage: goodput [cases] [REQUESTS [SEEDS]]");
            return ExitCode::FAILURE;
        }
    };
    let loads = [0.2, 0.5, 0.95, 2.0];
    if as_csv {
        report::cases(&loads, requests as usize, seeds);
    } else {
        report::summary(&loads, requests as usize, seeds);
    }
    ExitCode::SUCCESS
}

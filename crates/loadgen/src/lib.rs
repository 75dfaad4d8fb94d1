//! Load for an inference server, open or closed loop, and an honest report of what it measured.
//!
//! [`bench()`] is a whole benchmark: it learns the model's input from the server, makes inputs
//! that fit ([`Workload`]), sends them by a [`Schedule`], and gives a [`Report`].
//!
//! A generator distorts what it measures in two ways. It may wait for a slow server instead of
//! sending what is due, and so leave the worst moments out: an open loop counts every latency
//! from the intended start (see `schedule`). And it takes processor time from a server on the
//! same machine: bodies are encoded ahead, answers are read only as far as they are counted, and
//! what the generator took is part of the report.

mod alarm;
mod answer;
mod bench;
mod cache_test;
mod connection;
mod failure;
mod fetch;
mod observe;
mod progress;
pub mod report;
mod run;
mod schedule;
mod tally;
mod target;
#[cfg(test)]
mod test_server;
mod workload;

pub use bench::{BenchConfig, BenchError, Test, bench};
pub use progress::{Phase, Progress, ProgressBar};
pub use report::Report;
pub use run::Interrupt;
pub use schedule::{Limit, Schedule};
pub use target::{InvalidTarget, Target};
pub use workload::{Form, Workload, WorkloadConfig, WorkloadError, WorkloadInput};

//! Starts real processes of the program, asks them, breaks them, and watches what clients see.
//!
//! The tests themselves are in `tests/it`. They know nothing of the system's inside: processes
//! are started as a user starts them, asked by an HTTP client from elsewhere, and ended by
//! signals. What a test claims is therefore what a user gets.
//!
//! Nothing here sleeps and hopes. Whatever takes its time is waited for under a deadline that
//! only a defect reaches; when it passes, the test fails and shows what the processes wrote.
#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

pub mod client;
pub mod cluster;
pub mod faults;
pub mod folder;
pub mod front;
pub mod held;
pub mod http2;
pub mod load;
pub mod models;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod scaled;
pub mod smuggling;
pub mod v2;
pub mod waiting;

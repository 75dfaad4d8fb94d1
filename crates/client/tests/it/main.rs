//! The client against a worker that is a bare socket: what it sends is said to the byte, and so
//! is when it closes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod channels;
mod connections;
mod faults;
mod fixture;
mod repository;

//! The worker through its public face, over an engine that does as the tests tell it.
//!
//! No test waits for time to pass: the engine is held at its door while requests come, and a
//! request has come once its future was polled.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod batches;
mod chaos;
mod equality;
mod failures;
mod fixture;
mod folder;
mod heads;
mod interruption;
mod lifecycle;
mod loading;
mod overload;
mod padding;
mod per_model;
mod proof;
mod rows;
mod sequences;
mod sharing;
mod splitting;
mod starting;
mod swapping;
mod watching;

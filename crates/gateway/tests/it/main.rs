//! The gateway through its public face, over workers that do as the tests tell them.
//!
//! The runtime's clock stands still and jumps when all wait: seconds pass at once, and a test
//! says to the millisecond when something happens.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod admission;
mod breakers;
mod ejection;
mod fake_worker;
mod fixture;
mod flights;
mod hedges;
mod load;
mod membership;
mod presence;
mod repository;
mod routing;
mod sequences;
mod time;
mod tries;
